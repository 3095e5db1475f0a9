"""What a feature of the io_uring engine costs a ring and a request, with it and without in turn.

    python -m bench.feature_cost restricted_ring
    python -m bench.feature_cost registered_ring --rounds 100

At the engine's border, without Python's loop: `ring` is to open a ring, enable it and close it
again; `request` is one POLL of a descriptor that is ready, of 200 in a turn, from its command to
its event. CPU time of the thread, the kernel's included; medians of one run.

Exit status: 0 done, 1 the feature cannot be had here, 2 it is none.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from typing import Any

from bench import options
from uringloop.driver.binding import UL_OP_POLL, ffi, lib
from uringloop.driver.features import FEATURE_BITS, IO_URING, try_kernel

ROUNDS = 40
RINGS = 5  # of which the quickest counts
REQUESTS = 200  # in a turn; fewer than SQEs in a ring
TURNS = 10  # of which the quickest counts
POLLIN = 1
NS_PER_US = 1000


@contextmanager
def engine(features: int) -> Any:
    """An open engine, after its first turn."""
    opened = ffi.new("struct ul_engine **")
    error = lib.ul_open(ffi.new("struct ul_config *", {"features": features}), opened)
    if error:
        raise OSError(-error, os.strerror(-error))
    try:
        checked(lib.ul_turn(opened[0], 0))
        yield opened[0]
    finally:
        lib.ul_close(opened[0])


def checked(answer: int) -> int:
    if answer < 0:
        raise OSError(-answer, os.strerror(-answer))
    return answer


def ring_us(features: int) -> float:
    taken = []
    for _ in range(RINGS):
        begin = time.thread_time_ns()
        with engine(features):
            pass
        taken.append(time.thread_time_ns() - begin)
    return min(taken) / NS_PER_US


def request_ns(features: int) -> float:
    ready = os.eventfd(1)
    taken = []
    with engine(features) as opened:
        for _ in range(TURNS):
            stage(lib.ul_shared_of(opened), ready)
            begin = time.thread_time_ns()
            count = checked(lib.ul_turn(opened, 0))
            taken.append(time.thread_time_ns() - begin)
            assert count == REQUESTS, count
    os.close(ready)
    return min(taken) / REQUESTS


def stage(shared: Any, ready: int) -> None:
    for token in range(REQUESTS):
        command = {"token": token, "fd": ready, "argument": POLLIN, "opcode": UL_OP_POLL}
        shared.commands[token] = {"address": 0, "length": 0, "flags": 0, "reserved": 0, **command}
    shared.command_count = REQUESTS


def in_turn(
    measure: Callable[[int], float], features: int, bit: int, rounds: int
) -> tuple[list[float], list[float]]:
    """Figures without and with the feature; who is first changes with each round."""
    figures: dict[int, list[float]] = {0: [], bit: []}
    for number in range(rounds):
        for chosen in (0, bit) if number % 2 else (bit, 0):
            figures[chosen].append(measure(features & ~bit | chosen))
    return figures[0], figures[bit]


def report(what: str, unit: str, without: list[float], having: list[float]) -> str:
    before, after = statistics.median(without), statistics.median(having)
    return f"{what:8} {before:9.1f} {unit} without, {after:9.1f} {unit} with: {after - before:+.1f}"


def main(arguments: Sequence[str]) -> int:
    parser = options.parser_of("bench.feature_cost", __doc__)
    names = [name for name in FEATURE_BITS if name != "io_uring"]
    parser.add_argument("feature", choices=names, metavar="FEATURE")
    parser.add_argument("--rounds", type=options.positive, default=ROUNDS)
    chosen = parser.parse_args(arguments)
    bit = FEATURE_BITS[chosen.feature]
    features = try_kernel(0).features
    if not features & IO_URING or not features & bit:
        print(f"{chosen.feature} cannot be had here", file=sys.stderr)
        return 1
    print(report("ring", "us", *in_turn(ring_us, features, bit, chosen.rounds)))
    print(report("request", "ns", *in_turn(request_ns, features, bit, chosen.rounds)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
