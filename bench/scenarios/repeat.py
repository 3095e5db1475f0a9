"""A body of bodies.py repeated on one loop for a given time, as a child process.

    python -m bench.scenarios.repeat LOOP BODY WARMUP_S SECONDS

Says how many operations it did, in how many seconds and CPU seconds of its own (all
threads; not those of the programs that it spawned).
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Callable

from bench import loops
from bench.bodies import BODIES, make_and_close
from bench.children import Answer, die_with_parent, say
from bench.errors import MissingError
from bench.scenarios.clocks import Stopwatch
from bench.scenarios.lacking import LACKING, missing

LOOP_CREATION = "loop made and closed"
LOOPS_IN_A_ROW = 20


def repeat(do: Callable[[], int], seconds: float) -> int:
    """How many operations were done until the time was over, the last call as a whole."""
    deadline = time.perf_counter() + seconds
    operations = do()
    while time.perf_counter() < deadline:
        operations += do()
    return operations


def measured(do: Callable[[], int], warmup_s: float, seconds: float) -> Answer:
    repeat(do, warmup_s)
    stopwatch = Stopwatch(os.getpid())
    operations = repeat(do, seconds)
    elapsed_s, cpu_s = stopwatch.read_s()
    return {"operations": operations, "seconds": elapsed_s, "cpu_s": cpu_s}


def measure_creation(name: str, warmup_s: float, seconds: float) -> Answer:
    make = loops.factory(name)

    def do() -> int:
        make_and_close(make, LOOPS_IN_A_ROW)
        return LOOPS_IN_A_ROW

    return measured(do, warmup_s, seconds)


def measure_body(name: str, body_name: str, warmup_s: float, seconds: float) -> Answer:
    body = BODIES[body_name]
    loop = loops.new_event_loop(name)
    asyncio.set_event_loop(loop)

    def do() -> int:
        loop.run_until_complete(call())
        return body.count

    async def call() -> None:
        await body.run(body.count)

    try:
        answer = measured(do, warmup_s, seconds)
        loop.run_until_complete(loop.shutdown_default_executor())
    except LACKING as error:
        raise missing(name, error) from error
    finally:
        loop.close()
    return answer


def main(arguments: list[str]) -> None:
    die_with_parent()
    name, body_name, warmup_s, seconds = arguments
    try:
        if body_name == LOOP_CREATION:
            say(measure_creation(name, float(warmup_s), float(seconds)))
        else:
            say(measure_body(name, body_name, float(warmup_s), float(seconds)))
    except MissingError as error:
        say({"missing": str(error)})


if __name__ == "__main__":
    main(sys.argv[1:])
