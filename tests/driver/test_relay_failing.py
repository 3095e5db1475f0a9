"""RELAY: its end by a failure, a cancel, or the engine's, in every state."""

from __future__ import annotations

import contextlib
import errno
import random
import socket

import pytest
from uringloop.driver._engine import lib

from .conftest import operation_kinds
from .engine_harness import LIMIT_S, read_rest
from .relay_harness import exchange, fill, narrow, pour, reset, talk, talk_random

pytestmark = operation_kinds("quiet_sends", reason="how small pieces go")


@pytest.mark.parametrize("size", [0, 1, 1000, 100_000])
def test_a_source_that_is_reset_fails_the_receive(sized_engine, tcp_ends, begun, size):
    client, _, _, server = tcp_ends
    relaying, before = begun(sized_engine, tcp_ends)
    if size:
        exchange(sized_engine, client, server, bytes(size))
    else:
        sized_engine.turn()
    reset(client)
    sized_engine.finish(relaying)
    assert relaying.result == -errno.ECONNRESET
    assert relaying.state.failed == lib.UL_RELAY_RECEIVE
    assert relaying.final.address == relaying.state.bytes == before + size


@pytest.mark.parametrize("has_begun", [False, True], ids=["before", "while sending"])
def test_a_destination_that_is_gone_fails_the_send(sized_engine, any_ends, begun, has_begun):
    client, _, _, server = any_ends
    narrow(*any_ends)
    relaying, _ = begun(sized_engine, any_ends)
    if has_begun:
        fill(sized_engine, relaying, client)
    reset(server)
    client.setblocking(False)

    def is_over():
        with contextlib.suppress(OSError):
            client.send(bytes(1000))
        return relaying.is_done

    sized_engine.run_until(is_over, look_every_s=0.001)
    assert relaying.result in (-errno.EPIPE, -errno.ECONNRESET)
    assert relaying.state.failed == lib.UL_RELAY_SEND
    assert relaying.state.bytes_held == relaying.state.buffers_held == 0


def test_a_cancel_ends_it_while_it_waits(sized_engine, any_ends, begun):
    relaying, _ = begun(sized_engine, any_ends)
    sized_engine.turn()
    sized_engine.cancel(relaying)
    sized_engine.finish(relaying)
    assert relaying.result == -errno.ECANCELED
    assert relaying.state.failed == 0


def test_a_cancel_in_the_turn_of_the_command_reaches_it(sized_engine, any_ends):
    """Row 9."""
    _, a, b, _ = any_ends
    relaying = sized_engine.relay(a.fileno(), b.fileno())
    sized_engine.cancel(relaying)
    sized_engine.finish(relaying)
    assert relaying.result == -errno.ECANCELED


@pytest.mark.parametrize("limit", [1000, 300_000])
def test_a_cancel_ends_it_while_the_destination_is_full(sized_engine, any_ends, begun, limit):
    client, _, b, server = any_ends
    narrow(*any_ends)
    relaying, before = begun(sized_engine, any_ends, limit)
    fill(sized_engine, relaying, client)
    sized_engine.cancel(relaying)
    sized_engine.finish(relaying)
    assert relaying.result == -errno.ECANCELED
    assert relaying.state.bytes_held == sized_engine.shared.relay_buffers_held == 0
    b.shutdown(socket.SHUT_WR)
    assert before + len(read_rest(server)) == relaying.state.bytes == relaying.final.address


@pytest.mark.parametrize("seed", range(20))
def test_a_cancel_at_any_moment_of_a_conversation_loses_no_count(sized_engine, ends, seed):
    """Row 8: with messages under way; what was counted as sent has arrived."""
    client, a, b, server = ends
    generator = random.Random(seed)
    relaying = sized_engine.relay(a.fileno(), b.fileno(), generator.choice([5000, 100_000]))
    size = talk_random(sized_engine, client, server, generator)
    for _ in range(generator.randrange(4)):
        client.sendall(bytes(generator.choice([1, 2000, 20_000])))
        if generator.random() < 0.5:
            sized_engine.turn(0.0005)
    sized_engine.cancel(relaying)
    sized_engine.finish(relaying)
    assert relaying.result == -errno.ECANCELED
    b.shutdown(socket.SHUT_WR)
    assert size + len(read_rest(server)) == relaying.state.bytes == relaying.final.address


@pytest.mark.parametrize("seed", range(20))
def test_a_cancel_at_any_moment_counts_what_was_sent(sized_engine, ends, in_thread, seed):
    """Row 8: after so many turns, in the middle of traffic in both directions."""
    client, a, b, server = ends
    generator = random.Random(seed)
    total_bytes = generator.choice([1000, 100_000, 3_000_000])

    def pour_some(sock):
        with contextlib.suppress(OSError):
            pour(sock, seed, total_bytes)

    pouring = [in_thread(pour_some, sock) for sock in (client, server)]
    reading = [in_thread(read_rest, sock) for sock in (server, client)]
    relays = [
        sized_engine.relay(a.fileno(), b.fileno(), generator.choice([500, 100_000])),
        sized_engine.relay(b.fileno(), a.fileno(), generator.choice([500, 100_000])),
    ]
    for _ in range(generator.randrange(40)):
        sized_engine.turn(0.0005)
    for relaying in relays:
        sized_engine.cancel(relaying)
    sized_engine.finish(*relays)
    a.shutdown(socket.SHUT_RDWR)
    b.shutdown(socket.SHUT_RDWR)
    for relaying, read in zip(relays, reading, strict=True):
        assert relaying.result in (-errno.ECANCELED, total_bytes)
        assert len(read.result(LIMIT_S)) == relaying.final.address or relaying.result >= 0
    for thread in pouring:
        thread.result(LIMIT_S)


def test_an_engine_may_be_closed_with_relays_in_every_state(open_engine, new_pair):
    """Waiting, full, with something that just came, just begun."""
    engine = open_engine()
    quads = [(*new_pair(), *new_pair()) for _ in range(4)]
    relays = [engine.relay(a.fileno(), b.fileno()) for a, _, b, _ in quads]
    fill(engine, relays[0], quads[0][1])
    talk(engine, quads[2][1], quads[2][3])
    quads[1][1].sendall(b"late")
    quads[2][1].sendall(b"talk")
    a, _, b, _ = quads[3]
    engine.relay(b.fileno(), a.fileno())
    engine.close()
