"""RECVMSG: messages keep their borders, their order, their senders and their errors."""

from __future__ import annotations

import array
import errno
import os
import random
import socket

import pytest
from uringloop.driver._engine import lib

from .conftest import operation_kinds
from .engine_harness import HOSTS, LIMIT_S, abstract_name, nobody, sockaddr

pytestmark = operation_kinds(
    "buffer_ring", "incremental_buffers", "multishot_recvmsg", reason="how a message is received"
)

KIB = 1 << 10
UDP_LARGEST = 65_507  # bytes of one datagram over IPv4


@pytest.mark.parametrize("family", HOSTS)
def test_datagrams_come_with_their_senders(sized_engine, new_socket, family):
    ours = new_socket(family)
    senders = [new_socket(family) for _ in range(3)]
    receiving = sized_engine.receive_messages(ours.fileno())
    sized_engine.turn()
    for index, sender in enumerate(senders):
        sender.sendto(b"from %d" % index, ours.getsockname())
    sized_engine.run_until(lambda: len(receiving.messages) == 3)
    assert receiving.messages == [b"from 0", b"from 1", b"from 2"]
    for event, sender in zip(receiving.events, senders, strict=True):
        assert event.header.name == sockaddr(sender.getsockname())
        assert event.header.name_length == len(event.header.name)
        assert event.header.payload_length == event.result == 6
        assert event.header.control_length == 0
        assert not event.header.flags & socket.MSG_TRUNC
    assert sized_engine.shared.counters.bytes_received == 18


@pytest.mark.parametrize("kind", ["unnamed", "in the file system", "abstract"])
def test_unix_datagrams_come_with_their_senders(engine, new_socket, tmp_path, kind):
    path = str(tmp_path / "receiver")
    own = {"in the file system": str(tmp_path / "sender"), "abstract": abstract_name()}.get(kind)
    ours, sender = new_socket(socket.AF_UNIX, path), new_socket(socket.AF_UNIX, own)
    receiving = engine.receive_messages(ours.fileno())
    sender.sendto(b"hello", path)
    engine.run_until(lambda: bool(receiving.messages))
    assert receiving.messages == [b"hello"]
    assert receiving.events[0].header.name == (sockaddr(own) if own else b"")


def test_empty_datagrams_are_events(sized_engine, udp_pair):
    """Row 33."""
    ours, sender = udp_pair
    receiving = sized_engine.receive_messages(ours.fileno())
    for payload in (b"", b"x", b"", b""):
        sender.sendto(payload, ours.getsockname())
    sized_engine.run_until(lambda: len(receiving.messages) == 4)
    assert receiving.messages == [b"", b"x", b"", b""]
    assert all(event.header.name == sockaddr(sender.getsockname()) for event in receiving.events)
    assert not receiving.is_done


@pytest.mark.parametrize("size", [1, 1903, 1904, 1905, 2048, 9000, UDP_LARGEST])
def test_payloads_of_all_sizes_come_whole(sized_engine, udp_pair, size):
    ours, sender = udp_pair
    payload = random.Random(size).randbytes(size)
    receiving = sized_engine.receive_messages(ours.fileno())
    for _ in range(3):
        sender.sendto(payload, ours.getsockname())
    sized_engine.run_until(lambda: len(receiving.messages) == 3)
    assert receiving.messages == [payload] * 3
    assert {event.header.flags & socket.MSG_TRUNC for event in receiving.events} == {0}


def test_the_longest_payload_comes_whole_and_a_longer_one_is_cut_off(sized_engine, message_pair):
    ours, peer = message_pair
    longest = random.Random(1).randbytes(lib.UL_MESSAGE_BYTES)
    receiving = sized_engine.receive_messages(ours.fileno())
    for payload in (longest, longest + b"x", b"next"):
        peer.sendall(payload)
    sized_engine.run_until(lambda: len(receiving.messages) == 3)
    assert receiving.messages == [longest, longest, b"next"]
    truncated = [bool(event.header.flags & socket.MSG_TRUNC) for event in receiving.events]
    assert truncated == [False, True, False]


