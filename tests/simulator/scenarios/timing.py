"""Timers and wake-ups on the virtual clock."""

from __future__ import annotations

import asyncio
import itertools

from tests.simulator.world import FailedError, World


async def timers(world: World) -> None:
    """Timers come in the order of their times, none early, none late, cancelled ones not at all,
    whatever else wakes the loop."""
    loop = world.loop
    fired: list[tuple[float, int]] = []
    wanted: list[tuple[float, int]] = []

    def fire(when: float, number: int) -> None:
        if loop.time() + loop._clock_resolution < when:
            raise FailedError(f"timer {number} is early by {when - loop.time()} s")
        if loop.time() > when + 0.001:
            raise FailedError(f"timer {number} is late by {loop.time() - when} s")
        fired.append((when, number))

    for number in range(world.chance.between(1, 300)):
        when = loop.time() + world.chance.pick((0.0, 0.00001, 0.002, 0.5)) * (1 + number % 7)
        timer = loop.call_at(when, fire, when, number)
        if world.chance.happens(300):
            loop.call_later(world.chance.between(0, 500) / 1000, loop.call_soon_threadsafe, int)
        if world.chance.happens(300):
            timer.cancel()
        else:
            wanted.append((when, number))
        if world.chance.happens(100):
            await world.pass_time(0.01)
    await asyncio.sleep(5)
    if sorted(fired) != sorted(wanted):
        raise FailedError(f"{len(fired)} timers of {len(wanted)} fired")
    # One that is registered when another was due may be for a moment before that.
    late_s = [one[0] - other[0] for one, other in itertools.pairwise(fired)]
    if max(late_s, default=0.0) > loop._clock_resolution:
        raise FailedError(f"timers came out of order, by {max(late_s)} s")
