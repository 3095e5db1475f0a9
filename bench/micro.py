"""Micro-benchmarks of a loop's own machinery, no network: pyperf does the timing.

    python -m bench.micro --loop uringloop -o uringloop.json
    python -m bench.micro --loop uvloop -o uvloop.json
    python -m pyperf compare_to uvloop.json uringloop.json --table

Takes pyperf's own options as well (`--fast`, `--affinity`, ...). Each figure is the time
of one operation, the loop's turn around it included where an operation needs one. What is
timed is in bodies.py, and part of the matrix too: this is for a closer look at one loop.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from functools import partial
from pathlib import Path

import pyperf  # type: ignore[import-untyped]  # it ships no types

if not __package__:  # run as a file, as pyperf's workers are
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from bench import loops
from bench.bodies import BODIES, Body, make_and_close
from bench.errors import MissingError

# The loop is chosen by environment too, and pyperf hands on only what it is told to.
ENVIRONMENT = ("URINGLOOP_BACKEND", "URINGLOOP_DISABLE", "URINGLOOP_PURE")


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
        return await body.run(count)
    finally:
        await loop.shutdown_default_executor()


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
