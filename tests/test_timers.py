"""call_later and call_at: order, precision, odd numbers, cancelled timers."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import math
import random
import sys
import time
import weakref
from asyncio import AbstractEventLoop

import pytest

LATENESS_MAX_S = 1.0  # generous: the machine may be busy


def run_for(loop: AbstractEventLoop, seconds: float) -> None:
    loop.call_later(seconds, loop.stop)
    loop.run_forever()


def test_timers_fire_in_the_order_of_their_times(loop: AbstractEventLoop) -> None:
    order = list(range(200))
    random.Random(1).shuffle(order)
    fired: list[int] = []
    start = loop.time()
    for number in order:
        loop.call_at(start + number * 0.0001, fired.append, number)
    run_for(loop, 0.03)
    assert fired == sorted(order)


def test_a_timer_made_due_by_a_callback_waits_behind_what_was_called_soon(
    loop: AbstractEventLoop,
) -> None:
    fired: list[str] = []

    def schedule() -> None:
        loop.call_soon(fired.append, "soon")
        loop.call_at(loop.time() - 1, fired.append, "due")
        loop.call_at(loop.time(), loop.stop)

    loop.call_soon(schedule)
    loop.run_forever()
    assert fired == ["soon", "due"]


def test_call_at_and_call_later_share_one_order(loop: AbstractEventLoop) -> None:
    fired: list[str] = []
    loop.call_later(0.010, fired.append, "later")
    loop.call_at(loop.time() + 0.005, fired.append, "at")
    loop.call_soon(fired.append, "soon")
    run_for(loop, 0.02)
    assert fired == ["soon", "at", "later"]


@pytest.mark.parametrize("delay", [0.0005, 0.0013, 0.01, 0.05])
def test_a_timer_fires_neither_early_nor_very_late(delay: float, loop: AbstractEventLoop) -> None:
    resolution = time.get_clock_info("monotonic").resolution
    start = loop.time()
    fired: list[float] = []
    loop.call_later(delay, lambda: (fired.append(loop.time() - start), loop.stop()))
    loop.run_forever()
    assert delay - resolution <= fired[0] < delay + LATENESS_MAX_S


@pytest.mark.parametrize("delay", [0, -1, -1e9, -math.inf, 1e-12])
def test_a_delay_that_is_over_fires_at_once(delay: float, loop: AbstractEventLoop) -> None:
    """Row 39."""
    fired: list[float] = []
    loop.call_later(delay, fired.append, delay)
    run_for(loop, 0.001)
    assert len(fired) == 1


@pytest.mark.difference("nan_delay")
def test_a_delay_that_is_not_a_number_breaks_neither_loop_nor_order(
    loop: AbstractEventLoop,
) -> None:
    """Row 39: refused with ValueError, or over at once."""
    fired: list[float] = []
    start = loop.time()
    for number in range(50):
        loop.call_at(start + (50 - number) * 1e-4, fired.append, 50 - number)
        if number % 10 == 0:
            with contextlib.suppress(ValueError):
                loop.call_later(math.nan, str)
    run_for(loop, 0.01)
    assert fired == sorted(fired)
    assert len(fired) == 50


@pytest.mark.parametrize("delay", [1e5, 1e10, 1e18, 1e300, math.inf])
def test_a_huge_delay_neither_fires_nor_disturbs(delay: float, loop: AbstractEventLoop) -> None:
    """Row 39: no overflow on the way to the kernel's timespec."""
    fired: list[str] = []
    huge = loop.call_later(delay, fired.append, "huge")
    loop.call_later(0.002, fired.append, "short")
    run_for(loop, 0.004)
    assert fired == ["short"]
    huge.cancel()


def test_a_loop_whose_only_timer_is_huge_can_still_be_woken(loop: AbstractEventLoop) -> None:
    """Row 39: the wait itself is given the huge delay."""
    timers = [loop.call_later(delay, loop.stop) for delay in (1e12, 1e300, math.inf)]
    loop.run_in_executor(None, loop.call_soon_threadsafe, loop.stop)
    loop.run_forever()
    for timer in timers:
        timer.cancel()


def test_an_integer_too_large_for_a_float_is_an_overflow(loop: AbstractEventLoop) -> None:
    with pytest.raises(OverflowError):
        loop.call_later(10**400, print)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio checks for None since 3.11")
def test_a_delay_of_none_is_refused(loop: AbstractEventLoop) -> None:
    with pytest.raises(TypeError, match="delay must not be None"):
        loop.call_later(None, print)
    with pytest.raises(TypeError, match="when cannot be None"):
        loop.call_at(None, print)


def test_a_time_that_is_no_number_is_refused(loop: AbstractEventLoop) -> None:
    with pytest.raises(TypeError):
        loop.call_later("soon", print)


def test_a_timer_tells_when(loop: AbstractEventLoop) -> None:
    when = loop.time() + 1000
    timer = loop.call_at(when, print)
    assert timer.when() == when
    assert not timer.cancelled()
    timer.cancel()
    assert timer.cancelled()
    assert timer.when() == when