@pytest.mark.parametrize("length", [1, 100, 1904, 3000])
def test_what_is_longer_than_the_limit_is_cut_off(sized_engine, udp_pair, length):
    ours, sender = udp_pair
    payload = random.Random(2).randbytes(length + 1)
    receiving = sized_engine.receive_messages(ours.fileno(), length)
    sender.sendto(payload, ours.getsockname())
    sender.sendto(payload[:length], ours.getsockname())
    sized_engine.run_until(lambda: len(receiving.messages) == 2)
    assert receiving.messages == [payload[:length]] * 2
    truncated = [bool(event.header.flags & socket.MSG_TRUNC) for event in receiving.events]
    assert truncated == [True, False]


def test_a_mixture_of_sizes_comes_in_order(sized_engine, message_pair, in_thread):
    """Rows 16, 19: short ones and long ones, more than there is room for in one turn."""
    ours, peer = message_pair
    choose = random.Random(3)
    sizes = [choose.choice([1, 5, 1500, 1904, 2000, 70_000]) for _ in range(400)]
    payloads = [choose.randbytes(size) for size in sizes]
    writing = in_thread(lambda: [peer.sendall(payload) for payload in payloads])
    receiving = sized_engine.receive_messages(ours.fileno())
    sized_engine.run_until(lambda: len(receiving.events) == len(payloads))
    writing.result(LIMIT_S)
    assert receiving.messages == payloads


def test_one_message_is_the_final_event_and_the_next_stays(sized_engine, udp_pair):
    ours, sender = udp_pair
    for payload in (b"first", b"", b"third"):
        sender.sendto(payload, ours.getsockname())
    for expected in (b"first", b""):
        receiving = sized_engine.receive_messages(ours.fileno(), flags=lib.UL_ONCE)
        sized_engine.finish(receiving)
        assert receiving.messages == [expected]
        assert receiving.result == len(expected)
        assert receiving.final.header.name == sockaddr(sender.getsockname())
    assert ours.recv(100) == b"third"
    sized_engine.turn()
    assert sized_engine.shared.buffers_held == 0


def test_an_icmp_error_ends_the_receive_which_may_start_again(engine, new_socket):
    """Row 33: an earlier send found nobody there."""
    ours = new_socket()
    ours.connect(nobody(new_socket))
    receiving = engine.receive_messages(ours.fileno())
    engine.turn()
    ours.send(b"to nobody")
    engine.finish(receiving)
    assert receiving.result == -errno.ECONNREFUSED
    again = engine.receive_messages(ours.fileno())
    somebody = new_socket()
    ours.connect(somebody.getsockname())
    somebody.sendto(b"hello", ours.getsockname())
    engine.run_until(lambda: again.messages == [b"hello"])
    assert not again.is_done


def test_an_error_from_before_the_command_ends_it(engine, new_socket):
    ours = new_socket()
    ours.connect(nobody(new_socket))
    ours.send(b"to nobody")
    receiving = engine.receive_messages(ours.fileno(), flags=lib.UL_ONCE)
    engine.finish(receiving)
    assert receiving.result == -errno.ECONNREFUSED


def test_receives_cancelled_at_random_lose_no_message(sized_engine, udp_pair):
    """Row 8: what the kernel handed over is delivered, the rest is there for the next."""
    ours, sender = udp_pair
    choose = random.Random(8)
    received, sent = [], []
    for index in range(500):
        flags = lib.UL_ONCE if choose.random() < 0.3 else 0
        receiving = sized_engine.receive_messages(ours.fileno(), flags=flags)
        if choose.random() < 0.5:
            sized_engine.turn()
        for part in range(choose.randrange(3)):
            sent.append(b"%d.%d" % (index, part))
            sender.sendto(sent[-1], ours.getsockname())
        if choose.random() < 0.5:
            sized_engine.turn()
        sized_engine.cancel(receiving)
        sized_engine.finish(receiving)
        received += receiving.messages
        assert receiving.result == -errno.ECANCELED or (flags and receiving.result >= 0)
    last = sized_engine.receive_messages(ours.fileno())
    sized_engine.run_until(lambda: len(received) + len(last.messages) == len(sent))
    assert received + last.messages == sent


