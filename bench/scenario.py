"""What a benchmark of the matrix is: something done on one loop, again and again, and counted.

A scenario starts what it needs for one round of one loop, measures, and ends it all. The
matrix (matrix.py) interleaves the rounds and sums them up; it knows no scenario from inside.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from bench.children import Cores


@dataclass(frozen=True)
class Sample:
    """One round of one loop. Times and operations are of the same window.

    operations      how often that was done which the scenario counts
    measured_cpu_s  CPU time of the measured process, all its threads, system calls included
    p50_us ...      latency of an operation; None where the scenario has none
    extra           other figures by name and unit, such as "KiB per connection"
    """

    operations: int
    seconds: float
    measured_cpu_s: float
    p50_us: float | None = None
    p99_us: float | None = None
    p99_9_us: float | None = None
    extra: dict[str, float] = field(default_factory=dict)

    @property
    def cpu_us_per_operation(self) -> float:
        return self.measured_cpu_s * 1e6 / self.operations

    @property
    def rate_per_s(self) -> float:
        return self.operations / self.seconds

    @property
    def busy(self) -> float:
        """The measured process's share of a core; well below 1 means that it waited."""
        return self.measured_cpu_s / self.seconds


class Scenario(Protocol):
    """One table of the matrix.

    title      what is measured, such as "HTTP hello, uvicorn, 50 connections"
    operation  what is counted, in the singular: "message", "request"

    It may have a `baseline` too: what its ratios refer to, unless the user chose something else.
    """

    title: str
    operation: str

    def runs_on(self, loop: str) -> bool:
        """Whether this can be asked of that loop at all; the C servers only echo."""
        ...

    def run_round(self, loop: str, cores: Cores) -> Sample:
        """Measures once, with everything fresh.

        raises      MissingError: not possible on this machine, with the reason; BenchError:
                    a message was lost, or the measured process failed.
        """
        ...
