"""What a loop counts, as a record: `loop.metrics()`.

Counting costs next to nothing: words that the engine adds to anyway, two readings of the clock for
a turn that may wait and one for any other, and the kernel's own account of the thread's time on a
CPU, which is looked at only when somebody asks.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from uringloop.driver.binding import UL_HELD_WINDOW_S
from uringloop.driver.driver import DriverState, HeldWindow

_NS = 1e-9

# The kernel's number for "time on a CPU" of a thread of this process is made of the thread's own:
# CPUCLOCK_PERTHREAD | CPUCLOCK_SCHED in the low bits (include/linux/posix-timers.h), which
# pthread_getcpuclockid(3) hides. That call reads the memory of a thread which may have ended.
_THREAD_CLOCK_BITS = 6


@dataclass(frozen=True)
class Metrics:
    """What a loop holds at the moment, and what it has counted since it was made.

    Counters only grow; figures of the moment are 0 once the loop is closed.

    backend                 the engine: "io_uring" or "epoll"
    turns                   counter: times that the loop went to the kernel and came back
    enters                  counter: calls of io_uring_enter(2); epoll: of epoll_wait(2)
    sqes                    counter: requests that the kernel took; epoll: system calls tried for
                            operations
    cqes                    counter: answers seen; epoll: reports of readiness seen
    busy_s                  counter: seconds, of those in which the loop ran, that its thread was on
                            a CPU, in the kernel or not; resolution: the scheduler's
    waiting_s               counter: the other seconds: asleep in the kernel, blocked in a callback,
                            or waiting for a CPU
    callbacks_s             counter: seconds between two turns, which callbacks and the loop's own
                            Python took: nothing new was seen meanwhile
    lag_s                   seconds: how late the loop was on average, over the last 10 to 20
                            seconds, for what became ready at a random moment
    lag_max_s               seconds: the longest that callbacks kept the loop from looking, in the
                            same time; what lasts at the moment counts
    timers                  timers that are set
    ready                   callbacks that wait for their turn
    connections_open        stream transports of sockets that are not closed yet
    connections_accepted    counter: those that a server of this loop accepted
    connections_made        counter: the others: connected, or handed over as a socket
    bytes_received          counter: bytes that came by transports and sock_*() calls; by a relay:
                            only in bytes_relayed
    bytes_sent              counter: bytes that were sent by them; of an operation once it is over
    bytes_relayed           counter: bytes that relays carried within the engine
    buffer_shortages        counter: receives that had to wait for a buffer (ENOBUFS); epoll: for
                            room in the memory of a turn
    overflows               counter: turns that found the completion queue overflowing (io_uring)
    buffers_held            receive buffers that events name, and pieces that relays hold
    in_flight               operations that the kernel has not answered, the loop's own included
    """

    backend: str
    turns: int
    enters: int
    sqes: int
    cqes: int
    busy_s: float
    waiting_s: float
    callbacks_s: float
    lag_s: float
    lag_max_s: float
    timers: int
    ready: int
    connections_open: int
    connections_accepted: int
    connections_made: int
    bytes_received: int
    bytes_sent: int
    bytes_relayed: int
    buffer_shortages: int
    overflows: int
    buffers_held: int
    in_flight: int

    @property
    def sqes_per_enter(self) -> float:
        """Requests that one system call hands over, on average; 0.0 before the first."""
        return self.sqes / self.enters if self.enters else 0.0

    @property
    def cqes_per_enter(self) -> float:
        """Answers that one system call brings, on average; 0.0 before the first."""
        return self.cqes / self.enters if self.enters else 0.0


class RunTimes:
    """For how long a loop ran, and how much of that its thread was on a CPU.

    monotonic   the loop's clock, in seconds
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        # Seconds of the runs that are over (by the clock, on a CPU), and of the run under way its
        # beginnings and its thread's number. One object, as other threads read it.
        self._times: tuple[float, float, tuple[float, float, int] | None] = (0.0, 0.0, None)

    @property
    def is_running(self) -> bool:
        return self._times[2] is not None

    def begin(self) -> None:
        """The loop runs from now on, in this thread."""
        begun = (self._monotonic(), time.thread_time(), threading.get_native_id())
        self._times = (*self._times[:2], begun)

    def end(self) -> None:
        self._times = (*self.read(), None)

    def read(self) -> tuple[float, float]:
        """Seconds by the clock, and on a CPU, up to now."""
        ran_s, on_cpu_s, begun = self._times
        if begun is None:
            return ran_s, on_cpu_s
        begun_s, begun_on_cpu_s, thread = begun
        try:
            now_on_cpu_s = time.clock_gettime(~thread << 3 | _THREAD_CLOCK_BITS)
        except OSError:
            # The thread is no more: the run has ended just now, or this is a fork's child.
            return self._times[:2]
        return ran_s + self._monotonic() - begun_s, on_cpu_s + now_on_cpu_s - begun_on_cpu_s


def lateness_of(state: DriverState, now_ns: int, is_running: bool) -> tuple[float, float]:
    """How late the loop was of late, on average and at most, in seconds.

    now_ns   CLOCK_MONOTONIC, in nanoseconds
    """
    windows = _recent_windows(state, now_ns)
    # What other threads see of a callback that does not end; one's own callback is one, too.
    stretch_ns = now_ns - state.held_since_ns if is_running and state.held_since_ns else 0
    stretch_s = max(stretch_ns, 0) * _NS
    lateness = stretch_s**2 / 2 + sum(each.lateness for each in windows)
    longest_s = max([stretch_s, *(each.longest_ns * _NS for each in windows)])
    begins_ns = [each.begin_ns for each in windows] or [now_ns - stretch_ns]
    length_s = (now_ns - min(begins_ns)) * _NS
    return (lateness / length_s if length_s > 0 else 0.0), longest_s


def _recent_windows(state: DriverState, now_ns: int) -> list[HeldWindow]:
    """Those that tell of the last two windows' time. A loop that sleeps begins no new ones."""
    length_ns = UL_HELD_WINDOW_S / _NS
    latest, before = state.held_windows
    age_ns = now_ns - latest.begin_ns
    recent = [latest] if age_ns < 2 * length_ns else []
    if age_ns < length_ns:
        recent.append(before)
    return [each for each in recent if each.begin_ns]


def metrics_of(loop: Any) -> Metrics:
    """The record of a loop of ours, open or closed, from any thread."""
    state: DriverState = loop.driver_state()
    counters = state.counters
    ran_s, busy_s = loop._run_times.read()
    lag_s, lag_max_s = lateness_of(state, time.monotonic_ns(), loop._run_times.is_running)
    ready, timers = loop._queued()
    return Metrics(
        backend=loop.backend,
        turns=counters["turns"],
        enters=counters["enters"],
        sqes=counters["submissions"],
        cqes=counters["completions"],
        busy_s=busy_s,
        waiting_s=max(ran_s - busy_s, 0.0),
        callbacks_s=state.held_ns * _NS,
        lag_s=lag_s,
        lag_max_s=lag_max_s,
        timers=timers,
        ready=ready,
        connections_open=loop._streams_open,
        connections_accepted=loop._streams_accepted,
        connections_made=loop._streams_made,
        bytes_received=counters["bytes_received"] + loop._bytes_received_directly,
        bytes_sent=counters["bytes_sent"] + loop._bytes_sent_directly,
        bytes_relayed=counters["bytes_relayed"],
        buffer_shortages=counters["buffer_shortages"],
        overflows=counters["overflows"],
        buffers_held=state.buffers_held,
        in_flight=state.in_flight,
    )
