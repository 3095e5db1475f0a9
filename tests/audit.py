"""What a test may not leave behind: descriptors, operations, buffers, tasks, reports.

The audit runs after each test that used a loop. It has no list of exceptions.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import os

from loops import driver_leftovers, make_loop

SETTLE_TURNS_MAX = 200


def open_descriptors() -> set[tuple[int, str]]:
    """Each open descriptor with what it names, so that a reused number shows too."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            found.add((int(name), os.readlink(f"/proc/self/fd/{name}")))
        except FileNotFoundError:
            continue  # the descriptor that listed the directory
    return found


@functools.cache
def descriptors_of_a_loop(kind: str) -> int:
    """How many descriptors a loop of this kind has for itself once it has run."""
    before = len(open_descriptors())
    loop = make_loop(kind)
    loop.run_until_complete(asyncio.sleep(0))
    count = len(open_descriptors()) - before
    loop.close()
    return count


def settle(loop: asyncio.AbstractEventLoop, descriptors: int) -> None:
    """Turns the loop until what is about to end has ended, and stops what goes on; then
    nothing may be left with the kernel.

    descriptors   how many there are when all that the test opened is closed
    """
    _turn_until_closed(loop, descriptors)
    loop.run_until_complete(_end_tasks())
    _turn_until_closed(loop, descriptors)
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.run_until_complete(loop.shutdown_default_executor())
    assert driver_leftovers(loop) == []


def _turn_until_closed(loop: asyncio.AbstractEventLoop, descriptors: int) -> None:
    for _ in range(SETTLE_TURNS_MAX):
        loop.run_until_complete(asyncio.sleep(0))
        if len(open_descriptors()) <= descriptors and not driver_leftovers(loop):
            break


async def _end_tasks() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def assert_nothing_left(
    closed_loops: list[asyncio.AbstractEventLoop], before: set[tuple[int, str]]
) -> None:
    for loop in closed_loops:
        assert loop.is_closed()
    gc.collect()  # transports that were forgotten complain here, while their test is named
    assert open_descriptors() - before == set()
