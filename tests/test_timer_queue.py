"""The heap of timers beside heapq's: the same order, also of timers of one moment."""

from __future__ import annotations

import heapq
from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from uringloop import timer_queue
from uringloop.handles import new_timer

LOOP = SimpleNamespace(get_debug=bool)
# Few moments, so that many timers share one.
MOMENTS = st.lists(st.integers(0, 9).map(float), max_size=60)


def timers(moments: list[float]) -> list[Any]:
    return [new_timer(moment, print, (), LOOP, None) for moment in moments]


@given(MOMENTS)
def test_pushed_and_popped_as_by_heapq(moments: list[float]) -> None:
    ours: list[Any] = []
    theirs: list[Any] = []
    for timer in timers(moments):
        timer_queue.push(ours, timer)
        heapq.heappush(theirs, timer)
    while theirs:
        assert timer_queue.pop(ours) is heapq.heappop(theirs)
    assert ours == []


@given(MOMENTS)
def test_put_in_order_as_by_heapq(moments: list[float]) -> None:
    ours = timers(moments)
    theirs = list(ours)
    timer_queue.heapify(ours)
    heapq.heapify(theirs)
    assert [id(timer) for timer in ours] == [id(timer) for timer in theirs]


@given(MOMENTS, MOMENTS)
def test_mixed_pushes_and_pops_as_by_heapq(first: list[float], second: list[float]) -> None:
    ours = timers(first)
    timer_queue.heapify(ours)
    theirs = list(ours)
    for timer in timers(second):
        if ours:
            assert timer_queue.pop(ours) is heapq.heappop(theirs)
        timer_queue.push(ours, timer)
        heapq.heappush(theirs, timer)
    assert [id(timer) for timer in ours] == [id(timer) for timer in theirs]
