"""SEND with UL_ZERO_COPY: the memory is the kernel's for longer than the socket is busy."""

from __future__ import annotations

import errno
import hashlib
import random
import socket

import pytest
from uringloop.driver._engine import lib

from .conftest import operation_kinds
from .engine_harness import read_digest, read_rest

pytestmark = operation_kinds("zero_copy", reason="it is about sending alone")

ZERO_COPY = lib.UL_ZERO_COPY
KIB = 1 << 10
MIB = 1 << 20
HELD_BYTES = 20 * KIB


@pytest.fixture
def is_uncopied(features):
    return bool(features & lib.UL_FEATURE_ZERO_COPY)


@pytest.fixture
def deep_pair(resources):
    """TCP; the peer takes next to nothing: what is sent stays with our socket. Of what is not
    copied that holds some tens of KiB, as the kernel charges it several times over."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * KIB)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        ours = resources.enter_context(socket.create_connection(listener.getsockname()))
        peer = resources.enter_context(listener.accept()[0])
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MIB)
    ours.setblocking(False)
    peer.settimeout(10)
    return ours, peer


def test_all_bytes_arrive_and_then_the_memory_is_free(engine, tcp_pair, in_thread, is_uncopied):
    ours, peer = tcp_pair
    data = random.Random(1).randbytes(4 * MIB)
    read = in_thread(read_digest, peer, len(data))
    sending = engine.send(ours.fileno(), data, ZERO_COPY)
    engine.finish(sending)
    assert read.result(10) == hashlib.sha256(data).hexdigest()
    told = [event.result for event in sending.events]
    assert told == ([len(data), 0] if is_uncopied else [len(data)])


def test_pieces_arrive_in_order(engine, tcp_pair, in_thread, is_uncopied):
    """More of them than one sendmsg takes, so it is continued, with a notice for each part."""
    ours, peer = tcp_pair
    pieces = [bytes([number % 251]) * 700 for number in range(3000)]
    read = in_thread(read_digest, peer, 700 * 3000)
    sending = engine.send_vectored(ours.fileno(), pieces, ZERO_COPY)
    engine.finish(sending)
    assert read.result(10) == hashlib.sha256(b"".join(pieces)).hexdigest()
    assert sending.events[0].result == 700 * 3000
    assert len(sending.events) == 1 + is_uncopied


def test_the_next_send_need_not_wait_for_the_peer(engine, deep_pair, in_thread, is_uncopied):
    ours, peer = deep_pair
    first = engine.send(ours.fileno(), b"1" * HELD_BYTES, ZERO_COPY)
    engine.run_until(lambda: first.events)
    second = engine.send(ours.fileno(), b"2" * HELD_BYTES, ZERO_COPY)
    engine.run_until(lambda: second.events)
    assert (first.is_done, second.is_done) == (not is_uncopied, not is_uncopied)
    expected = hashlib.sha256(b"1" * HELD_BYTES + b"2" * HELD_BYTES).hexdigest()
    read = in_thread(read_digest, peer, 2 * HELD_BYTES)
    engine.finish(first, second)
    assert read.result(10) == expected


def test_a_cancel_does_not_reach_what_is_sent_already(engine, deep_pair, in_thread):
    ours, peer = deep_pair
    sending = engine.send(ours.fileno(), b"1" * HELD_BYTES, ZERO_COPY)
    engine.run_until(lambda: sending.events)
    engine.cancel(sending)
    for _ in range(5):
        engine.turn()
    read = in_thread(read_digest, peer, HELD_BYTES)
    engine.finish(sending)
    assert read.result(10) == hashlib.sha256(b"1" * HELD_BYTES).hexdigest()
    assert sending.events[0].result == HELD_BYTES


def test_a_cancel_of_one_that_waits_for_the_socket_wins(engine, tcp_pair, in_thread):
    """Its first bytes are with the peer, and held until that has read them or is gone."""
    ours, peer = tcp_pair
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    data = bytes(8 * MIB)
    sending = engine.send(ours.fileno(), data, ZERO_COPY)
    for _ in range(5):
        engine.turn()
    engine.cancel(sending)
    engine.turn()
    ours.shutdown(socket.SHUT_WR)
    read = in_thread(read_rest, peer)
    engine.finish(sending)
    assert sending.result == -errno.ECANCELED
    assert len(sending.events) == 1
    assert len(read.result(10)) == sending.final.address


def test_a_unix_socket_is_sent_to_by_copying(engine, pair):
    ours, peer = pair
    sending = engine.send(ours.fileno(), b"x" * 30 * KIB, ZERO_COPY)
    engine.finish(sending)
    assert [event.result for event in sending.events] == [30 * KIB]
    assert peer.recv(64 * KIB) == b"x" * 30 * KIB


def test_a_failure_is_one_final_event(engine, tcp_pair):
    ours, _ = tcp_pair
    ours.shutdown(socket.SHUT_WR)
    sending = engine.send(ours.fileno(), b"too late" * KIB, ZERO_COPY)
    engine.finish(sending)
    assert [event.result for event in sending.events] == [-errno.EPIPE]
    assert sending.final.address == 0


def test_bytes_are_counted_once(engine, tcp_pair, in_thread):
    ours, peer = tcp_pair
    read = in_thread(read_digest, peer, 3 * MIB)
    for _ in range(3):
        engine.finish(engine.send(ours.fileno(), bytes(MIB), ZERO_COPY))
    assert read.result(10)
    assert engine.shared.counters.bytes_sent == 3 * MIB


def test_an_engine_may_be_closed_with_memory_held(engine, deep_pair):
    ours, _ = deep_pair
    sending = engine.send(ours.fileno(), bytes(HELD_BYTES), ZERO_COPY)
    engine.run_until(lambda: sending.events)
    engine.close()
