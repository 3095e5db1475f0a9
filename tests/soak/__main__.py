"""Loads an engine for a long time, and says whether anything failed, was left or grew.

python -m tests.soak --engine io_uring --minutes 30
python -m tests.soak --engine epoll --rounds 30

Prints some lines of what was measured, then a verdict; status 1 if that is not "passed". What a
load raises ends the run with its traceback.
"""

from __future__ import annotations

import argparse
import platform
import sys
import warnings

from tests.loops import OURS, run
from tests.soak.loads import LOADS
from tests.soak.samples import Sample
from tests.soak.soaking import Progress, Soaking

LINES = 10
ROUNDS_MIN = 9
COLUMNS = {
    "minute": lambda sample: f"{sample.elapsed_ms / 60_000:.2f}",
    "rounds": lambda sample: str(sample.rounds),
    "RSS MiB": lambda sample: f"{sample.resident_bytes / (1 << 20):.2f}",
    "malloc KiB": lambda sample: f"{sample.malloc_bytes / 1024:.0f}",
    "blocks": lambda sample: str(sample.blocks),
    "fds": lambda sample: str(sample.descriptors),
    "in flight": lambda sample: str(sample.in_flight),
    "buffers": lambda sample: str(sample.buffers_held),
    "tasks": lambda sample: str(sample.tasks),
}


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.soak",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--engine", choices=OURS, default="io_uring")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--minutes", type=float, default=30.0)
    length.add_argument("--rounds", type=int, help=f"instead of minutes; at least {ROUNDS_MIN}")
    parser.add_argument("--seed", type=int, default=0, help="of the bytes and the cancellations")
    arguments = parser.parse_args()
    if arguments.rounds is not None:
        return soak(arguments.engine, in_rounds(max(arguments.rounds, ROUNDS_MIN)), arguments.seed)
    return soak(arguments.engine, in_minutes(arguments.minutes), arguments.seed)


def in_rounds(wanted: int) -> Progress:
    return lambda rounds, elapsed_s: rounds / wanted


def in_minutes(wanted: float) -> Progress:
    """And never fewer rounds than a verdict needs."""
    return lambda rounds, elapsed_s: min(elapsed_s / (wanted * 60), rounds / ROUNDS_MIN)


def soak(engine: str, progress: Progress, seed: int) -> int:
    warnings.simplefilter("error")
    if sys.version_info < (3, 11):  # whose SSLProtocol complains of what the peer has closed
        warnings.filterwarnings("ignore", "unclosed transport <asyncio.sslproto", ResourceWarning)
    forgotten: list[str] = []
    sys.unraisablehook = lambda raised: forgotten.append(f"not raised: {raised.exc_value!r}")
    soaking = Soaking(progress, Table(progress).show, seed=seed)
    run(engine, soaking.run)
    found = soaking.found + forgotten
    print(*found, sep="\n", end="\n" if found else "")
    print(", ".join(f"{name} {soaking.operations[name]}" for name in LOADS))
    print(
        f"soak on {engine}: {'FAILED' if found else 'passed'} after {soaking.rounds} rounds"
        f" (CPython {platform.python_version()}, kernel {platform.release()})"
    )
    return 1 if found else 0


class Table:
    """Shows a sample at the first round and then at each tenth of the run."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._lines = 0
        print(*(f"{name:>10}" for name in COLUMNS))

    def show(self, sample: Sample) -> None:
        part = self._progress(sample.rounds, sample.elapsed_ms / 1000)
        if self._lines <= part * LINES:
            self._lines = int(part * LINES) + 1
            print(*(f"{shown(sample):>10}" for shown in COLUMNS.values()), flush=True)


sys.exit(main())
