"""SENDMSG: datagrams in their order, each with a result of its own; a full socket is waited for."""

from __future__ import annotations

import errno
import os
import random
import resource
import socket
import struct

import pytest
from uringloop.driver._engine import lib

from .engine_harness import HOSTS, LIMIT_S, UNTOUCHED, abstract_name, nobody, sockaddr

UDP_LARGEST = 65_507  # bytes of one datagram over IPv4


def cpu_s():
    usage = resource.getrusage(resource.RUSAGE_THREAD)
    return usage.ru_utime + usage.ru_stime


def test_datagrams_go_to_their_receivers(sized_engine, new_socket):
    ours = new_socket()
    receivers = [new_socket() for _ in range(5)]
    sending = sized_engine.send_messages(
        ours.fileno(),
        [(b"to %d" % i, sockaddr(sock.getsockname())) for i, sock in enumerate(receivers)],
    )
    sized_engine.finish(sending)
    assert sending.result == 5
    assert sending.sent == [4] * 5
    for index, sock in enumerate(receivers):
        assert sock.recvfrom(100) == (b"to %d" % index, ours.getsockname())
    assert sized_engine.shared.counters.bytes_sent == 20


@pytest.mark.parametrize("family", HOSTS)
def test_a_connected_socket_needs_no_names(engine, new_socket, family):
    ours, peer = new_socket(family), new_socket(family)
    ours.connect(peer.getsockname())
    payloads = [b"one", b"", bytes(9000)]
    sending = engine.send_messages(ours.fileno(), [(payload, None) for payload in payloads])
    engine.finish(sending)
    assert sending.result == 3
    assert sending.sent == [3, 0, 9000]
    assert [peer.recv(10_000) for _ in payloads] == payloads


def test_as_many_datagrams_as_one_command_takes_arrive_in_order(sized_engine, udp_pair):
    ours, peer = udp_pair
    count = lib.UL_MESSAGES_MAX
    name = sockaddr(peer.getsockname())
    sending = sized_engine.send_messages(
        ours.fileno(), [(struct.pack("!I", index), name) for index in range(count)]
    )
    sized_engine.finish(sending)
    assert sending.result == count
    assert [struct.unpack("!I", peer.recv(100))[0] for _ in range(count)] == list(range(count))


@pytest.mark.parametrize("count", [0, 1025])
def test_too_few_and_too_many_datagrams_are_refused(engine, udp_pair, count):
    ours, peer = udp_pair
    name = sockaddr(peer.getsockname())
    sending = engine.send_messages(ours.fileno(), [(b"x", name)] * count)
    engine.finish(sending)
    assert sending.result == -errno.EINVAL
    assert set(sending.sent) <= {UNTOUCHED}


@pytest.mark.parametrize("is_connected", [False, True])
def test_an_oversize_datagram_is_noted_and_the_next_goes(engine, udp_pair, is_connected):
    """Row 33."""
    ours, peer = udp_pair
    ours.connect(peer.getsockname()) if is_connected else None
    name = None if is_connected else sockaddr(peer.getsockname())
    payloads = [b"before", bytes(UDP_LARGEST + 1), b"", bytes(UDP_LARGEST + 1), b"after"]
    sending = engine.send_messages(ours.fileno(), [(payload, name) for payload in payloads])
    engine.finish(sending)
    assert sending.result == 5
    assert sending.sent == [6, -errno.EMSGSIZE, 0, -errno.EMSGSIZE, 5]
    assert [peer.recv(100) for _ in range(3)] == [b"before", b"", b"after"]


def test_the_largest_datagram_goes_whole(engine, udp_pair):
    ours, peer = udp_pair
    payload = random.Random(4).randbytes(UDP_LARGEST)
    sending = engine.send_messages(ours.fileno(), [(payload, sockaddr(peer.getsockname()))])
    engine.finish(sending)
    assert sending.sent == [UDP_LARGEST]
    assert peer.recv(1 << 17) == payload


