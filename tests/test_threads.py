"""Other threads: waking the loop, stopping it, running it elsewhere, many loops at once."""

from __future__ import annotations

import asyncio
import threading
from asyncio import AbstractEventLoop
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from kernel_view import wait_until_asleep
from loops import LoopFactory

JOIN_LIMIT_S = 15


@pytest.fixture
def start_thread() -> Iterator[Callable[..., threading.Thread]]:
    threads: list[threading.Thread] = []

    def start(target: Callable[..., object], *args: object) -> threading.Thread:
        threads.append(threading.Thread(target=target, args=args, daemon=True))
        threads[-1].start()
        return threads[-1]

    yield start
    for thread in threads:
        thread.join(JOIN_LIMIT_S)
        assert not thread.is_alive()


StartThread = Callable[..., threading.Thread]


def test_a_call_from_a_thread_wakes_a_sleeping_loop(
    loop: AbstractEventLoop, start_thread: StartThread
) -> None:
    """Row 23."""

    def wake(native_id: int) -> None:
        wait_until_asleep(native_id)
        loop.call_soon_threadsafe(loop.stop)

    start_thread(wake, threading.get_native_id())
    loop.run_forever()


def test_each_of_many_calls_wakes_a_sleeping_loop(
    loop: AbstractEventLoop, start_thread: StartThread
) -> None:
    """Row 23: the wake-up must be armed again each time."""
    wakes = 300

    def wake(native_id: int) -> None:
        for _ in range(wakes):
            wait_until_asleep(native_id)
            ran = threading.Event()
            loop.call_soon_threadsafe(ran.set)
            assert ran.wait(JOIN_LIMIT_S)
        loop.call_soon_threadsafe(loop.stop)

    start_thread(wake, threading.get_native_id())
    loop.run_forever()


def test_calls_from_threads_at_every_phase_all_arrive_in_order(
    loop: AbstractEventLoop, start_thread: StartThread
) -> None:
    """Row 23: four threads hammer a loop that is now idle, now busy, now at a timer."""
    calls_per_thread = 10_000
    arrived: dict[int, list[int]] = {name: [] for name in range(4)}
    ended: list[int] = []

    def end(name: int) -> None:
        ended.append(name)
        if len(ended) == len(arrived):
            loop.stop()

    def hammer(name: int) -> None:
        for number in range(calls_per_thread):
            loop.call_soon_threadsafe(arrived[name].append, number)
        loop.call_soon_threadsafe(end, name)

    for name in arrived:
        start_thread(hammer, name)
    _keep_changing_phase(loop)
    loop.run_forever()
    assert all(numbers == list(range(calls_per_thread)) for numbers in arrived.values())


def _keep_changing_phase(loop: AbstractEventLoop, turn: int = 0) -> None:
    if turn % 3:
        loop.call_soon(_keep_changing_phase, loop, turn + 1)
    else:
        loop.call_later(0.0001, _keep_changing_phase, loop, turn + 1)


def test_ping_pong_between_two_loops_loses_no_wake_up(
    new_loop: LoopFactory, start_thread: StartThread
) -> None:
    """Row 23: both sides sleep most of the time."""
    rounds = 3000
    here, there = new_loop(), new_loop()

    def ping(number: int) -> None:
        there.call_soon_threadsafe(pong, number)

    def pong(number: int) -> None:
        if number == rounds:
            here.call_soon_threadsafe(here.stop)
            there.stop()
        else:
            here.call_soon_threadsafe(ping, number + 1)

    start_thread(there.run_forever)
    here.call_soon(ping, 0)
    here.run_forever()


def test_a_call_made_before_the_first_run_is_not_lost(
    loop: AbstractEventLoop, start_thread: StartThread
) -> None:
    start_thread(loop.call_soon_threadsafe, loop.stop).join(JOIN_LIMIT_S)
    loop.run_forever()


def test_a_call_made_between_two_runs_is_not_lost(
    loop: AbstractEventLoop, start_thread: StartThread
) -> None:
    loop.run_until_complete(asyncio.sleep(0))
    start_thread(loop.call_soon_threadsafe, loop.stop).join(JOIN_LIMIT_S)
    loop.run_forever()


def test_stop_from_a_thread_ends_the_run_each_time(
    loop: AbstractEventLoop, start_thread: StartThread
) -> None:
    for _ in range(200):
        start_thread(loop.call_soon_threadsafe, loop.stop)
        loop.run_forever()


def test_threads_that_call_a_closing_loop_are_served_or_refused(
    new_loop: LoopFactory, start_thread: StartThread
) -> None:
    """Row 23: the race between close() and call_soon_threadsafe()."""
    for _ in range(30):
        loop = new_loop()
        refused = threading.Event()
        start_thread(_call_until_refused, loop, refused)
        loop.run_until_complete(asyncio.sleep(0.001))
        loop.close()
        assert refused.wait(JOIN_LIMIT_S)


