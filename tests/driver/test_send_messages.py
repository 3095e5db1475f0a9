"""SENDMSG: a datagram to its receiver, or the error of it; a full socket is waited for."""

from __future__ import annotations

import errno
import os
import random
import resource
import socket
import struct

import pytest

from .conftest import operation_kinds
from .engine_harness import HOSTS, LIMIT_S, abstract_name, nobody, sockaddr

pytestmark = operation_kinds(reason="sendto(2) needs readiness, and no feature")

UDP_LARGEST = 65_507  # bytes of one datagram over IPv4


def cpu_s():
    usage = resource.getrusage(resource.RUSAGE_THREAD)
    return usage.ru_utime + usage.ru_stime


def send(engine, sock, payload, receiver=None):
    """The answer to one datagram."""
    sending = engine.send_message(sock.fileno(), payload, receiver)
    engine.finish(sending)
    return sending.result


def test_a_datagram_goes_to_its_receiver(engine, new_socket):
    ours = new_socket()
    receivers = [new_socket() for _ in range(5)]
    for index, sock in enumerate(receivers):
        assert send(engine, ours, b"to %d" % index, sockaddr(sock.getsockname())) == 4
    for index, sock in enumerate(receivers):
        assert sock.recvfrom(100) == (b"to %d" % index, ours.getsockname())
    assert engine.shared.counters.bytes_sent == 20


@pytest.mark.parametrize("family", HOSTS)
def test_a_connected_socket_needs_no_name(engine, new_socket, family):
    ours, peer = new_socket(family), new_socket(family)
    ours.connect(peer.getsockname())
    payloads = [b"one", b"", bytes(9000)]
    assert [send(engine, ours, payload) for payload in payloads] == [3, 0, 9000]
    assert [peer.recv(10_000) for _ in payloads] == payloads


@pytest.mark.parametrize("is_connected", [False, True])
def test_an_oversize_datagram_is_an_error_and_the_next_goes(engine, udp_pair, is_connected):
    """Row 33."""
    ours, peer = udp_pair
    ours.connect(peer.getsockname()) if is_connected else None
    name = None if is_connected else sockaddr(peer.getsockname())
    assert send(engine, ours, bytes(UDP_LARGEST + 1), name) == -errno.EMSGSIZE
    assert send(engine, ours, b"after", name) == 5
    assert peer.recv(100) == b"after"


def test_the_largest_datagram_goes_whole(engine, udp_pair):
    ours, peer = udp_pair
    payload = random.Random(4).randbytes(UDP_LARGEST)
    assert send(engine, ours, payload, sockaddr(peer.getsockname())) == UDP_LARGEST
    assert peer.recv(1 << 17) == payload


@pytest.mark.parametrize(
    ("name", "error"),
    [
        (sockaddr(("::1", 9)), errno.EAFNOSUPPORT),
        (None, errno.EDESTADDRREQ),
        (b"\1", errno.EINVAL),
    ],
)
def test_a_name_that_does_not_fit_is_an_error(engine, new_socket, name, error):
    assert send(engine, new_socket(), b"x", name) == -error


def test_every_error_of_a_connected_socket_is_told(engine, new_socket):
    """Row 33: each datagram to nobody makes an error that the next one finds, and is lost
    by. On the loopback the error is there at once."""
    ours = new_socket()
    ours.connect(nobody(new_socket))
    assert [send(engine, ours, b"x") for _ in range(6)] == [1, -errno.ECONNREFUSED] * 3
    receiving = engine.receive_messages(ours.fileno())
    engine.turn()
    assert not receiving.is_done


@pytest.mark.parametrize("is_abstract", [False, True])
def test_a_unix_datagram_finds_its_receiver(engine, new_socket, tmp_path, is_abstract):
    path = abstract_name() if is_abstract else str(tmp_path / "receiver")
    ours, peer = new_socket(socket.AF_UNIX), new_socket(socket.AF_UNIX, path)
    missing = sockaddr(str(tmp_path / "missing"))
    assert send(engine, ours, b"lost", missing) == -errno.ENOENT
    assert send(engine, ours, b"hello", sockaddr(path)) == 5
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


def test_datagrams_through_a_full_queue_keep_their_order(engine, narrow_unix, in_thread):
    """poll(2) tells a connected sender when there is room, and calls an unconnected one
    writable all the time."""
    ours, peer, name = narrow_unix
    peer.settimeout(LIMIT_S)
    reading = in_thread(lambda: [struct.unpack("!I", peer.recv(100))[0] for _ in range(300)])
    assert {send(engine, ours, struct.pack("!I", i), name) for i in range(300)} == {4}
    assert reading.result(LIMIT_S) == list(range(300))


