"""Other threads, which wake a loop that waits for nothing else."""

from __future__ import annotations

import asyncio
import functools

from tests.simulator.world import FailedError, World

THREADS_MAX = 60
TOGETHER_S = 0.000_01


async def wakes(world: World) -> None:
    """Each call of another thread is heard, once; there is no timer that would wake the loop."""
    count = world.chance.between(1, THREADS_MAX)
    heard: list[int] = []
    all_heard = asyncio.Event()

    def hear(number: int) -> None:
        heard.append(number)
        if world.chance.happens(200):
            world.loop.call_soon(int)
        if len(heard) == count:
            all_heard.set()

    delay_s = 0.0
    for number in range(count):
        delay_s += world.chance.pick((0.0, 0.0, TOGETHER_S, 0.001))
        world.kernel.run_in_another_thread(
            delay_s, functools.partial(world.loop.call_soon_threadsafe, hear, number)
        )
    await all_heard.wait()
    if sorted(heard) != list(range(count)):
        raise FailedError(f"of {count} calls these were heard: {heard}")


async def commands(world: World) -> None:
    """Coroutines that other threads hand over, one after the other, and what they answer."""
    answers: list[int] = []
    all_answered = asyncio.Event()
    count = world.chance.between(1, 10)

    async def double(number: int) -> int:
        await world.pass_time(0.001)
        return 2 * number

    def answered(future: asyncio.Future[int]) -> None:
        answers.append(future.result())
        if len(answers) == count:
            world.loop.call_soon_threadsafe(all_answered.set)

    def hand_over(number: int) -> None:
        future = asyncio.run_coroutine_threadsafe(double(number), world.loop)
        future.add_done_callback(answered)  # type: ignore[arg-type]

    for number in range(count):
        delay_s = number * world.chance.pick((0.0, TOGETHER_S))
        world.kernel.run_in_another_thread(delay_s, functools.partial(hand_over, number))
    await all_answered.wait()
    if sorted(answers) != [2 * number for number in range(count)]:
        raise FailedError(f"{count} coroutines were handed over, and answered {answers}")
