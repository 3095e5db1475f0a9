"""relay(): who awaits it, how it is cancelled, and what both peers then see.

The same tests on asyncio's own loop, where the relay goes by streams.
"""

from __future__ import annotations

import asyncio
import socket

import pytest
from peers import in_thread, turns, until_true
from relays import KINDS, assert_reset, ends, filled, over, until_gone

from uringloop import RelayEnd, RelayResult


@pytest.mark.parametrize("after_turns", range(1, 9))
@pytest.mark.parametrize("kind", KINDS)
async def test_cancelling_the_task_resets_both_and_gives_all_back(loop, kind, after_turns):
    async with ends(kind) as each:
        each.transports[1].write(b"before")
        each.peer_a.sendall(b"x" * 100)
        task = asyncio.create_task(over(each.relay()))
        await turns(after_turns)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        for protocol in each.protocols:
            assert protocol.lost.result() is None
        for peer in (each.peer_a, each.peer_b):
            await assert_reset(peer)


async def test_a_cancel_while_a_destination_is_full(loop):
    async with ends(buffer_bytes=4096) as each:
        relay = each.relay(limit=10_000)
        each.peer_a.setblocking(False)
        await filled(relay, each.peer_a)
        assert relay.buffers_held > 0
        relay.cancel()
        with pytest.raises(asyncio.CancelledError):
            await relay
        assert relay.buffers_held == 0
        await assert_reset(each.peer_b)


async def test_a_second_cancel_changes_nothing(loop):
    async with ends() as each:
        relay = each.relay()
        relay.cancel()
        relay.cancel()
        with pytest.raises(asyncio.CancelledError):
            await relay
        relay.cancel()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_cancel_while_it_ends_is_heard(loop, kind):
    """Both peers have ended, and one protocol has been told, when the task is cancelled."""
    async with ends(kind) as each:
        task = asyncio.create_task(over(each.relay()))
        told = each.protocols[0].connection_lost

        def cancelling(error):
            told(error)
            task.cancel("enough")

        each.protocols[0].connection_lost = cancelling
        each.peer_a.shutdown(socket.SHUT_WR)
        each.peer_b.shutdown(socket.SHUT_WR)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert [protocol.lost.result() for protocol in each.protocols] == [None, None]


async def test_the_word_of_a_cancel_is_passed_on(loop):
    async with ends() as each:
        words = []

        async def told() -> None:
            try:
                await each.relay()
            except asyncio.CancelledError as error:
                words.extend(error.args)

        task = asyncio.create_task(told())
        await turns(3)
        task.cancel("enough")
        await task
        assert words == ["enough"]


async def test_all_who_await_it_are_told_also_afterwards(loop):
    async with ends() as each:
        relay = each.relay()
        tasks = [asyncio.create_task(over(relay)) for _ in range(3)]
        await turns(2)
        each.peer_a.shutdown(socket.SHUT_WR)
        each.peer_b.shutdown(socket.SHUT_WR)
        results = [await task for task in tasks]
        assert results == [RelayResult(0, 0, RelayEnd.EOF, None, None)] * 3
        assert await relay == results[0]


async def test_a_cancelled_relay_cannot_be_awaited_later(loop):
    async with ends() as each:
        relay = each.relay()
        relay.cancel()
        await until_true(relay.done)
        for _ in range(2):
            with pytest.raises(asyncio.CancelledError):
                await relay


async def test_a_time_limit_cancels_it(loop):
    async with ends() as each:
        relay = each.relay()
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(relay, 0.01)
        assert relay.done()
        for peer in (each.peer_a, each.peer_b):
            await assert_reset(peer)


async def test_closing_a_transport_ends_it(loop):
    async with ends() as each:
        relay = each.relay()
        await turns(3)
        each.transports[0].close()
        result = await relay
        assert (result.reason, result.error, result.failed_side) == (RelayEnd.CLOSED, None, None)
        await in_thread(until_gone, each.peer_b)


async def test_a_transport_that_was_closed_before_ends_it_at_once(loop):
    async with ends() as each:
        each.transports[0].close()
        result = await each.relay()
        assert result.reason is RelayEnd.CLOSED
        await in_thread(until_gone, each.peer_b)
