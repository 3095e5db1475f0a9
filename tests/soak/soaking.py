"""Rounds of load on one loop, and what is found between them."""

from __future__ import annotations

import asyncio
import gc
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from random import Random
from typing import Any

from tests.loops import driver_leftovers
from tests.soak.ground import Ground, ground
from tests.soak.loads import LOADS, Load
from tests.soak.samples import Sample, Samples, counts, growth, more_than, take

ROUND_LIMIT_S = 120
# The first round is over, with all that it leads to, when so many turns of a millisecond or more
# have changed nothing.
STILL_TURNS = 100

# What part of the run is over, after so many rounds and seconds; it goes on below 1.
Progress = Callable[[int, float], float]
Observer = Callable[[Sample], object]


class Soaking:
    """One run.

    progress   says after each round what part of the run is over
    observer   is told each sample
    loads      by name; all of them at once are a round
    settling   turns of a millisecond or more, at most, that a round is given until nothing is
               left of it
    """

    def __init__(
        self,
        progress: Progress,
        observer: Observer,
        loads: Mapping[str, Load] = LOADS,
        seed: int = 0,
        settling: int = 10_000,
    ) -> None:
        self.operations: Counter[str] = Counter()
        self.found: list[str] = []
        self.samples: list[Sample] = []
        self.rounds = 0
        self._progress = progress
        self._observer = observer
        self._loads = loads
        self._seed = seed
        self._settling = settling
        self._floor: dict[str, int] = {}

    async def run(self) -> None:
        """To the end, or to the first finding; what a load raises is raised."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._report)
        with tempfile.TemporaryFile() as file:
            kept = Samples(file)
            async with ground() as there:
                gc.collect()
                gc.freeze()  # what is there now stays: each round looks at its own objects alone
                await self._rounds(there, kept)
            self.samples = kept.all()
        if not self.found:
            self.found += growth(self.samples)
        await self._end()

    async def _rounds(self, there: Ground, kept: Samples) -> None:
        began_s = time.monotonic()
        elapsed_s = 0.0
        while not self.found and self._progress(self.rounds, elapsed_s) < 1:
            await asyncio.wait_for(self._round(there), ROUND_LIMIT_S)
            self.rounds += 1
            exact = await self._settled()
            gc.collect()
            elapsed_s = time.monotonic() - began_s
            sample = take(int(elapsed_s * 1000), self.rounds, exact)
            kept.add(sample)
            self._observer(sample)
            left = more_than(self._floor, exact)
            self.found += [f"after round {self.rounds}, {each}" for each in left]

    async def _round(self, there: Ground) -> None:
        async def one(name: str, load: Load) -> None:
            random = Random(f"{self._seed} {self.rounds} {name}")
            self.operations[name] += await load(there, random)

        await asyncio.gather(*(one(name, load) for name, load in self._loads.items()))

    async def _settled(self) -> dict[str, int]:
        """The exact figures when all of a round is over; those of the first round are kept."""
        if not self._floor:
            self._floor = await self._least()
        found = counts(asyncio.get_running_loop())
        for _ in range(self._settling):
            if not more_than(self._floor, found):
                break
            await asyncio.sleep(0.001)
            found = counts(asyncio.get_running_loop())
        return found

    async def _least(self) -> dict[str, int]:
        """The figures that have not changed for a while."""
        found = counts(asyncio.get_running_loop())
        still = 0
        while still < STILL_TURNS:
            await asyncio.sleep(0.001)
            before, found = found, counts(asyncio.get_running_loop())
            still = still + 1 if found == before else 0
        return found

    async def _end(self) -> None:
        """The ground is gone as well: the engine holds nothing but what is the loop's own."""
        loop = asyncio.get_running_loop()
        for _ in range(self._settling):
            if not driver_leftovers(loop):
                return
            await asyncio.sleep(0.001)
        self.found += [f"at the end, {each}" for each in driver_leftovers(loop)]

    def _report(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.found.append(f"reported: {context['message']}: {context.get('exception')!r}")
