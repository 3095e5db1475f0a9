"""Micro-benchmarks of a loop's own machinery, no network: pyperf does the timing.

    python -m bench.micro --loop uringloop -o uringloop.json
    python -m bench.micro --loop uvloop -o uvloop.json
    python -m pyperf compare_to uvloop.json uringloop.json --table

Takes pyperf's own options as well (`--fast`, `--affinity`, ...). Each figure is the time
of one operation, the loop's turn around it included where an operation needs one.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import pyperf  # type: ignore[import-untyped]  # it ships no types

if not __package__:  # run as a file, as pyperf's workers are
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from bench import loops
from bench.errors import MissingError

GATHERED_TASKS = 100
FAR_DELAY_S = 3600.0
# The loop is chosen by environment too, and pyperf hands on only what it is told to.
ENVIRONMENT = ("URINGLOOP_BACKEND", "URINGLOOP_DISABLE", "URINGLOOP_PURE")

Body = Callable[[int], Awaitable[float]]


async def call_soon_chain(count: int) -> float:
    """Callbacks that each schedule the next one: a turn for every callback."""
    loop = asyncio.get_running_loop()
    finished = loop.create_future()
    left = count

    def step() -> None:
        nonlocal left
        left -= 1
        if left:
            loop.call_soon(step)
        else:
            finished.set_result(None)

    started = time.perf_counter()
    loop.call_soon(step)
    await finished
    return time.perf_counter() - started


async def call_soon_batch(count: int) -> float:
    """Callbacks scheduled all at once: the ready queue without the turn."""
    loop = asyncio.get_running_loop()
    finished = loop.create_future()
    started = time.perf_counter()
    for _ in range(count):
        loop.call_soon(int)
    loop.call_soon(finished.set_result, None)
    await finished
    return time.perf_counter() - started


async def call_later_and_cancel(count: int) -> float:
    """A timer that never fires, the fate of most time-outs, with a turn after each 100."""
    loop = asyncio.get_running_loop()
    started = time.perf_counter()
    for number in range(count):
        loop.call_later(FAR_DELAY_S, int).cancel()
        if number % 100 == 0:
            await asyncio.sleep(0)
    return time.perf_counter() - started


async def sleep_zero(count: int) -> float:
    """A task that gives way: one step of a task and one turn."""
    started = time.perf_counter()
    for _ in range(count):
        await asyncio.sleep(0)
    return time.perf_counter() - started


async def gather_tasks(count: int) -> float:
    """gather() of 100 tasks that give way once each."""
    started = time.perf_counter()
    for _ in range(count):
        await asyncio.gather(*(asyncio.sleep(0) for _ in range(GATHERED_TASKS)))
    return time.perf_counter() - started


async def call_soon_threadsafe_round_trip(count: int) -> float:
    """A thread schedules a callback and waits until the sleeping loop has run it."""
    loop = asyncio.get_running_loop()
    has_run = threading.Semaphore(0)

    def work() -> float:
        started = time.perf_counter()
        for _ in range(count):
            loop.call_soon_threadsafe(has_run.release)
            has_run.acquire()
        return time.perf_counter() - started

    return await loop.run_in_executor(None, work)


BODIES: dict[str, Body] = {
    "call_soon chain": call_soon_chain,
    "call_soon batch": call_soon_batch,
    "call_later and cancel": call_later_and_cancel,
    "sleep(0)": sleep_zero,
    f"gather of {GATHERED_TASKS}": gather_tasks,
    "call_soon_threadsafe round trip": call_soon_threadsafe_round_trip,
}


def run_on(make: loops.LoopFactory, body: Body, count: int) -> float:
    """Seconds that `count` operations took on a fresh loop."""
    loop = make()
    try:
        seconds = loop.run_until_complete(_with_executor_shut_down(loop, body, count))
    finally:
        loop.close()
    return seconds


async def _with_executor_shut_down(
    loop: asyncio.AbstractEventLoop, body: Body, count: int
) -> float:
    try:
        return await body(count)
    finally:
        await loop.shutdown_default_executor()


def make_and_close(make: loops.LoopFactory, count: int) -> float:
    """A loop's beginning and end, without running it."""
    started = time.perf_counter()
    for _ in range(count):
        make().close()
    return time.perf_counter() - started


def _hand_on(command: list[str], options: argparse.Namespace) -> None:
    command.extend(("--loop", options.loop))


def main() -> None:
    runner = pyperf.Runner(add_cmdline_args=_hand_on)
    runner.argparser.add_argument("--loop", default="uringloop", help="a name as in bench.echo")
    runner.argparser.set_defaults(inherit_environ=list(ENVIRONMENT))
    options = runner.parse_args()
    try:
        loops.new_event_loop(options.loop).close()
    except MissingError as error:
        raise SystemExit(f"bench.micro: {error}") from error
    make = loops.factory(options.loop)
    runner.metadata["loop"] = options.loop
    for name, body in BODIES.items():
        runner.bench_time_func(name, partial(run_on, make, body))
    runner.bench_time_func("loop made and closed", partial(make_and_close, make))


if __name__ == "__main__":
    main()