def test_names_that_do_not_fit_are_noted_one_by_one(engine, new_socket):
    ours, peer = new_socket(), new_socket()
    names = [
        sockaddr(peer.getsockname()),
        sockaddr(("::1", 9)),
        None,
        b"\1",
        sockaddr(peer.getsockname()),
    ]
    sending = engine.send_messages(ours.fileno(), [(b"x", name) for name in names])
    engine.finish(sending)
    assert sending.result == 5
    assert sending.sent == [
        1,
        -errno.EAFNOSUPPORT,
        -errno.EDESTADDRREQ,
        -errno.EINVAL,
        1,
    ]
    assert (peer.recv(10), peer.recv(10)) == (b"x", b"x")


def test_every_error_of_a_connected_socket_is_noted(engine, new_socket):
    """Row 33: each datagram to nobody makes an error that the next one finds, and is lost
    by. On the loopback the error is there at once."""
    ours = new_socket()
    ours.connect(nobody(new_socket))
    sending = engine.send_messages(ours.fileno(), [(b"x", None)] * 6)
    engine.finish(sending)
    assert sending.sent == [1, -errno.ECONNREFUSED] * 3
    receiving = engine.receive_messages(ours.fileno())
    engine.turn()
    assert not receiving.is_done


@pytest.mark.parametrize("is_abstract", [False, True])
def test_unix_datagrams_find_their_receiver(engine, new_socket, tmp_path, is_abstract):
    path = abstract_name() if is_abstract else str(tmp_path / "receiver")
    ours, peer = new_socket(socket.AF_UNIX), new_socket(socket.AF_UNIX, path)
    missing = sockaddr(str(tmp_path / "missing"))
    datagrams = [(b"lost", missing), (b"hello", sockaddr(path))]
    sending = engine.send_messages(ours.fileno(), datagrams)
    engine.finish(sending)
    assert sending.sent == [-errno.ENOENT, 5]
    assert peer.recv(100) == b"hello"


@pytest.fixture(params=[True, False], ids=["connected", "unconnected"])
def narrow_unix(request, new_socket, tmp_path):
    """A Unix datagram socket, a receiver whose queue holds few, and the name to send to."""
    path = str(tmp_path / "receiver")
    peer, ours = new_socket(socket.AF_UNIX, path), new_socket(socket.AF_UNIX)
    if request.param:
        ours.connect(path)
    return ours, peer, None if request.param else sockaddr(path)


def fill_queue(ours, peer):
    """Sends until the receiver's queue is full; how many it took."""
    count = 0
    while True:
        try:
            ours.sendto(b"filler", peer.getsockname())
        except BlockingIOError:
            return count
        count += 1


def test_a_thousand_datagrams_through_a_full_queue_keep_their_order(sized_engine, narrow_unix):
    """The receiver reads now and then. poll(2) tells a connected sender when there is
    room, and calls an unconnected one writable all the time."""
    ours, peer, name = narrow_unix
    sending = sized_engine.send_messages(
        ours.fileno(), [(struct.pack("!I", index), name) for index in range(1000)]
    )
    received = []

    def read_some():
        for _ in range(7):
            try:
                received.append(struct.unpack("!I", peer.recv(100))[0])
            except BlockingIOError:
                break
        return sending.is_done

    sized_engine.run_until(read_some, look_every_s=0.001)
    assert sending.result == 1000
    assert sending.sent == [4] * 1000
    while len(received) < 1000:
        received.append(struct.unpack("!I", peer.recv(100))[0])
    assert received == list(range(1000))


def test_a_full_receiver_is_waited_for_without_spinning(engine, narrow_unix, in_thread):
    ours, peer, name = narrow_unix
    fillers = fill_queue(ours, peer)
    sending = engine.send_messages(ours.fileno(), [(b"at last", name)])
    engine.turn()
    before_s = cpu_s()
    assert engine.turn(0.3) == []
    assert cpu_s() - before_s < 0.1
    assert not sending.is_done
    reading = in_thread(lambda: [peer.recv(100) for _ in range(fillers)])
    engine.finish(sending, limit_s=2)
    reading.result(LIMIT_S)
    assert sending.sent == [7]
    assert peer.recv(100) == b"at last"


