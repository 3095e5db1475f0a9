"""Many relays, and what they leave behind: descriptors, buffers, room for others."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import socket

import pytest
from audit import open_descriptors
from peers import Recorder, in_thread, recv_exactly, turns
from relays import ends, engine_bytes, filled, is_ours, over, until_gone

import uringloop
from uringloop._rendering import is_compiled


async def test_two_thousand_relays_leave_nothing(loop):
    """Forty at a time: some end, some are reset, some are cancelled."""
    total = 2000 if is_ours(loop) else 200
    before = None
    for first in range(0, total, 40):
        async with contextlib.AsyncExitStack() as stack:
            some = [await stack.enter_async_context(ends("transports", "unix")) for _ in range(40)]
            relays = [each.relay(idle_timeout=60) for each in some]
            for number, each in enumerate(some):
                each.peer_a.sendall(os.urandom(number + 1))
            for number, (each, relay) in enumerate(zip(some, relays, strict=True)):
                assert len(await in_thread(recv_exactly, each.peer_b, number + 1)) == number + 1
                if number % 3 == 0:
                    relay.cancel()
                else:
                    each.peer_a.close()
                    if number % 3 == 1:
                        each.peer_b.close()
                    else:
                        each.peer_b.shutdown(socket.SHUT_WR)
            await asyncio.gather(*(over(relay) for relay in relays), return_exceptions=True)
        if first == 0:
            before = len(open_descriptors())
        assert len(open_descriptors()) <= (before or 0)


@pytest.mark.ours
async def test_a_relay_is_few_objects(loop):
    """Beside its transports: the relay and its two directions. Interpreted, these have dicts, and
    what the engine tells of them is in objects as well."""
    count = 20
    async with contextlib.AsyncExitStack() as stack:
        each = [await stack.enter_async_context(ends("transports", "unix")) for _ in range(count)]
        await turns(3)
        gc.collect()
        before = len(gc.get_objects())
        relays = [one.relay() for one in each]
        await turns(3)
        gc.collect()
        made = len(gc.get_objects()) - before
        assert made <= count * (3 if is_compiled() else 10) + 10
        for relay in relays:
            relay.cancel()


@pytest.mark.ours
async def test_python_sees_no_byte_of_it(loop):
    async with ends() as each:
        relay = each.relay()
        await turns(3)
        received = loop.driver_state().counters["bytes_received"]
        sent = loop.driver_state().counters["bytes_sent"]
        events = loop.driver_state().counters["events"]

        def talk() -> None:
            for size in (1, 1000, 100_000) * 10:
                each.peer_a.sendall(bytes(size))
                recv_exactly(each.peer_b, size)

        await in_thread(talk)
        counters = loop.driver_state().counters
        assert counters["bytes_received"] == received
        assert counters["bytes_sent"] == sent
        assert counters["events"] <= events + 1  # the watched descriptors', of the thread's end
        assert engine_bytes(loop) == relay.bytes_a_to_b == 1_010_010
        assert "data" not in each.protocols[0].calls
        relay.cancel()


@pytest.mark.ours
async def test_a_slow_reader_does_not_hold_up_a_thousand_others(loop):
    """One that never reads, whose sender never stops; the others each have a small message go
    through, again and again, and all of them arrive within the test's limit."""
    async with contextlib.AsyncExitStack() as stack:
        slow = await stack.enter_async_context(ends("transports", "unix"))
        slow_relay = slow.relay()
        slow.peer_a.setblocking(False)
        await filled(slow_relay, slow.peer_a)
        others = [await stack.enter_async_context(ends("transports", "unix")) for _ in range(1000)]
        relays = [each.relay() for each in others]
        for round_number in range(1, 4):
            for each in others:
                each.peer_a.send(b"m" * 500)
            for each in others:
                assert len(await in_thread(recv_exactly, each.peer_b, 500)) == 500
            assert {relay.bytes_a_to_b for relay in relays} == {500 * round_number}
        assert slow_relay.buffers_held > 0
        held = loop.driver_state().buffers_held
        assert held <= slow_relay.buffers_held + 8


@pytest.mark.ours
def test_a_loop_that_is_closed_closes_both_sides(new_loop):
    loop = new_loop()
    peers = []

    async def begin():
        for _ in range(3):
            ours, peer = zip(*(socket.socketpair() for _ in "ab"), strict=True)
            peers.extend(peer)
            sides = []
            for sock in ours:
                sock.setblocking(False)
                transport, _ = await loop.create_unix_connection(Recorder, sock=sock)
                sides.append(transport)
            relays.append(uringloop.relay(*sides))
        await turns(3)
        peers[0].sendall(b"x" * 100)
        peers[2].shutdown(socket.SHUT_WR)
        await turns(3)

    relays: list[uringloop.Relay] = []
    loop.run_until_complete(begin())
    loop.close()
    for peer in peers:
        peer.settimeout(10)
        until_gone(peer)
        peer.close()
