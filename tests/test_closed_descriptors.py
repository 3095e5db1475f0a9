"""Descriptors that are closed while they are watched, and numbers that come again."""

from __future__ import annotations

import asyncio
import os
from asyncio import AbstractEventLoop

import pytest
from peers import Pair, turns
from watchable import SOURCES, Calls

IDLE_S = 0.05
IDLE_TURNS_MAX = 20


async def test_a_socket_closed_behind_the_loops_back_is_forgotten(
    pair: Pair, loop: AbstractEventLoop
) -> None:
    """Row 5: its peer sees the end at once, and whoever gets its number is not disturbed."""
    ours, peer = pair
    calls = Calls()
    loop.add_reader(ours, calls)
    await turns(2)
    number = ours.fileno()
    ours.close()
    await turns(2)
    assert await loop.run_in_executor(None, peer.recv, 1) == b""
    quiet = calls.count
    reading, writing = os.pipe()
    give_number(reading, number)
    os.write(writing, b"x")
    await turns(5)
    assert calls.count == quiet
    assert loop.remove_reader(ours)
    os.close(number)
    os.close(writing)


async def test_a_socket_closed_in_its_own_callback_harms_nobody(
    pair: Pair, loop: AbstractEventLoop
) -> None:
    ours, peer = pair
    calls, others = Calls(), Calls()

    def close() -> None:
        calls()
        ours.close()

    loop.add_reader(ours, close)
    peer.send(b"x")
    with SOURCES["pipe"]() as other:
        loop.add_reader(other.watched, others)
        await calls.reach(1)
        other.make_ready()
        await others.reach(3)
        loop.remove_reader(other.watched)
    assert calls.count == 1
    assert loop.remove_reader(ours)


async def test_a_closed_socket_can_be_removed_by_its_object(
    pair: Pair, loop: AbstractEventLoop
) -> None:
    ours, _ = pair
    loop.add_reader(ours, print)
    ours.close()
    assert loop.remove_reader(ours)
    with pytest.raises(ValueError, match="Invalid file descriptor"):
        loop.remove_reader(ours)


@pytest.mark.difference("reused_number")
async def test_a_number_that_was_closed_behind_the_loops_back_can_be_watched_again(
    loop: AbstractEventLoop,
) -> None:
    """The callbacks of its first life are gone."""
    first, second = Calls(), Calls()
    with SOURCES["socket"]() as source:
        reused = source.watched.fileno()
        loop.add_reader(reused, first)
        loop.add_writer(reused, first)
        await first.reach(1)
    quiet = first.count
    reading, writing = os.pipe()
    give_number(reading, reused)
    loop.add_reader(reused, second)
    await turns(3)
    assert second.count == 0
    os.write(writing, b"x")
    await second.reach(2)
    assert first.count == quiet
    assert loop.remove_reader(reused)
    assert not loop.remove_writer(reused)
    os.close(reused)
    os.close(writing)


def give_number(fd: int, number: int) -> None:
    """Has the file of `fd` under `number`, a free one, instead."""
    if fd != number:
        os.dup2(fd, number)
        os.close(fd)


@pytest.mark.ours
async def test_a_file_that_lives_on_under_another_number_does_not_keep_the_loop_busy(
    pair: Pair, loop: AbstractEventLoop
) -> None:
    """epoll goes on telling of it, and asyncio never sleeps again."""
    ours, peer = pair
    duplicate = ours.dup()
    others = Calls()
    number = ours.fileno()
    with SOURCES["pipe"]() as other:
        loop.add_reader(other.watched, others)
        loop.add_reader(number, print)
        ours.close()
        assert loop.remove_reader(number)
        peer.send(b"x")
        await turns(3)
        before = loop.driver_state().counters["turns"]
        await asyncio.sleep(IDLE_S)
        assert loop.driver_state().counters["turns"] - before <= IDLE_TURNS_MAX
        other.make_ready()
        await others.reach(1)
        loop.remove_reader(other.watched)
    duplicate.close()


@pytest.mark.ours
async def test_a_ghost_of_a_closed_number_does_not_call_the_numbers_new_owner_for_ever(
    pair: Pair, loop: AbstractEventLoop
) -> None:
    ours, peer = pair
    duplicate = ours.dup()
    number = ours.fileno()
    loop.add_reader(number, print)
    ours.close()
    calls = Calls()
    reading, writing = os.pipe()
    give_number(reading, number)
    loop.add_reader(number, calls)
    peer.send(b"x")
    await turns(5)
    assert calls.count <= 1
    os.write(writing, b"x")
    await calls.reach(3)
    loop.remove_reader(number)
    os.close(number)
    os.close(writing)
    duplicate.close()