def test_a_waiting_datagram_is_cancelled_and_those_before_it_went(sized_engine, narrow_unix):
    ours, peer, name = narrow_unix
    sending = sized_engine.send_messages(ours.fileno(), [(b"x", name)] * 1000)
    sized_engine.turn()
    sized_engine.turn()
    sized_engine.cancel(sending)
    sized_engine.finish(sending)
    assert 0 < sending.result < 1000
    assert sending.sent[: sending.result] == [1] * sending.result
    assert set(sending.sent[sending.result :]) == {UNTOUCHED}
    for _ in range(sending.result):
        assert peer.recv(100) == b"x"
    with pytest.raises(BlockingIOError):
        peer.recv(100)


def test_a_send_of_which_nothing_went_is_cancelled(engine, narrow_unix):
    """Row 9: in the turn that takes it, too."""
    ours, peer, name = narrow_unix
    fill_queue(ours, peer)
    early = engine.send_messages(ours.fileno(), [(b"x", name)])
    engine.cancel(early)
    engine.finish(early)
    late = engine.send_messages(ours.fileno(), [(b"x", name)])
    engine.turn()
    engine.turn(0.01)
    engine.cancel(late)
    engine.finish(late)
    assert (early.result, late.result) == (-errno.ECANCELED, -errno.ECANCELED)
    assert early.sent == late.sent == [UNTOUCHED]


def test_a_receiver_that_closes_while_it_is_waited_for_is_an_error_of_each(engine, narrow_unix):
    ours, peer, name = narrow_unix
    fill_queue(ours, peer)
    sending = engine.send_messages(ours.fileno(), [(b"x", name)] * 3)
    engine.turn()
    peer.close()
    engine.finish(sending)
    assert sending.result == 3
    assert set(sending.sent) <= {-errno.ECONNREFUSED, -errno.ECONNRESET, -errno.ENOTCONN}


def test_a_narrow_seqpacket_socket_is_waited_for(sized_engine, message_pair, in_thread):
    ours, peer = message_pair
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    payloads = [random.Random(i).randbytes(1 + 37 * i % 1500) for i in range(500)]
    reading = in_thread(lambda: [peer.recv(4096) for _ in payloads])
    sending = sized_engine.send_messages(ours.fileno(), [(payload, None) for payload in payloads])
    sized_engine.finish(sending)
    assert sending.sent == [len(payload) for payload in payloads]
    assert reading.result(LIMIT_S) == payloads


def test_both_directions_of_one_socket_at_once(sized_engine, udp_pair):
    ours, peer = udp_pair
    name = sockaddr(peer.getsockname())
    receiving = sized_engine.receive_messages(ours.fileno())
    for count in range(1, 50):
        sending = sized_engine.send_messages(ours.fileno(), [(b"ping", name)])
        sized_engine.finish(sending)
        assert peer.recv(100) == b"ping"
        peer.sendto(b"pong", ours.getsockname())
        sized_engine.run_until(lambda count=count: len(receiving.messages) == count)


def test_hundreds_of_sends_in_one_turn_all_answer(sized_engine, udp_pair, new_socket):
    _, peer = udp_pair
    name = sockaddr(peer.getsockname())
    senders = [new_socket() for _ in range(200)]
    sends = [sized_engine.send_messages(sock.fileno(), [(b"x", name)] * 2) for sock in senders]
    sized_engine.finish(*sends)
    assert [sending.result for sending in sends] == [2] * 200
    assert [peer.recv(100) for _ in range(400)] == [b"x"] * 400


@pytest.mark.parametrize("fd", [-1, 19_999, 2**31 - 1])
def test_closed_descriptors_answer_ebadf(engine, fd):
    sending = engine.send_messages(fd, [(b"x", None)] * 3)
    engine.finish(sending)
    assert sending.result == -errno.EBADF
    assert sending.sent == [UNTOUCHED] * 3


def test_files_and_pipes_answer_enotsock(engine, resources, tmp_path):
    reader, writer = os.pipe()
    file = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    for fd in (reader, writer, file):
        resources.callback(os.close, fd)
    both = [engine.send_messages(fd, [(b"x", None)]) for fd in (writer, file)]
    engine.finish(*both)
    assert [sending.result for sending in both] == [-errno.ENOTSOCK] * 2


def test_a_stream_works_too(sized_engine, pair):
    ours, peer = pair
    sending = sized_engine.send_messages(ours.fileno(), [(b"one", None), (b"two", None)])
    sized_engine.finish(sending)
    assert sending.sent == [3, 3]
    assert peer.recv(100) == b"onetwo"
