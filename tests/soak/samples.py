"""What is measured between two rounds of a soak, and when that counts as growth.

Two sorts of figures, and a criterion for each:

  exact   descriptors, operations in flight, buffers held, tasks. All that a round opens it also
          closes, so between rounds they may never be more than they were after the first one.

  noisy   memory: the resident set, the bytes that malloc has given out, the blocks of Python's
          own allocator. Caches fill and allocators keep what was freed, but not for ever: the
          first third of all samples warms up. Of the second third and of the last third the
          median is taken, which no single peak moves, and from one to the other it may grow by
          no more than what is written in MAY_GROW.

Pure, but for taking a sample. Samples are kept in a file, so that keeping them is no growth.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import statistics
import struct
import sys
from dataclasses import astuple, dataclass, fields
from typing import Any, BinaryIO

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
MIB = 1 << 20


@dataclass(frozen=True)
class Sample:
    """Between two rounds.

    elapsed_ms      since the first round began
    rounds          so many have ended
    resident_bytes  of the process, as the kernel counts it
    malloc_bytes    given out by the C library, of all threads; 0 where it cannot tell
    blocks          given out by Python's allocator
    descriptors     open in the process
    in_flight       operations of the engine without their final event
    buffers_held    receive buffers of the engine
    tasks           of asyncio
    """

    elapsed_ms: int
    rounds: int
    resident_bytes: int
    malloc_bytes: int
    blocks: int
    descriptors: int
    in_flight: int
    buffers_held: int
    tasks: int


EXACT = ("descriptors", "in_flight", "buffers_held", "tasks")

# From the middle third of a run to the last. One object, or a hundred bytes, too much for each
# operation pass these within some hundred rounds. The noise of a run of a few rounds, which are
# all warming up, is a third of it, and that of a run of minutes a tenth.
MAY_GROW = {"resident_bytes": 8 * MIB, "malloc_bytes": 2 * MIB, "blocks": 1000}


class _Mallinfo2(ctypes.Structure):
    """struct mallinfo2 of glibc 2.33, see mallinfo(3)."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    )


_mallinfo2: Any = getattr(ctypes.CDLL(None), "mallinfo2", None)
if _mallinfo2:
    _mallinfo2.restype = _Mallinfo2


def malloc_bytes() -> int:
    if not _mallinfo2:
        return 0
    told = _mallinfo2()
    return int(told.uordblks + told.hblkhd)


def resident_bytes() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * PAGE_BYTES


def counts(loop: Any) -> dict[str, int]:
    """The exact figures, now."""
    engine = loop.driver_state()
    return {
        "descriptors": len(os.listdir("/proc/self/fd")),
        "in_flight": engine.in_flight,
        "buffers_held": engine.buffers_held,
        "tasks": len(asyncio.all_tasks(loop)),
    }


def take(elapsed_ms: int, rounds: int, exact: dict[str, int]) -> Sample:
    """A sample of now. `exact` was counted before, as a coroutine would count itself."""
    return Sample(
        elapsed_ms, rounds, resident_bytes(), malloc_bytes(), sys.getallocatedblocks(), **exact
    )


class Samples:
    """All samples of a run, in an open file."""

    _ROW = struct.Struct(f"={len(fields(Sample))}q")

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def add(self, sample: Sample) -> None:
        self._file.write(self._ROW.pack(*astuple(sample)))
        self._file.flush()

    def all(self) -> list[Sample]:
        self._file.seek(0)
        return [Sample(*row) for row in self._ROW.iter_unpack(self._file.read())]


def more_than(floor: dict[str, int], found: dict[str, int]) -> list[str]:
    """What there is more of than there was after the first round, in words."""
    return [
        f"{name}: {count}, and {floor[name]} after the first round"
        for name, count in found.items()
        if count > floor[name]
    ]


def growth(samples: list[Sample]) -> list[str]:
    """What grew by more than it may, in words. Three samples at least."""
    third = len(samples) // 3
    assert third, "too few samples to tell"
    found = []
    for name, allowed in MAY_GROW.items():
        middle, last = (
            statistics.median(getattr(sample, name) for sample in part)
            for part in (samples[third : 2 * third], samples[-third:])
        )
        if last - middle > allowed:
            found.append(
                f"{name}: grew by {last - middle:.0f} from {middle:.0f}; {allowed} is allowed"
            )
    return found
