"""A heap of timers in a plain list: the earliest is the first.

The functions do what heapq's do, in the same order for timers of the same moment, but compare
the moments themselves: heapq would call TimerHandle.__lt__, which costs more than the rest.

Pure: no clock, no loop. Compiled by Cython together with timer_queue.pxd.
"""

from __future__ import annotations

from typing import Any


def push(heap: list[Any], timer: Any) -> None:
    """Adds a timer."""
    heap.append(timer)
    _rise(heap, 0, len(heap) - 1)


def pop(heap: list[Any]) -> Any:
    """Takes the earliest timer out; there must be one."""
    last = heap.pop()
    if not heap:
        return last
    earliest = heap[0]
    heap[0] = last
    _sink(heap, 0)
    return earliest


def heapify(heap: list[Any]) -> None:
    """Puts timers in any order into a heap's order."""
    position = len(heap) // 2
    while position > 0:
        position -= 1
        _sink(heap, position)


def _rise(heap: list[Any], top: int, position: int) -> None:
    """Moves what is at `position` up, towards `top`, past everything later."""
    timer = heap[position]
    while position > top:
        above = (position - 1) // 2
        other = heap[above]
        if timer._when >= other._when:
            break
        heap[position] = other
        position = above
    heap[position] = timer


def _sink(heap: list[Any], top: int) -> None:
    """Moves what is at `top` down to where it belongs.

    First to the bottom, where what was the last of the heap mostly belongs, then up again.
    """
    end = len(heap)
    timer = heap[top]
    position = top
    below = 2 * position + 1
    while below < end:
        child = heap[below]
        if below + 1 < end:
            sibling = heap[below + 1]
            if child._when >= sibling._when:
                child = sibling
                below += 1
        heap[position] = child
        position = below
        below = 2 * position + 1
    heap[position] = timer
    _rise(heap, top, position)
