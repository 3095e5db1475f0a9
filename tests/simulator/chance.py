"""What a seed decides: every choice of the simulated kernel, from one generator of numbers.

Nothing else may be random. Each run draws a temper first (how often things are late, cut short,
interrupted, refused), so that some seeds are calm and others a storm. Pure.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

Item = TypeVar("Item")

MICROSECOND = 1_000
MILLISECOND = 1_000_000
SECOND = 1_000_000_000

NEVER = 1 << 62


@dataclass(frozen=True)
class Temper:
    """How the kernel of one run behaves; chances in a thousand.

    errors        an operation ends with an errno
    delays        an answer is not there at once
    cuts          less is moved than could be
    interrupts    a turn ends without looking
    shortages     receive buffers are said to be short
    losing        a cancel comes too late for what is ready
    capacity      events a turn
    buffers       receives a turn
    room          bytes in each direction of a connection
    """

    errors: int
    delays: int
    cuts: int
    interrupts: int
    shortages: int
    losing: int
    capacity: int
    buffers: int
    room: int


class Chance:
    """Choices from a seed. The same seed and name make the same choices for ever."""

    def __init__(self, seed: int, name: str) -> None:
        self._number = random.Random(f"{name} {seed}").random
        self.temper = self._draw_temper()

    def _draw_temper(self) -> Temper:
        pick = self.pick
        return Temper(
            errors=pick((0, 0, 5, 40)),
            delays=pick((0, 200, 500, 900)),
            cuts=pick((0, 300, 900)),
            interrupts=pick((0, 0, 50, 300)),
            shortages=pick((0, 0, 50, 400)),
            losing=pick((0, 500, 1000)),
            capacity=pick((2, 3, 7, 1024)),
            buffers=pick((1, 2, 64)),
            room=pick((1, 100, 3_000, 70_000, 300_000)),
        )

    def happens(self, in_thousand: int) -> bool:
        return in_thousand > 0 and self._number() * 1000 < in_thousand

    def pick(self, items: Sequence[Item]) -> Item:
        return items[int(self._number() * len(items))]

    def between(self, low: int, high: int) -> int:
        """An integer, both ends included."""
        return low + int(self._number() * (high - low + 1))

    def shuffled(self, items: Sequence[Item]) -> list[Item]:
        return sorted(items, key=lambda _: self._number()) if len(items) > 1 else list(items)

    def part_of(self, size: int) -> int:
        """How much of `size` is moved at once, 1 at least: often all, sometimes one byte."""
        if size > 1 and self.happens(self.temper.cuts):
            return self.between(1, self.pick((1, min(size, 20), size)))
        return size

    def delay_ns(self) -> int:
        """How long something takes: mostly nothing, rarely a time that a timer would notice."""
        if not self.happens(self.temper.delays):
            return 0
        longest = self.pick((MICROSECOND, 100 * MICROSECOND, 100 * MICROSECOND, 5 * MILLISECOND))
        if self.happens(10):
            longest = SECOND // 3
        return self.between(1, longest)
