"""What the micro-benchmarks repeat: bodies that each do one thing `count` times.

pyperf times them one loop a process (micro.py), the matrix interleaves loops
(scenarios/machinery.py). No network. Each answers the seconds that its operations took,
the loop's turn around one included where it needs one, and looks at its results: a body
that lost something raises BenchError.
"""

from __future__ import annotations

import asyncio
import itertools
import shutil
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from bench.errors import BenchError, MissingError
from bench.loops import LoopFactory

GATHERED_TASKS = 100
FAR_DELAY_S = 3600.0


@dataclass(frozen=True)
class Body:
    """A body, and how it is spoken of.

    run         does the operation `count` times on the running loop
    operation   what is counted, in the singular
    count       how often in a row where a clock decides the end: some milliseconds' worth
    """

    run: Callable[[int], Awaitable[float]]
    operation: str
    count: int


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
    calls = itertools.count()
    started = time.perf_counter()
    for _ in range(count):
        loop.call_soon(calls.__next__)
    loop.call_soon(finished.set_result, None)
    await finished
    seconds = time.perf_counter() - started
    expect(next(calls), count)
    return seconds


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
        results = await asyncio.gather(*(asyncio.sleep(0, 1) for _ in range(GATHERED_TASKS)))
        expect(sum(results), GATHERED_TASKS)
    return time.perf_counter() - started


async def queue_ping_pong(count: int) -> float:
    """Two tasks and two queues: an item goes there, and comes back."""
    there: asyncio.Queue[int] = asyncio.Queue()
    back: asyncio.Queue[int] = asyncio.Queue()

    async def answer() -> None:
        for _ in range(count):
            back.put_nowait(await there.get())

    answering = asyncio.ensure_future(answer())
    started = time.perf_counter()
    for number in range(count):
        there.put_nowait(number)
        expect(await back.get(), number)
    seconds = time.perf_counter() - started
    await answering
    return seconds


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


async def run_in_executor_round_trip(count: int) -> float:
    """The loop asks a thread of the default executor, sleeps, and is woken by its answer."""
    loop = asyncio.get_running_loop()
    started = time.perf_counter()
    for number in range(count):
        expect(await loop.run_in_executor(None, abs, -number), number)
    return time.perf_counter() - started


async def subprocess_spawn(count: int) -> float:
    """A program that does nothing, started and waited for. Its own CPU time is not ours."""
    program = shutil.which("true")
    if program is None:
        raise MissingError("the program true was not found (Debian, Ubuntu: in coreutils)")
    started = time.perf_counter()
    for _ in range(count):
        process = await asyncio.create_subprocess_exec(program)
        expect(await process.wait(), 0)
    return time.perf_counter() - started


def make_and_close(make: LoopFactory, count: int) -> float:
    """A loop's beginning and end, without running it. No body: it runs on no loop."""
    started = time.perf_counter()
    for _ in range(count):
        make().close()
    return time.perf_counter() - started


def expect(found: int, wanted: int) -> None:
    if found != wanted:
        raise BenchError(f"the operations answered {found} instead of {wanted}")


BODIES: dict[str, Body] = {
    "call_soon chain": Body(call_soon_chain, "callback", 2000),
    "call_soon batch": Body(call_soon_batch, "callback", 2000),
    "call_later and cancel": Body(call_later_and_cancel, "timer", 2000),
    "sleep(0)": Body(sleep_zero, "sleep", 2000),
    f"gather of {GATHERED_TASKS}": Body(gather_tasks, "gather", 10),
    "Queue ping-pong": Body(queue_ping_pong, "round trip", 500),
    "call_soon_threadsafe round trip": Body(call_soon_threadsafe_round_trip, "round trip", 100),
    "run_in_executor round trip": Body(run_in_executor_round_trip, "round trip", 50),
    "subprocess spawn": Body(subprocess_spawn, "process", 5),
}
