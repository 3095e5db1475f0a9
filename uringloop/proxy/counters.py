"""What the proxy has counted, as one record; and as rows of numbers that processes share.

Pure but for the shared memory. A worker publishes its row, the parent reads them all; each
number is one aligned 8-byte word, so a row may be between two moments but no number is torn.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass


@dataclass(frozen=True)
class UpstreamCounters:
    """One upstream: open connections, failures to connect ever, whether it is left alone."""

    open: int = 0
    failures: int = 0
    backing_off: int = 0  # in how many workers


@dataclass(frozen=True)
class Counters:
    """Connections open, accepted ever, that came to a bad end; bytes since the start."""

    open: int = 0
    accepted: int = 0
    failed: int = 0
    bytes_up: int = 0  # from clients to upstreams
    bytes_down: int = 0
    upstreams: tuple[UpstreamCounters, ...] = ()

    def numbers(self) -> list[int]:
        """All of it in a row; from_numbers() undoes it."""
        own = [self.open, self.accepted, self.failed, self.bytes_up, self.bytes_down]
        return [*own, *(number for each in self.upstreams for number in astuple(each))]


_OWN = 5
_PER_UPSTREAM = 3


def from_numbers(numbers: Sequence[int]) -> Counters:
    """The record that a row stands for."""
    upstreams = tuple(
        UpstreamCounters(*numbers[start : start + _PER_UPSTREAM])
        for start in range(_OWN, len(numbers), _PER_UPSTREAM)
    )
    open_now, accepted, failed, bytes_up, bytes_down = numbers[:_OWN]
    return Counters(open_now, accepted, failed, bytes_up, bytes_down, upstreams)


def added(rows: Iterable[Sequence[int]]) -> Counters:
    """The record of several workers together."""
    return from_numbers([sum(column) for column in zip(*rows, strict=True)])


class SharedRows:
    """A row for each worker, in memory that children of this process share with it.

    workers     how many rows
    upstreams   how many upstreams each row tells of
    """

    def __init__(self, workers: int, upstreams: int) -> None:
        self._width = _OWN + _PER_UPSTREAM * upstreams
        self._memory = mmap.mmap(-1, workers * self._width * 8)
        self._words = memoryview(self._memory).cast("q")

    def publish(self, worker: int, counters: Counters) -> None:
        for position, number in enumerate(counters.numbers(), worker * self._width):
            self._words[position] = number

    def row(self, worker: int) -> list[int]:
        return self._words[worker * self._width : (worker + 1) * self._width].tolist()

    def close(self) -> None:
        self._words.release()
        self._memory.close()
