"""Random programs of call_soon, call_at, call_later and cancel, in asyncio's order.

Row 39. All that runs is due when it is asked for, and times differ by seconds or not at all:
so the order is a matter of the program alone, however slow the machine. A failure prints the
shortest program. For more of them:

    TIMER_EXAMPLES=10000 pytest tests/test_timer_programs.py
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from loops import make_loop
from peers import turns

EXAMPLES = int(os.environ.get("TIMER_EXAMPLES", "200"))
FAR_S = 1000.0
MANY = 120  # cancelled timers: enough for the heap to be built anew


@dataclass(frozen=True)
class Entry:
    """Something to schedule, by the entry `parent` before it or at the start.

    how      the method; "far" is a timer that is not due, "many" are MANY, soon cancelled
    late_s   how long it has been due, for the timers
    cancels  the entry that is cancelled when this one runs, or None
    """

    parent: int
    how: str
    late_s: int
    cancels: int | None


ENTRIES = st.builds(
    Entry,
    parent=st.integers(0, 30),
    how=st.sampled_from(["soon", "threadsafe", "at", "later", "far", "many"]),
    late_s=st.integers(0, 3),
    cancels=st.none() | st.integers(0, 30),
)


class Run:
    """A program on a loop: the order in which its entries ran, and what was cancelled."""

    def __init__(self, kind: str, program: list[Entry]) -> None:
        self.program = program
        self.order: list[int] = []
        self.handles: dict[int, Any] = {}
        self.loop = make_loop(kind)
        self.base_s = self.loop.time()
        try:
            self.loop.run_until_complete(self._main())
        finally:
            self.loop.close()

    async def _main(self) -> None:
        self._schedule_children(-1)
        await turns(2 * len(self.program) + 2)

    def _schedule_children(self, parent: int) -> None:
        for number, entry in enumerate(self.program):
            if entry.parent % (number + 1) - 1 == parent:
                self.handles[number] = self._schedule(number, entry)

    def _schedule(self, number: int, entry: Entry) -> Any:
        if entry.how == "soon":
            return self.loop.call_soon(self._ran, number)
        if entry.how == "threadsafe":
            return self.loop.call_soon_threadsafe(self._ran, number)
        if entry.how == "at":
            return self.loop.call_at(self.base_s - 10.0 * entry.late_s, self._ran, number)
        if entry.how == "later":
            return self.loop.call_later(-10.0 * entry.late_s - 5, self._ran, number)
        return self._schedule_far(number, 1 if entry.how == "far" else MANY)

    def _schedule_far(self, number: int, count: int) -> asyncio.TimerHandle:
        for _ in range(count - 1):
            self.loop.call_later(FAR_S, self._ran, number).cancel()
        return self.loop.call_later(FAR_S, self._ran, number)

    def _ran(self, number: int) -> None:
        self.order.append(number)
        self._schedule_children(number)
        cancelled = self.program[number].cancels
        if cancelled in self.handles:
            self.handles[cancelled].cancel()

    def cancelled(self) -> list[int]:
        return [number for number, handle in sorted(self.handles.items()) if handle.cancelled()]


@pytest.mark.ours
def test_callbacks_and_timers_run_in_asyncios_order(loop_kind: str) -> None:
    @settings(max_examples=EXAMPLES, derandomize=True, database=None, deadline=None)
    @given(program=st.lists(ENTRIES, min_size=1, max_size=30))
    def compare(program: list[Entry]) -> None:
        expected = Run("asyncio", program)
        run = Run(loop_kind, program)
        assert run.order == expected.order
        assert run.cancelled() == expected.cancelled()

    compare()
