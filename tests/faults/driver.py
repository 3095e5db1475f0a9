"""A real engine for a run: tiny, with faults at its border, and a clock that does not wait.

Everything that a scenario does takes place in this process and in system calls, so when a few
short waits have brought nothing, nothing will come before the next timer; then the clock is put
on to it. A loop that waits for ever and gets nothing is stuck, which is told at once.
"""

from __future__ import annotations

import time
from typing import Any

from tests.driver.engine_harness import TINY
from tests.faults.kernel import RealKernel
from uringloop.driver.binding import ffi, lib
from uringloop.driver.choose import Choice, choose
from uringloop.driver.driver import Driver
from uringloop.driver.features import FEATURE_BITS, IO_URING, try_kernel

QUIET_NS = 300_000
QUIET_ROUNDS = 2
STUCK_ROUNDS = 3_000

# How a turn says that it failed as no engine does; see explain().
FAILED = -71


class StuckError(Exception):
    """The loop waits for ever, and nothing will happen."""


def _choice(backend: str, kernel: RealKernel) -> Choice:
    """The engine, mostly without one of its features, now and then without any."""
    found = choose(backend)
    if backend == "epoll":
        return found
    features = [bit for bit in FEATURE_BITS.values() if bit != IO_URING]
    disabled = kernel.chance.pick([0, 0, 0, sum(features), *features])
    return Choice(backend, "a test asks for it", try_kernel(disabled).features)


class FaultyDriver(Driver):
    """What EventLoop takes as `driver`.

    backend   "io_uring" or "epoll"
    """

    def __init__(self, kernel: RealKernel, backend: str) -> None:
        self.kernel = kernel
        self._skipped_ns = 0
        self._quiet_rounds = 0
        self._is_woken = False
        self._failure: BaseException | None = None
        # Kept here: cffi frees a callback with its object.
        self._turn_pointer = ffi.callback(
            "int(struct ul_engine *, int64_t)", self._turn, error=FAILED, onerror=self._turn_failed
        )
        super().__init__(_choice(backend, kernel), kernel.chance.pick((TINY, TINY, {})))
        self.monotonic = self._monotonic

    def _open(self) -> None:
        super()._open()
        addresses = [
            int(ffi.cast("uintptr_t", pointer))
            for pointer in (self._engine, self._shared, self._turn_pointer)
        ]
        self.rings.bind(*addresses, self._grow)

    def _monotonic(self) -> float:
        return (time.monotonic_ns() + self._skipped_ns) / 1e9

    def _turn_failed(self, kind: Any, error: BaseException, traceback: Any) -> None:
        self._failure = error

    def explain(self, answer: int) -> None:
        if self._failure is not None:
            raise self._failure
        super().explain(answer)

    def wake_from_any_thread(self) -> None:
        self._is_woken = True  # before the engine reads of it
        super().wake_from_any_thread()

    def _turn(self, engine: Any, timeout_ns: int) -> int:
        """A turn; after quiet ones the clock is where the timeout ends."""
        begin_ns = time.monotonic_ns()
        rounds = 0
        while timeout_ns < 0 or rounds < QUIET_ROUNDS:
            answer, is_quiet = self._short_turn(engine, timeout_ns)
            if not is_quiet or self._is_woken:
                self._is_woken = False
                return answer
            rounds += 1
        self._skipped_ns += max(0, begin_ns + timeout_ns - time.monotonic_ns())
        return 0

    def _short_turn(self, engine: Any, timeout_ns: int) -> tuple[int, bool]:
        """A turn of the engine, of less time; and whether it took all that time for nothing, and
        no fault kept anything from coming."""
        wait_ns = QUIET_NS if timeout_ns < 0 else min(timeout_ns, QUIET_NS)
        begin_ns, faults_before = time.monotonic_ns(), lib.ub_total()
        answer: int = lib.ul_turn(engine, wait_ns)
        self.kernel.take_faults()
        is_quiet = answer == 0 != timeout_ns and time.monotonic_ns() - begin_ns >= wait_ns
        is_quiet = is_quiet and lib.ub_total() == faults_before
        self._quiet_rounds = self._quiet_rounds + is_quiet if timeout_ns < 0 and not answer else 0
        if self._quiet_rounds > STUCK_ROUNDS:
            raise StuckError(f"nothing happens; in flight: {self.in_flight.operations()}")
        return answer, is_quiet