def test_timers_compare_by_time(loop: AbstractEventLoop) -> None:
    first = loop.call_at(loop.time() + 1000, print)
    second = loop.call_at(loop.time() + 2000, print)
    assert first < second
    assert second > first
    assert first <= second
    assert second >= first
    assert first != second
    for timer in (first, second):
        timer.cancel()


def test_a_cancelled_timer_does_not_fire(loop: AbstractEventLoop) -> None:
    fired: list[int] = []
    loop.call_later(0.001, fired.append, 1).cancel()
    loop.call_later(0.001, fired.append, 2)
    run_for(loop, 0.005)
    assert fired == [2]


def test_a_timer_cancelled_by_one_due_with_it_does_not_fire(loop: AbstractEventLoop) -> None:
    fired: list[int] = []
    second = loop.call_later(0.002, fired.append, 2)
    loop.call_later(0.001, second.cancel)
    loop.call_soon(time.sleep, 0.005)  # both are due when the loop looks again
    run_for(loop, 0.02)
    assert fired == []


def test_a_timer_may_be_cancelled_after_it_fired(loop: AbstractEventLoop) -> None:
    timer = loop.call_later(0, loop.stop)
    loop.run_forever()
    timer.cancel()
    timer.cancel()
    assert timer.cancelled()


def test_a_cancelled_timer_drops_its_arguments_at_once(loop: AbstractEventLoop) -> None:
    class Argument:
        pass

    argument = Argument()
    kept = weakref.ref(argument)
    timer = loop.call_later(3600, print, argument)
    timer.cancel()
    del argument
    gc.collect()
    assert kept() is None


def test_many_cancelled_timers_do_not_stay_in_memory(loop: AbstractEventLoop) -> None:
    """wait_for() around short operations cancels a far-off timer each time."""
    timers = [loop.call_later(3600 + number, print) for number in range(20_000)]
    alive = weakref.WeakSet(timers)
    for timer in timers:
        timer.cancel()
    del timers, timer
    run_for(loop, 0.001)
    gc.collect()
    assert len(alive) <= 200


def test_timers_left_by_a_purge_still_fire_in_order(loop: AbstractEventLoop) -> None:
    fired: list[int] = []
    delays = random.Random(2).sample(range(1000), 1000)
    start = loop.time() + 0.01
    timers = {
        number: loop.call_at(start + number * 1e-5, fired.append, number) for number in delays
    }
    for number in delays:
        if number % 4:
            timers[number].cancel()
    run_for(loop, 0.03)
    assert fired == list(range(0, 1000, 4))


def test_a_timer_set_by_a_timer_fires(loop: AbstractEventLoop) -> None:
    times: list[float] = []

    def again() -> None:
        times.append(loop.time())
        if len(times) == 20:
            loop.stop()
        else:
            loop.call_later(0.0005, again)

    loop.call_later(0, again)
    loop.run_forever()
    assert times == sorted(times)
    assert times[-1] - times[0] >= 19 * 0.0005 - 1e-6


def test_zero_delays_for_ever_do_not_starve_what_is_ready(loop: AbstractEventLoop) -> None:
    def again() -> None:
        loop.call_later(0, again)

    again()
    loop.run_until_complete(asyncio.wait_for(asyncio.sleep(0.002), 5))


def test_callbacks_for_ever_do_not_starve_timers(loop: AbstractEventLoop) -> None:
    """Row 22: a ready queue that is never empty."""
    fired: list[int] = []

    def again() -> None:
        if not fired:
            loop.call_soon(again)

    again()
    loop.call_later(0.005, fired.append, 1)
    run_for(loop, 0.01)
    assert fired == [1]


async def test_an_idle_wait_uses_no_processor_time(loop: AbstractEventLoop) -> None:
    await asyncio.sleep(0.01)
    before = time.thread_time()
    await asyncio.sleep(0.2)
    assert time.thread_time() - before < 0.05


async def test_wait_for_times_out_and_cancels(loop: AbstractEventLoop) -> None:
    future = loop.create_future()
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(future, 0.005)
    assert future.cancelled()


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio.timeout came with 3.11")
async def test_asyncio_timeout_can_be_rescheduled(loop: AbstractEventLoop) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(3600) as limit:
            limit.reschedule(loop.time() + 0.005)
            await loop.create_future()
    assert limit.expired()


@pytest.mark.parametrize("seed", range(5))
def test_random_setting_and_cancelling_fires_exactly_what_is_left(
    seed: int, loop: AbstractEventLoop
) -> None:
    """Row 39: the model is a list of (time, name), sorted."""
    chance = random.Random(seed)
    fired: list[int] = []
    start = loop.time()
    expected: list[tuple[float, int]] = []
    for name in range(400):
        when = start + chance.choice([-1, 1]) * chance.random() * 0.01
        timer = loop.call_at(when, fired.append, name)
        if chance.random() < 0.4:
            timer.cancel()
        else:
            expected.append((when, name))
    run_for(loop, 0.015)
    assert fired == [name for _, name in sorted(expected)]
