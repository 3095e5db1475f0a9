"""What a terminal shows of several workers: their counters added, their lines in between.

Workers publish a row of numbers in shared memory and write their lines into a pipe; the
parent, which has the terminal, shows both. A worker that ends takes its open connections
with it; what it had counted stays.
"""

from __future__ import annotations

import os
import select
from dataclasses import replace
from typing import Protocol

from uringloop.proxy.counters import Counters, SharedRows, UpstreamCounters, added, from_numbers
from uringloop.proxy.serving import Watching

_READ_BYTES = 65536


class Display(Protocol):
    """status.LiveStatus: kept apart, as it needs rich."""

    def show(self, counters: Counters) -> None: ...

    def print_line(self, line: str) -> None: ...


class SharedStatus:
    """Made by the parent before it forks.

    lines_fd   readable when print_lines() has something to do
    """

    def __init__(self, display: Display, workers: int, upstreams: int) -> None:
        self._display = display
        self._workers = workers
        self._rows = SharedRows(workers, upstreams)
        self._ended = [Counters(upstreams=(UpstreamCounters(),) * upstreams).numbers()]
        self.lines_fd, self._writing_fd = os.pipe()
        self._unfinished = b""

    # -- in a worker ------------------------------------------------------------------

    def begin_worker(self, number: int) -> Watching:
        """What is written to stderr from now on goes to the parent. Returns who is told."""
        os.dup2(self._writing_fd, 2)
        return Watching(lambda counters: self._rows.publish(number, counters))

    # -- in the parent ------------------------------------------------------------------

    def worker_ended(self, number: int) -> None:
        """Its row is the next worker's."""
        counted = from_numbers(self._rows.row(number))
        lasting = replace(
            counted,
            open=0,
            upstreams=tuple(
                UpstreamCounters(failures=upstream.failures) for upstream in counted.upstreams
            ),
        )
        self._ended = [added([*self._ended, lasting.numbers()]).numbers()]
        self._rows.publish(number, from_numbers([0] * len(self._ended[0])))

    def show(self) -> None:
        rows = [self._rows.row(number) for number in range(self._workers)]
        self._display.show(added([*self._ended, *rows]))

    def print_lines(self) -> None:
        """Takes what is in the pipe; there must be something."""
        *lines, self._unfinished = (self._unfinished + os.read(self.lines_fd, _READ_BYTES)).split(
            b"\n"
        )
        for line in lines:
            self._display.print_line(line.decode(errors="backslashreplace"))

    def print_rest(self) -> None:
        """The last words of workers that have ended."""
        while select.select([self.lines_fd], [], [], 0)[0]:
            self.print_lines()

    def close(self) -> None:
        os.close(self.lines_fd)
        os.close(self._writing_fd)
        self._rows.close()
