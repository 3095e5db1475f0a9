"""SEND: all bytes, in order, whatever the socket takes at a time; one answer."""

from __future__ import annotations

import errno
import hashlib
import mmap
import os
import random
import signal
import socket
import struct

import pytest

from .conftest import operation_kinds
from .engine_harness import read_digest, read_rest

pytestmark = operation_kinds(reason="no feature changes how a send goes on")

MIB = 1 << 20
LINGER_RESET = struct.pack("ii", 1, 0)


def read_marks(peer, total_bytes):
    """Reads that much; answers the positions and values of the bytes that are not 0."""
    buffer = bytearray(4 * MIB)
    zeros = bytes(len(buffer))
    marks = {}
    position = 0
    while position < total_bytes:
        size = peer.recv_into(buffer, min(total_bytes - position, len(buffer)))
        assert size, "the end came early"
        chunk = buffer if size == len(buffer) else buffer[:size]
        if chunk != zeros[:size]:
            marks.update((position + i, byte) for i, byte in enumerate(chunk) if byte)
        position += size
    return marks


@pytest.fixture(params=[False, True], ids=["nonblocking", "blocking"])
def any_pair(request, new_pair):
    """Row 14: sockets with and without O_NONBLOCK."""
    return new_pair(blocking=request.param)


@pytest.fixture
def narrow_pair(any_pair):
    """As small a send buffer as the kernel allows."""
    any_pair[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    return any_pair


def test_a_small_message_arrives(engine, any_pair):
    ours, peer = any_pair
    sending = engine.send(ours.fileno(), b"hello")
    engine.finish(sending)
    assert sending.result == 5
    assert peer.recv(100) == b"hello"


def test_nothing_to_send_is_sent_at_once(engine, any_pair):
    ours, _ = any_pair
    nothings = [engine.send(ours.fileno(), b"")]
    engine.finish(*nothings)
    for pieces in ([], [b"", b""]):
        nothings.append(engine.send_vectored(ours.fileno(), pieces))
        engine.finish(*nothings)
    assert [sending.result for sending in nothings] == [0, 0, 0]


def test_a_large_message_arrives_whole(sized_engine, any_pair, in_thread):
    """Row 12: far more than the socket holds, so it is continued many times."""
    ours, peer = any_pair
    data = random.Random(12).randbytes(4 * MIB)
    read = in_thread(read_digest, peer, len(data))
    sending = sized_engine.send(ours.fileno(), data)
    sized_engine.finish(sending)
    assert sending.result == len(data)
    assert read.result(10) == hashlib.sha256(data).hexdigest()
    assert sized_engine.shared.counters.bytes_sent == len(data)


@pytest.mark.engines("io_uring", "epoll", reason="it takes seconds")
def test_more_than_two_gib_in_one_command_arrive(engine, pair, in_thread):
    """Row 12: one system call takes 2 GiB at most. The memory is all zeros that the kernel
    gives for nothing, but for marks where 31 and 32 bits end."""
    ours, peer = pair
    total_bytes = (2 << 30) + 128 * MIB
    marks = {2**31 - 4096: 1, 2**31 - 1: 2, 2**31: 3, total_bytes - 1: 4}
    with mmap.mmap(-1, total_bytes, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        for position, value in marks.items():
            memory[position] = value
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * MIB)
        read = in_thread(read_marks, peer, total_bytes)
        sending = engine.send(ours.fileno(), memory)
        engine.finish(sending, limit_s=30)
        assert sending.result == total_bytes
        assert read.result(10) == marks


def test_many_writes_through_a_narrow_socket_keep_their_order(engine, narrow_pair, in_thread):
    """Row 11: odd sizes, one after the other; the peer checks the sequence."""
    ours, peer = narrow_pair
    sizes = [random.Random(11).choice([1, 7, 999, 4097, 20_011]) for _ in range(60)]
    messages = [struct.pack("!I", i) * size for i, size in enumerate(sizes)]
    whole = b"".join(messages)
    read = in_thread(read_digest, peer, len(whole))
    for message in messages:
        sending = engine.send(ours.fileno(), message)
        engine.finish(sending)
        assert sending.result == len(message)
    assert read.result(10) == hashlib.sha256(whole).hexdigest()


def test_vectored_pieces_of_odd_sizes_keep_their_order(sized_engine, narrow_pair, in_thread):
    """Rows 11, 12: short sends end in the middle of pieces, and some pieces are empty."""
    ours, peer = narrow_pair
    generator = random.Random(13)
    sizes = [0, 1, 7, 0, 4099, 65_537, 1, 0, 0, 30_001, 3, 0]
    pieces = [generator.randbytes(size) for size in sizes]
    whole = b"".join(pieces)
    read = in_thread(read_digest, peer, len(whole))
    sending = sized_engine.send_vectored(ours.fileno(), pieces)
    sized_engine.finish(sending)
    assert sending.result == len(whole)
    assert read.result(10) == hashlib.sha256(whole).hexdigest()


def test_more_pieces_than_one_system_call_takes_arrive(sized_engine, any_pair, in_thread):
    """IOV_MAX is 1024."""
    ours, peer = any_pair
    pieces = [struct.pack("!I", i)[: 1 + i % 4] for i in range(5000)]
    whole = b"".join(pieces)
    read = in_thread(read_digest, peer, len(whole))
    sending = sized_engine.send_vectored(ours.fileno(), pieces)
    sized_engine.finish(sending)
    assert sending.result == len(whole)
    assert read.result(10) == hashlib.sha256(whole).hexdigest()


def test_a_slow_reader_gets_everything(engine, narrow_pair):
    """The socket is full between any two reads; the engine waits without spinning."""
    ours, peer = narrow_pair
    data = random.Random(14).randbytes(100_000)
    sending = engine.send(ours.fileno(), data)
    received = bytearray()
    while len(received) < len(data):
        engine.turn()
        received += peer.recv(1777)
    engine.finish(sending)
    assert received == data
    assert sending.result == len(data)
    assert engine.shared.counters.submissions < 1000


def test_a_send_to_a_full_socket_sleeps(engine, narrow_pair):
    """Row 14: EAGAIN is a reason to wait, not an answer, and not to try over and over."""
    ours, _ = narrow_pair
    sending = engine.send(ours.fileno(), b"x" * 100_000)
    engine.turn()
    submissions = engine.shared.counters.submissions
    assert engine.turn(0.05) == []
    assert not sending.is_done
    assert engine.shared.counters.submissions - submissions <= 1


def test_a_closed_peer_answers_epipe_and_no_signal_comes(engine, any_pair):
    """SIGPIPE has its default action here, which would end the process."""
    ours, peer = any_pair
    peer.close()
    before = signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        sends = [engine.send(ours.fileno(), b"lost")]
        engine.finish(*sends)
        sends.append(engine.send_vectored(ours.fileno(), [b"lost", b"too"]))
        engine.finish(*sends)
    finally:
        signal.signal(signal.SIGPIPE, before)
    assert [sending.result for sending in sends] == [-errno.EPIPE] * 2
    assert [sending.final.address for sending in sends] == [0, 0]


def test_a_peer_closed_in_the_middle_tells_how_much_was_sent(engine, narrow_pair):
    ours, peer = narrow_pair
    sending = engine.send(ours.fileno(), b"x" * 1_000_000)
    engine.turn()
    taken = len(peer.recv(100_000))
    engine.turn()
    peer.close()
    engine.finish(sending)
    assert sending.result in (-errno.EPIPE, -errno.ECONNRESET)
    assert taken <= sending.final.address < 1_000_000


def test_a_reset_ends_a_waiting_send(engine, tcp_pair):
    ours, peer = tcp_pair
    sending = engine.send(ours.fileno(), bytes(32 * MIB))
    engine.turn()
    assert not sending.is_done
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
    peer.close()
    engine.finish(sending)
    assert sending.result in (-errno.EPIPE, -errno.ECONNRESET)


def test_a_cancelled_send_tells_exactly_how_much_was_sent(sized_engine, narrow_pair):
    """The caller goes on from there: nothing may be lost or sent twice."""
    ours, peer = narrow_pair
    data = random.Random(15).randbytes(300_000)
    sending = sized_engine.send(ours.fileno(), data)
    sized_engine.turn()
    start = peer.recv(1000)
    sized_engine.turn()
    sized_engine.cancel(sending)
    sized_engine.finish(sending)
    assert sending.result == -errno.ECANCELED
    sent_bytes = sending.final.address
    ours.close()
    start += read_rest(peer)
    assert 0 < sent_bytes < len(data)
    assert start == data[:sent_bytes]


def test_a_cancelled_vectored_send_tells_exactly_how_much_was_sent(engine, narrow_pair):
    ours, peer = narrow_pair
    data = random.Random(16).randbytes(300_000)
    pieces = [data[start : start + 7001] for start in range(0, len(data), 7001)]
    sending = engine.send_vectored(ours.fileno(), pieces)
    engine.turn()
    engine.cancel(sending)
    engine.finish(sending)
    ours.close()
    received = read_rest(peer)
    assert sending.result == -errno.ECANCELED
    assert len(received) == sending.final.address
    assert received == data[: len(received)]


def test_both_directions_of_one_socket_go_on_at_once(sized_engine, any_pair, in_thread):
    """One descriptor with a receive and a blocked send."""
    ours, peer = any_pair
    data = random.Random(17).randbytes(2 * MIB)
    receiving = sized_engine.receive(ours.fileno())
    sending = sized_engine.send(ours.fileno(), data)
    read = in_thread(read_digest, peer, len(data))
    written = in_thread(peer.sendall, data)
    sized_engine.run_until(lambda: len(receiving.data) == len(data) and sending.is_done)
    assert sending.result == len(data)
    assert receiving.data == data
    assert read.result(10) == hashlib.sha256(data).hexdigest()
    written.result(10)


def test_a_waiting_send_does_not_end_with_the_receive(engine, narrow_pair):
    """The peer shuts its sending side: the end of file, while our send goes on."""
    ours, peer = narrow_pair
    sending = engine.send(ours.fileno(), b"x" * 50_000)
    receiving = engine.receive(ours.fileno())
    engine.turn()
    peer.shutdown(socket.SHUT_WR)
    engine.finish(receiving)
    assert receiving.result == 0
    left = 50_000
    while left:
        left -= len(peer.recv(left))
        engine.turn()
    engine.finish(sending)
    assert sending.result == 50_000


def test_send_to_a_pipe_ends_with_enotsock(engine, resources):
    reader, writer = os.pipe()
    resources.callback(os.close, reader)
    resources.callback(os.close, writer)
    sending = engine.send(writer, b"x")
    engine.finish(sending)
    assert sending.result == -errno.ENOTSOCK


@pytest.mark.parametrize("fd", [-1, 19_999, 2**31 - 1])
def test_send_to_a_closed_descriptor_ends_with_ebadf(engine, fd):
    sending = engine.send(fd, b"x")
    engine.finish(sending)
    assert sending.result == -errno.EBADF
