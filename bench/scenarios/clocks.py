"""The CPU clock of another process, as the kernel's scheduler keeps it.

The sum over all threads of the process, ended ones and io_uring's workers included, user
and system time, in nanoseconds; children are not in it. What a thread that runs just now
has used since its last tick may be missing: at most one tick (1 to 10 ms) a reading.
"""

from __future__ import annotations

import ctypes
import time

from bench.errors import BenchError


class CpuClock:
    """Of one process, by its id."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        clock = ctypes.c_int()
        error = ctypes.CDLL(None).clock_getcpuclockid(pid, ctypes.byref(clock))
        if error != 0:
            raise BenchError(f"there is no process {pid} to measure")
        self._clock = clock.value

    def read_ns(self) -> int:
        try:
            return time.clock_gettime_ns(self._clock)
        except OSError as error:
            raise BenchError(f"the measured process {self._pid} has ended") from error


class Stopwatch:
    """CPU time of a process and time on the wall, of the same window."""

    def __init__(self, pid: int) -> None:
        self._clock = CpuClock(pid)
        self._started_cpu_ns = self._clock.read_ns()
        self._started_ns = time.perf_counter_ns()

    def read_s(self) -> tuple[float, float]:
        """(seconds, CPU seconds) since it was made."""
        ended_ns = time.perf_counter_ns()
        cpu_ns = self._clock.read_ns() - self._started_cpu_ns
        return (ended_ns - self._started_ns) / 1e9, cpu_ns / 1e9