def _call_until_refused(loop: AbstractEventLoop, refused: threading.Event) -> None:
    while not refused.is_set():
        try:
            loop.call_soon_threadsafe(str)
        except RuntimeError as error:
            assert "Event loop is closed" in str(error)
            refused.set()


def test_run_coroutine_threadsafe_returns_result_and_exception(
    loop: AbstractEventLoop, start_thread: StartThread
) -> None:
    async def divide(by: int) -> float:
        await asyncio.sleep(0)
        return 1 / by

    start_thread(loop.run_forever)
    assert asyncio.run_coroutine_threadsafe(divide(2), loop).result(JOIN_LIMIT_S) == 0.5
    with pytest.raises(ZeroDivisionError):
        asyncio.run_coroutine_threadsafe(divide(0), loop).result(JOIN_LIMIT_S)
    _stop(loop)


def _stop(loop: AbstractEventLoop) -> None:
    loop.call_soon_threadsafe(loop.stop)
    stopped = threading.Event()
    while loop.is_running() and not stopped.wait(0.001):
        pass


async def echo_once(port_known: asyncio.Future[int] | None = None) -> bytes:
    """A server and a client in one loop, one message each way."""
    server = await asyncio.start_server(_echo_line, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"message\n")
    line = await reader.readline()
    writer.close()
    await writer.wait_closed()
    server.close()
    return line


async def _echo_line(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(await reader.readline())
    writer.close()
    await writer.wait_closed()


def test_a_loop_made_here_runs_in_another_thread(new_loop: LoopFactory) -> None:
    """Row 3: the ring belongs to the thread that runs the loop, not to its maker."""
    loop = new_loop()
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(loop.run_forever)
        future = asyncio.run_coroutine_threadsafe(echo_once(), loop)
        assert future.result(JOIN_LIMIT_S) == b"message\n"
        loop.call_soon_threadsafe(loop.stop)
        running.result(JOIN_LIMIT_S)
    loop.close()


def test_operations_queued_before_a_run_elsewhere_are_served(new_loop: LoopFactory) -> None:
    """Row 3: the first run is in another thread, with work waiting."""
    loop = new_loop()
    task = loop.create_task(echo_once())
    with ThreadPoolExecutor(1) as threads:
        assert threads.submit(loop.run_until_complete, task).result(JOIN_LIMIT_S) == b"message\n"
    loop.close()


def test_a_loop_run_again_from_a_second_thread_works_or_says_why_not(
    new_loop: LoopFactory,
) -> None:
    """Row 4: never a hang."""
    loop = new_loop()
    assert loop.run_until_complete(echo_once()) == b"message\n"
    coroutine = echo_once()
    with ThreadPoolExecutor(1) as threads:
        second = threads.submit(loop.run_until_complete, coroutine)
        try:
            assert second.result(JOIN_LIMIT_S) == b"message\n"
        except RuntimeError as error:
            assert "thread" in str(error)
    coroutine.close()
    assert loop.run_until_complete(echo_once()) == b"message\n"
    loop.close()


def test_a_loop_whose_thread_is_gone_can_be_closed_elsewhere(new_loop: LoopFactory) -> None:
    """Row 4: closing must not need the thread that the ring was bound to."""
    loop = new_loop()
    with ThreadPoolExecutor(1) as threads:
        assert threads.submit(loop.run_until_complete, echo_once()).result(JOIN_LIMIT_S)
    loop.close()
    assert loop.is_closed()


def test_loops_in_eight_threads_do_not_disturb_each_other(new_loop: LoopFactory) -> None:
    def serve() -> list[bytes]:
        loop = new_loop()
        lines = [loop.run_until_complete(echo_once()) for _ in range(10)]
        loop.close()
        return lines

    with ThreadPoolExecutor(8) as threads:
        results = [threads.submit(serve) for _ in range(8)]
        assert all(each.result(JOIN_LIMIT_S) == [b"message\n"] * 10 for each in results)


def test_many_loops_alive_in_one_thread_take_turns(new_loop: LoopFactory) -> None:
    loops = [new_loop() for _ in range(40)]
    for _ in range(2):
        for loop in loops:
            assert loop.run_until_complete(echo_once()) == b"message\n"


def test_two_thousand_loops_one_after_the_other(new_loop: LoopFactory) -> None:
    """Row 29: the kernel tears rings down late; making them faster than that must work."""
    for _ in range(2000):
        loop = new_loop()
        loop.call_soon(loop.stop)
        loop.run_forever()
        loop.close()


def test_a_thousand_loops_that_never_ran_can_be_closed(new_loop: LoopFactory) -> None:
    """Row 29."""
    for _ in range(1000):
        new_loop().close()