def test_a_full_receiver_is_waited_for_without_spinning(engine, narrow_unix, in_thread):
    ours, peer, name = narrow_unix
    fillers = fill_queue(ours, peer)
    sending = engine.send_message(ours.fileno(), b"at last", name)
    engine.turn()
    before_s = cpu_s()
    assert engine.turn(0.3) == []
    assert cpu_s() - before_s < 0.1
    assert not sending.is_done
    reading = in_thread(lambda: [peer.recv(100) for _ in range(fillers)])
    engine.finish(sending, limit_s=2)
    reading.result(LIMIT_S)
    assert sending.result == 7
    assert peer.recv(100) == b"at last"


def test_a_waiting_datagram_is_cancelled_and_never_goes(engine, narrow_unix):
    """Row 9: in the turn that takes it, too."""
    ours, peer, name = narrow_unix
    fillers = fill_queue(ours, peer)
    early = engine.send_message(ours.fileno(), b"x", name)
    engine.cancel(early)
    engine.finish(early)
    late = engine.send_message(ours.fileno(), b"x", name)
    engine.turn()
    engine.turn(0.01)
    engine.cancel(late)
    engine.finish(late)
    assert (early.result, late.result) == (-errno.ECANCELED, -errno.ECANCELED)
    assert [peer.recv(100) for _ in range(fillers)] == [b"filler"] * fillers
    with pytest.raises(BlockingIOError):
        peer.recv(100)


def test_a_receiver_that_closes_while_it_is_waited_for_is_an_error(engine, narrow_unix):
    ours, peer, name = narrow_unix
    fill_queue(ours, peer)
    sending = engine.send_message(ours.fileno(), b"x", name)
    engine.turn()
    peer.close()
    engine.finish(sending)
    assert sending.result in {-errno.ECONNREFUSED, -errno.ECONNRESET, -errno.ENOTCONN}


def test_a_narrow_seqpacket_socket_is_waited_for(sized_engine, message_pair, in_thread):
    ours, peer = message_pair
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    payloads = [random.Random(i).randbytes(1 + 37 * i % 1500) for i in range(200)]
    reading = in_thread(lambda: [peer.recv(4096) for _ in payloads])
    results = [send(sized_engine, ours, payload) for payload in payloads]
    assert results == [len(payload) for payload in payloads]
    assert reading.result(LIMIT_S) == payloads


def test_both_directions_of_one_socket_at_once(sized_engine, udp_pair):
    ours, peer = udp_pair
    name = sockaddr(peer.getsockname())
    receiving = sized_engine.receive_messages(ours.fileno())
    for count in range(1, 50):
        assert send(sized_engine, ours, b"ping", name) == 4
        assert peer.recv(100) == b"ping"
        peer.sendto(b"pong", ours.getsockname())
        sized_engine.run_until(lambda count=count: len(receiving.messages) == count)


def test_hundreds_of_sends_in_one_turn_all_answer(sized_engine, udp_pair, new_socket):
    _, peer = udp_pair
    name = sockaddr(peer.getsockname())
    senders = [new_socket() for _ in range(200)]
    sends = [sized_engine.send_message(sock.fileno(), b"x", name) for sock in senders]
    sized_engine.finish(*sends)
    assert [sending.result for sending in sends] == [1] * 200
    assert [peer.recv(100) for _ in senders] == [b"x"] * 200


@pytest.mark.parametrize("fd", [-1, 19_999, 2**31 - 1])
def test_closed_descriptors_answer_ebadf(engine, fd):
    sending = engine.send_message(fd, b"x")
    engine.finish(sending)
    assert sending.result == -errno.EBADF


def test_files_and_pipes_answer_enotsock(engine, resources, tmp_path):
    reader, writer = os.pipe()
    file = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    for fd in (reader, writer, file):
        resources.callback(os.close, fd)
    both = [engine.send_message(fd, b"x") for fd in (writer, file)]
    engine.finish(*both)
    assert [sending.result for sending in both] == [-errno.ENOTSOCK] * 2


def test_a_stream_works_too(sized_engine, pair):
    ours, peer = pair
    assert [send(sized_engine, ours, data) for data in (b"one", b"two")] == [3, 3]
    assert peer.recv(100) == b"onetwo"
