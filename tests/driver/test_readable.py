"""RECV with UL_READABLE: the engine tells how many bytes there are, and leaves them alone."""

from __future__ import annotations

import errno
import socket
import struct

import pytest
from uringloop.driver._engine import lib

from .conftest import operation_kinds

pytestmark = operation_kinds("buffer_ring", "multishot_recv", reason="how a stream is received")

LINGER_RESET = struct.pack("ii", 1, 0)


def tell(engine, sock):
    return engine.receive(sock.fileno(), flags=lib.UL_READABLE)


@pytest.fixture(params=["unix", "tcp"])
def any_pair(request):
    return request.getfixturevalue("pair" if request.param == "unix" else "tcp_pair")


def test_the_size_is_told_until_the_bytes_are_gone(sized_engine, any_pair):
    ours, peer = any_pair
    receiving = tell(sized_engine, ours)
    peer.sendall(b"x" * 3000)
    sized_engine.run_until(lambda: len(receiving.told) == 3)
    assert receiving.told[-1] == 3000
    assert ours.recv(1000) == b"x" * 1000
    receiving.events.clear()
    sized_engine.turn()  # what the turn before had staged may still say the same
    receiving.events.clear()
    sized_engine.run_until(lambda: receiving.told)
    assert receiving.told == [2000]


def test_nothing_is_told_where_nothing_is_and_each_new_piece_is(sized_engine, any_pair):
    ours, peer = any_pair
    receiving = tell(sized_engine, ours)
    for size in (1, 5000, 70_000):
        assert sized_engine.turn() == []
        peer.sendall(bytes(size))
        left = size
        while left:
            receiving.events.clear()
            sized_engine.run_until(lambda: receiving.told)
            told = receiving.told[0]
            assert 0 < told <= left
            assert ours.recv(told) == bytes(told)
            left -= told


def test_no_receive_buffer_is_held_for_it_and_no_byte_counted(engine, pair):
    ours, peer = pair
    receiving = tell(engine, ours)
    peer.sendall(b"hello")
    engine.run_until(lambda: receiving.told)
    assert engine.shared.buffers_held == 0
    assert engine.shared.counters.bytes_received == 0


def test_at_the_end_of_the_stream_the_rest_is_received(sized_engine, any_pair):
    """Whatever comes together with the end, or after it is in sight."""
    ours, peer = any_pair
    receiving = tell(sized_engine, ours)
    peer.sendall(b"x" * 20_000)
    peer.shutdown(socket.SHUT_WR)
    sized_engine.finish(receiving)
    assert receiving.data == b"x" * 20_000
    assert receiving.result == 0


def test_the_end_comes_after_what_was_only_told(sized_engine, any_pair):
    ours, peer = any_pair
    receiving = tell(sized_engine, ours)
    peer.sendall(b"x" * 3000)
    sized_engine.run_until(lambda: receiving.told)
    peer.close()
    sized_engine.finish(receiving)
    assert receiving.data == b"x" * 3000
    assert receiving.result == 0


def test_a_reset_ends_it_with_econnreset(engine, tcp_pair):
    ours, peer = tcp_pair
    receiving = tell(engine, ours)
    engine.turn()
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
    peer.close()
    engine.finish(receiving)
    assert receiving.result == -errno.ECONNRESET


@pytest.mark.parametrize("size", [0, 3000], ids=["before a piece", "after a piece"])
def test_a_cancel_ends_it_and_leaves_the_bytes(sized_engine, any_pair, size):
    ours, peer = any_pair
    receiving = tell(sized_engine, ours)
    peer.sendall(bytes(size))
    sized_engine.turn()
    sized_engine.cancel(receiving)
    sized_engine.finish(receiving)
    assert receiving.result == -errno.ECANCELED
    assert receiving.data == b""
    peer.sendall(b"rest")
    assert ours.recv(size + 4, socket.MSG_WAITALL) == bytes(size) + b"rest"


def test_where_the_size_cannot_be_told_the_bytes_are_received(engine, tcp_pair):
    """Before urgent data FIONREAD counts to it, and at it answers 0."""
    ours, peer = tcp_pair
    peer.send(b"!", socket.MSG_OOB)
    peer.sendall(b"after")
    receiving = tell(engine, ours)
    engine.run_until(lambda: receiving.data == b"after")
    assert receiving.told == []


def test_many_are_told_in_one_turn_and_the_others_in_the_next(sized_engine, new_pair):
    pairs = [new_pair() for _ in range(30)]
    receives = [tell(sized_engine, ours) for ours, _ in pairs]
    for _, peer in pairs:
        peer.sendall(b"hello")
    sized_engine.run_until(lambda: all(receiving.told for receiving in receives))
    assert {size for receiving in receives for size in receiving.told} == {5}


@pytest.mark.parametrize("flag", [lib.UL_ONCE, lib.UL_FILE])
def test_it_is_refused_where_it_has_no_meaning(engine, pair, flag):
    ours, _ = pair
    refused = engine.stage(lib.UL_OP_RECV, ours.fileno(), length=1, flags=lib.UL_READABLE | flag)
    engine.finish(refused)
    assert refused.result == -errno.EINVAL
