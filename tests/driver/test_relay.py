"""RELAY: one direction between two sockets, inside the engine: its bytes, its limit, its share."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import random
import socket

import pytest
from uringloop.driver._engine import lib

from .conftest import operation_kinds
from .engine_harness import LIMIT_S, read_digest, read_rest
from .relay_harness import (
    MIB,
    exchange,
    fill,
    flooded,
    narrow,
    pour,
    read_in_pieces,
    talk,
    talk_random,
)

pytestmark = operation_kinds("quiet_sends", reason="how small pieces go")


def test_bytes_and_the_end_are_carried(sized_engine, any_ends):
    client, a, b, server = any_ends
    relaying = sized_engine.relay(a.fileno(), b.fileno())
    exchange(sized_engine, client, server, b"hello")
    client.shutdown(socket.SHUT_WR)
    sized_engine.finish(relaying)
    assert relaying.result == 5
    assert server.recv(10) == b""
    assert relaying.state.bytes == 5
    assert relaying.state.bytes_held == relaying.state.failed == 0
    assert sized_engine.shared.counters.bytes_relayed == 5


def test_an_end_without_bytes_is_carried(sized_engine, any_ends, begun):
    client, _, _, server = any_ends
    relaying, size = begun(sized_engine, any_ends)
    client.shutdown(socket.SHUT_WR)
    sized_engine.finish(relaying)
    assert relaying.result == size
    assert server.recv(10) == b""


@pytest.mark.parametrize("last_bytes", [1, 5000, 1_000_000])
def test_an_end_right_behind_bytes_comes_after_them(
    sized_engine, any_ends, begun, in_thread, last_bytes
):
    client, _, _, server = any_ends
    relaying, size = begun(sized_engine, any_ends)
    read = in_thread(read_rest, server)

    def finish():
        client.sendall(bytes(last_bytes))
        client.shutdown(socket.SHUT_WR)

    in_thread(finish)
    sized_engine.finish(relaying)
    assert relaying.result == size + last_bytes
    assert read.result(LIMIT_S) == bytes(last_bytes)


@pytest.mark.parametrize("seed", range(3))
def test_conversation_and_bulk_may_alternate(sized_engine, any_ends, in_thread, seed):
    """Each way follows the other, in the middle of what the one before has not finished."""
    client, a, b, server = any_ends
    generator = random.Random(seed)
    relaying = sized_engine.relay(a.fileno(), b.fileno())
    total_bytes = 0
    for _ in range(4):
        total_bytes += talk_random(sized_engine, client, server, generator)
        data = generator.randbytes(generator.choice([10_000, 17_000, 300_000]))
        read = in_thread(read_digest, server, len(data))
        sent = in_thread(client.sendall, data)
        sized_engine.run_until(lambda read=read: read.done(), look_every_s=0.001)
        sent.result(LIMIT_S)
        assert read.result() == hashlib.sha256(data).hexdigest()
        total_bytes += len(data)
    client.shutdown(socket.SHUT_WR)
    sized_engine.finish(relaying)
    assert relaying.result == total_bytes


@pytest.mark.parametrize("is_narrow", [False, True], ids=["wide", "narrow"])
@pytest.mark.parametrize("seed", range(3))
def test_both_directions_keep_order_and_lose_nothing(
    sized_engine, any_ends, in_thread, seed, is_narrow
):
    client, a, b, server = any_ends
    if is_narrow:
        narrow(client, a, b, server)
    total_bytes = 300_000 if is_narrow else 5_000_000
    sent = [in_thread(pour, sock, seed + i, total_bytes) for i, sock in enumerate((client, server))]
    read = [in_thread(read_in_pieces, sock, seed) for sock in (server, client)]
    there = sized_engine.relay(a.fileno(), b.fileno())
    back = sized_engine.relay(b.fileno(), a.fileno())
    sized_engine.finish(there, back)
    assert there.result == back.result == total_bytes
    for sending, reading in zip(sent, read, strict=True):
        assert reading.result(LIMIT_S) == (sending.result(LIMIT_S), total_bytes)


@pytest.mark.parametrize("limit", [1, 1000, 70_000])
def test_any_limit_will_do(sized_engine, ends, in_thread, limit):
    client, a, b, server = ends
    total_bytes = 2000 * min(limit, 500)
    read = in_thread(read_in_pieces, server, 1)
    sent = in_thread(pour, client, 1, total_bytes)
    relaying = sized_engine.relay(a.fileno(), b.fileno(), limit)
    sized_engine.finish(relaying)
    assert read.result(LIMIT_S) == (sent.result(LIMIT_S), total_bytes)


def test_a_socket_may_be_relayed_to_itself(sized_engine, any_ends):
    """An echo without Python."""
    client, a, _, _ = any_ends
    relaying = sized_engine.relay(a.fileno(), a.fileno())
    for size in (1, 1000, 60_000):
        exchange(sized_engine, client, client, os.urandom(size))
    client.shutdown(socket.SHUT_WR)
    sized_engine.finish(relaying)
    assert relaying.result == 61_001


@pytest.mark.parametrize("limit", [1000, 100_000, 300_000])
def test_a_reader_that_sleeps_makes_it_hold_the_limit_and_no_more(engine, any_ends, limit):
    client, a, b, server = any_ends
    narrow(client, a, b, server)
    relaying = engine.relay(a.fileno(), b.fileno(), limit)
    taken = fill(engine, relaying, client)
    assert 0 < relaying.state.bytes_held <= limit
    assert 0 < relaying.state.buffers_held <= 8
    assert engine.shared.relay_buffers_held == relaying.state.buffers_held
    client.shutdown(socket.SHUT_WR)
    server.setblocking(False)
    read = 0

    def all_read():
        nonlocal read
        with contextlib.suppress(BlockingIOError):
            while piece := server.recv(MIB):
                read += len(piece)
        return relaying.is_done and read == taken

    engine.run_until(all_read, look_every_s=0.001)
    assert relaying.result == taken


def test_an_idle_relay_holds_no_buffer(engine, any_ends):
    client, a, b, server = any_ends
    relaying = engine.relay(a.fileno(), b.fileno())
    for size in (1, 1000, 100_000, *[10] * 10):
        exchange(engine, client, server, bytes(size))
        engine.turn(0.01)
        assert relaying.state.bytes_held == relaying.state.buffers_held == 0
        assert engine.shared.relay_buffers_held == 0


@pytest.mark.undisturbed
def test_what_moves_is_no_event_and_does_not_end_the_wait(engine, any_ends, in_thread):
    """A thread talks through the relay while one turn waits for a wake."""
    client, a, b, server = any_ends
    engine.relay(a.fileno(), b.fileno())
    engine.relay(b.fileno(), a.fileno())
    engine.turn()
    turns = engine.shared.counters.turns

    def talk():
        for size in (1, 10, 1000, 100_000):
            client.sendall(bytes(size))
            read_digest(server, size)
            server.sendall(bytes(size))
            read_digest(client, size)
        engine.wake_from_any_thread()

    talking = in_thread(talk)
    assert engine.turn(LIMIT_S) == []
    assert engine.shared.counters.turns == turns + 1
    talking.result(LIMIT_S)


def test_a_turn_that_only_looks_is_not_kept_by_a_busy_relay(engine, ends, in_thread):
    client, a, b, server = ends
    engine.relay(a.fileno(), b.fileno())
    with flooded(client, server, in_thread):
        for _ in range(50):
            assert engine.turn(0) == []
        for _ in range(20):
            assert engine.turn(0.001) == []
        engine.wake_from_any_thread()
        assert engine.turn(None) == []


def test_others_have_their_events_beside_a_busy_relay(sized_engine, ends, new_pair, in_thread):
    engine = sized_engine
    client, a, b, server = ends
    engine.relay(a.fileno(), b.fileno())
    ours, peer = new_pair()
    receiving = engine.receive(ours.fileno())
    with flooded(client, server, in_thread):
        for count in range(30):
            before = len(receiving.events)
            peer.sendall(b"ping")
            turns = 0
            while len(receiving.events) == before:
                engine.turn(LIMIT_S)
                turns += 1
                assert turns < 50, count


def test_slow_destinations_do_not_use_up_the_buffers_of_the_others(engine, new_pair):
    """Two hundred directions whose readers sleep, and one whose reader does not."""
    quads = [(*new_pair(), *new_pair()) for _ in range(200)]
    slow = [engine.relay(a.fileno(), b.fileno()) for a, _, b, _ in quads]
    for _, client, _, _ in quads:
        client.setblocking(False)
    while not all(relaying.state.bytes_held for relaying in slow):
        for _, client, _, _ in quads:
            with contextlib.suppress(BlockingIOError):
                client.send(bytes(65_536))
        engine.turn()
    (a, client), (b, server) = new_pair(), new_pair()
    engine.relay(a.fileno(), b.fileno())
    for size in (1, 1000, 100_000):
        exchange(engine, client, server, os.urandom(size))


def test_many_relays_have_data_at_once(sized_engine, new_pair):
    """More than the kernel is offered buffers for: each is served, and all buffers come home."""
    engine = sized_engine
    quads = [(*new_pair(), *new_pair()) for _ in range(150)]
    relays = [engine.relay(a.fileno(), b.fileno()) for a, _, b, _ in quads]
    engine.turn()
    for _ in range(8):
        for _, client, _, _ in quads:
            client.sendall(b"m" * 500)
        want = relays[0].state.bytes + 500
        engine.run_until(
            lambda want=want: all(each.state.bytes == want for each in relays), look_every_s=0.01
        )
        for _, _, _, server in quads:
            assert len(server.recv(1000)) == 500
    engine.turn(0.01)
    assert engine.shared.relay_buffers_held == 0


def test_a_burst_after_a_conversation_holds_at_most_what_the_kernel_was_offered(
    engine, any_ends, begun
):
    """The one way to more than the limit; see relay_uring.c."""
    client, _, _, _ = any_ends
    narrow(*any_ends)
    relaying, _ = begun(engine, any_ends, 10_000)
    fill(engine, relaying, client)
    assert 0 < relaying.state.bytes_held <= 10_000 + 16 * 16_384
    fill(engine, relaying, client)
    assert relaying.state.buffers_held <= 4


@pytest.mark.engines("io_uring", reason="how a conversation is relayed")
def test_a_message_of_a_conversation_costs_one_completion(engine, any_ends, features):
    """No poll, no completion of the send: the other tests could not tell."""
    if not features & lib.UL_FEATURE_QUIET_SENDS:
        pytest.skip("this kernel has no quiet sends")
    client, a, b, server = any_ends
    engine.relay(a.fileno(), b.fileno())
    talk(engine, client, server)
    counters = engine.shared.counters
    before = counters.completions, counters.submissions
    for _ in range(20):
        exchange(engine, client, server, b"m" * 1000)
    assert (counters.completions, counters.submissions) == (before[0] + 20, before[1] + 20)


@pytest.mark.parametrize("field", ["length", "address"])
def test_without_a_limit_or_a_state_it_is_refused(engine, pair, field):
    fields = {"length": 100, "address": 8, "argument": pair[0].fileno(), field: 0}
    refused = engine.stage(lib.UL_OP_RELAY, pair[0].fileno(), **fields)
    engine.finish(refused)
    assert refused.result == -errno.EINVAL


def test_a_descriptor_that_is_none_fails(sized_engine, ends):
    client, a, b, _ = ends
    no_source = sized_engine.relay(1_000_000, b.fileno())
    sized_engine.finish(no_source)
    assert no_source.result == -errno.EBADF
    no_destination = sized_engine.relay(a.fileno(), 1_000_000)
    sized_engine.turn()
    client.sendall(b"x")
    sized_engine.finish(no_destination)
    assert no_destination.result == -errno.EBADF