def test_hundreds_of_sockets_receive_in_one_turn(sized_engine, new_socket):
    ours = [new_socket(buffer_bytes=4 * KIB) for _ in range(200)]
    sender = new_socket()
    receives = [sized_engine.receive_messages(sock.fileno()) for sock in ours]
    for index, sock in enumerate(ours):
        sender.sendto(b"%d" % index, sock.getsockname())
    sized_engine.run_until(lambda: all(receiving.events for receiving in receives))
    assert [receiving.messages for receiving in receives] == [[b"%d" % i] for i in range(200)]


def test_a_flooded_socket_leaves_their_share_to_others(sized_engine, udp_pair, pair):
    """Row 22: the flood is refilled before each turn, and the answer is there in a few."""
    flooded, sender = udp_pair
    ours, peer = pair
    flood = sized_engine.receive_messages(flooded.fileno())
    quiet = sized_engine.receive(ours.fileno())
    for count in range(1, 30):
        peer.sendall(b"x")
        turns = 0
        while len(quiet.data) < count:
            for _ in range(40):
                sender.sendto(b"flood", flooded.getsockname())
            sized_engine.turn(LIMIT_S)
            turns += 1
            assert turns < 20
    assert set(flood.messages) == {b"flood"}


def test_descriptors_that_come_with_a_message_are_closed(engine, message_pair):
    """Nobody asked for them; the fixture counts descriptors."""
    ours, peer = message_pair
    receiving = engine.receive_messages(ours.fileno())
    rights = array.array("i", [peer.fileno()])
    peer.sendmsg([b"with rights"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
    engine.run_until(lambda: bool(receiving.messages))
    assert receiving.messages == [b"with rights"]
    assert receiving.events[0].header.control_length == 0


def test_an_end_of_file_is_an_empty_message(engine, message_pair):
    ours, peer = message_pair
    peer.sendall(b"last")
    peer.close()
    receiving = engine.receive_messages(ours.fileno())
    engine.run_until(lambda: len(receiving.messages) >= 2)
    assert receiving.messages[:2] == [b"last", b""]
    single = engine.receive_messages(ours.fileno(), flags=lib.UL_ONCE)
    engine.cancel(receiving)
    engine.finish(receiving, single)
    assert single.result == 0


def test_a_blocking_datagram_socket_does_not_block_the_turn(engine, udp_pair):
    ours, sender = udp_pair
    ours.setblocking(True)
    receiving = engine.receive_messages(ours.fileno())
    engine.turn()
    sender.sendto(b"hello", ours.getsockname())
    engine.run_until(lambda: receiving.messages == [b"hello"])
    assert os.get_blocking(ours.fileno())


# What is not such a socket


@pytest.mark.parametrize("fd", [-1, 19_999, 2**31 - 1])
def test_closed_descriptors_answer_ebadf(engine, fd):
    operations = [
        engine.receive_messages(fd),
        engine.receive_messages(fd, flags=lib.UL_ONCE),
    ]
    engine.finish(*operations)
    assert [operation.result for operation in operations] == [-errno.EBADF] * 2


def test_files_and_pipes_answer_enotsock(engine, resources, tmp_path):
    reader, writer = os.pipe()
    file = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    for fd in (reader, writer, file):
        resources.callback(os.close, fd)
    os.write(writer, b"readable")
    operations = [
        engine.receive_messages(reader),
        engine.receive_messages(file),
    ]
    engine.finish(*operations)
    assert [operation.result for operation in operations] == [-errno.ENOTSOCK] * 2


def test_a_stream_works_too(sized_engine, pair):
    ours, peer = pair
    receiving = sized_engine.receive_messages(ours.fileno())
    peer.sendall(b"stream")
    sized_engine.run_until(lambda: receiving.data == b"stream")
