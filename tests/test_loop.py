"""The life of a loop: run, stop, close, and what each state allows."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import socket
import sys
import time
from asyncio import AbstractEventLoop
from collections.abc import AsyncIterator

import pytest
from loops import LoopFactory, make_loop


async def answer(value: object) -> object:
    await asyncio.sleep(0)
    return value


def test_run_until_complete_returns_the_result(loop: AbstractEventLoop) -> None:
    assert loop.run_until_complete(answer(42)) == 42


def test_run_until_complete_takes_a_future(loop: AbstractEventLoop) -> None:
    future = loop.create_future()
    loop.call_soon(future.set_result, "done")
    assert loop.run_until_complete(future) == "done"


def test_run_until_complete_raises_what_the_coroutine_raised(loop: AbstractEventLoop) -> None:
    async def fail() -> None:
        raise LookupError("lost")

    with pytest.raises(LookupError, match="lost"):
        loop.run_until_complete(fail())


def test_run_until_complete_refuses_what_is_not_awaitable(loop: AbstractEventLoop) -> None:
    with pytest.raises(TypeError):
        loop.run_until_complete(42)


def test_a_loop_stopped_early_tells_that_the_future_is_not_done(loop: AbstractEventLoop) -> None:
    future = loop.create_future()
    loop.call_soon(loop.stop)
    with pytest.raises(RuntimeError, match="Event loop stopped before Future completed"):
        loop.run_until_complete(future)
    future.cancel()


def test_a_loop_runs_again_after_it_stopped(loop: AbstractEventLoop) -> None:
    turns: list[int] = []
    for turn in range(3):
        loop.call_soon(turns.append, turn)
        loop.call_soon(loop.stop)
        loop.run_forever()
    assert turns == [0, 1, 2]


def test_is_running_is_true_only_inside(loop: AbstractEventLoop) -> None:
    seen: list[bool] = []
    loop.call_soon(lambda: seen.append(loop.is_running()))
    loop.call_soon(loop.stop)
    assert not loop.is_running()
    loop.run_forever()
    assert seen == [True]
    assert not loop.is_running()


def test_stop_before_run_lets_one_turn_pass(loop: AbstractEventLoop) -> None:
    calls: list[str] = []
    loop.call_soon(lambda: (calls.append("first"), loop.call_soon(calls.append, "second")))
    loop.stop()
    loop.run_forever()
    assert calls == ["first"]
    loop.stop()
    loop.run_forever()
    assert calls == ["first", "second"]


def test_stop_finishes_the_turn_and_keeps_the_rest(loop: AbstractEventLoop) -> None:
    calls: list[str] = []

    def stop() -> None:
        loop.stop()
        loop.call_soon(calls.append, "next turn")

    loop.call_soon(stop)
    loop.call_soon(calls.append, "same turn")
    loop.run_forever()
    assert calls == ["same turn"]
    loop.run_until_complete(answer(None))
    assert calls == ["same turn", "next turn"]


async def test_run_until_complete_inside_a_running_loop_is_refused(loop: AbstractEventLoop) -> None:
    unused = answer(None)
    with pytest.raises(RuntimeError, match="This event loop is already running"):
        loop.run_until_complete(unused)
    unused.close()
    assert loop.is_running()
    assert asyncio.get_running_loop() is loop


async def test_another_loop_inside_a_running_one_is_refused(
    loop: AbstractEventLoop, new_loop: LoopFactory
) -> None:
    other = new_loop()
    with pytest.raises(RuntimeError, match="while another loop is running"):
        other.run_until_complete(other.create_future())
    assert asyncio.get_running_loop() is loop


@pytest.mark.difference("refused_run_forever")
async def test_run_forever_inside_a_running_loop_is_refused_and_changes_nothing(
    loop: AbstractEventLoop, new_loop: LoopFactory
) -> None:
    with pytest.raises(RuntimeError, match="This event loop is already running"):
        loop.run_forever()
    with pytest.raises(RuntimeError, match="while another loop is running"):
        new_loop().run_forever()
    assert loop.is_running()
    assert asyncio.get_running_loop() is loop


async def test_a_running_loop_cannot_be_closed(loop: AbstractEventLoop) -> None:
    with pytest.raises(RuntimeError, match="Cannot close a running event loop"):
        loop.close()
    assert not loop.is_closed()


def test_close_may_be_repeated(loop: AbstractEventLoop) -> None:
    loop.close()
    loop.close()
    assert loop.is_closed()


def test_a_loop_that_never_ran_closes(new_loop: LoopFactory) -> None:
    loop = new_loop()
    loop.close()
    assert loop.is_closed()


@pytest.mark.parametrize(
    "use",
    [
        lambda loop: loop.call_soon(print),
        lambda loop: loop.call_soon_threadsafe(print),
        lambda loop: loop.call_later(1, print),
        lambda loop: loop.call_at(1, print),
        lambda loop: loop.run_forever(),
        lambda loop: loop.run_until_complete(loop.create_future()),
        lambda loop: loop.run_in_executor(None, print),
        lambda loop: loop.add_signal_handler(10, print),
        lambda loop: loop.add_reader(0, print),
    ],
    ids=[
        "call_soon",
        "call_soon_threadsafe",
        "call_later",
        "call_at",
        "run_forever",
        "run_until_complete",
        "run_in_executor",
        "add_signal_handler",
        "add_reader",
    ],
)
def test_a_closed_loop_refuses(use: object, loop: AbstractEventLoop) -> None:
    loop.close()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        use(loop)


def test_close_forgets_what_was_ready(loop: AbstractEventLoop) -> None:
    calls: list[int] = []
    loop.call_soon(calls.append, 1)
    loop.call_later(0, calls.append, 2)
    loop.close()
    assert calls == []


def test_an_unclosed_loop_warns_when_it_is_collected(loop_kind: str) -> None:
    loop = make_loop(loop_kind)
    with pytest.warns(ResourceWarning, match="unclosed event loop"):
        del loop
        gc.collect()


def test_repr_tells_the_state(loop: AbstractEventLoop) -> None:
    assert "running=False closed=False debug=False" in repr(loop)
    loop.close()
    assert "closed=True" in repr(loop)


def test_call_soon_keeps_the_order(loop: AbstractEventLoop) -> None:
    calls: list[int] = []
    for number in range(5000):
        loop.call_soon(calls.append, number)
    loop.run_until_complete(answer(None))
    assert calls == list(range(5000))


def test_what_a_callback_schedules_runs_in_the_next_turn(loop: AbstractEventLoop) -> None:
    calls: list[str] = []

    def first() -> None:
        loop.call_soon(calls.append, "third")
        calls.append("first")

    loop.call_soon(first)
    loop.call_soon(calls.append, "second")
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert calls == ["first", "second"]
    loop.run_until_complete(answer(None))
    assert calls == ["first", "second", "third"]


def test_a_cancelled_callback_does_not_run(loop: AbstractEventLoop) -> None:
    calls: list[int] = []
    kept = loop.call_soon(calls.append, 1)
    cancelled = loop.call_soon(calls.append, 2)
    cancelled.cancel()
    loop.run_until_complete(answer(None))
    assert calls == [1]
    assert cancelled.cancelled()
    assert not kept.cancelled()


def test_a_callback_cancelled_in_its_own_turn_does_not_run(loop: AbstractEventLoop) -> None:
    calls: list[int] = []
    handles: list[asyncio.Handle] = []
    loop.call_soon(lambda: handles[0].cancel())
    handles.append(loop.call_soon(calls.append, 1))
    loop.run_until_complete(answer(None))
    assert calls == []


def test_handles_are_asyncio_handles(loop: AbstractEventLoop) -> None:
    handle = loop.call_soon(print)
    timer = loop.call_later(3600, print)
    threadsafe = loop.call_soon_threadsafe(print)
    assert isinstance(handle, asyncio.Handle)
    assert not isinstance(handle, asyncio.TimerHandle)
    assert isinstance(threadsafe, asyncio.Handle)
    assert isinstance(timer, asyncio.TimerHandle)
    for each in (handle, timer, threadsafe):
        each.cancel()


def test_a_handle_tells_its_callback_and_its_end(loop: AbstractEventLoop) -> None:
    handle = loop.call_soon(answer, 1)
    assert "answer" in repr(handle)
    handle.cancel()
    assert "cancelled" in repr(handle)


def test_the_loop_is_an_asyncio_loop(loop: AbstractEventLoop) -> None:
    assert isinstance(loop, asyncio.AbstractEventLoop)
    assert isinstance(loop, asyncio.BaseEventLoop)


variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")
SCHEDULERS = ["call_soon", "call_soon_threadsafe", "call_later", "call_at"]


def _value_seen_by_callback(
    loop: AbstractEventLoop, scheduler: str, context: contextvars.Context | None
) -> str:
    seen: list[str] = []
    when = (0,) if scheduler in ("call_later", "call_at") else ()

    def schedule() -> None:
        variable.set("caller's")
        see = lambda: (seen.append(variable.get()), loop.stop())  # noqa: E731
        getattr(loop, scheduler)(*when, see, context=context)
        variable.set("set after the call")

    contextvars.copy_context().run(schedule)
    loop.run_forever()
    return seen[0]


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_a_callback_runs_in_a_copy_of_its_callers_context(
    scheduler: str, loop: AbstractEventLoop
) -> None:
    assert _value_seen_by_callback(loop, scheduler, context=None) == "caller's"


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_a_callback_runs_in_the_context_it_is_given(
    scheduler: str, loop: AbstractEventLoop
) -> None:
    context = contextvars.Context()
    context.run(variable.set, "given")
    assert _value_seen_by_callback(loop, scheduler, context=context) == "given"


@pytest.mark.skipif(sys.version_info < (3, 12), reason="Handle.get_context came with 3.12")
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_a_handle_tells_its_context(scheduler: str, loop: AbstractEventLoop) -> None:
    context = contextvars.Context()
    when = (0,) if scheduler in ("call_later", "call_at") else ()
    handle = getattr(loop, scheduler)(*when, print, context=context)
    assert handle.get_context() is context
    handle.cancel()


def test_time_is_the_monotonic_clock(loop: AbstractEventLoop) -> None:
    before = time.monotonic()
    assert before <= loop.time() <= time.monotonic()


def test_the_running_loop_is_known_inside_only(loop: AbstractEventLoop) -> None:
    async def running() -> AbstractEventLoop:
        return asyncio.get_running_loop()

    assert loop.run_until_complete(running()) is loop
    with pytest.raises(RuntimeError, match="no running event loop"):
        asyncio.get_running_loop()


async def test_tasks_and_futures_are_the_stdlibs(loop: AbstractEventLoop) -> None:
    """Row 40: all_tasks and current_task work only with these."""
    task = loop.create_task(answer(1), name="a name")
    assert type(task) is asyncio.Task
    assert type(loop.create_future()) is asyncio.Future
    assert task in asyncio.all_tasks()
    assert task.get_name() == "a name"
    assert await task == 1
    assert asyncio.current_task() is not None


async def test_the_task_factory_makes_the_tasks(loop: AbstractEventLoop) -> None:
    made: list[object] = []

    def factory(loop: AbstractEventLoop, coroutine: object, **options: object) -> object:
        made.append(coroutine)
        return asyncio.Task(coroutine, loop=loop, **options)

    loop.set_task_factory(factory)
    assert loop.get_task_factory() is factory
    coroutine = answer(5)
    assert await loop.create_task(coroutine) == 5
    assert made == [coroutine]
    loop.set_task_factory(None)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with 3.12")
async def test_eager_tasks_start_at_once(loop: AbstractEventLoop) -> None:
    steps: list[str] = []

    async def body() -> None:
        steps.append("started")
        await asyncio.sleep(0)
        steps.append("ended")

    loop.set_task_factory(asyncio.eager_task_factory)
    task = loop.create_task(body())
    assert steps == ["started"]
    await task
    assert steps == ["started", "ended"]


async def test_shutdown_asyncgens_closes_generators_left_open(loop: AbstractEventLoop) -> None:
    closed: list[int] = []

    async def numbers(name: int) -> AsyncIterator[int]:
        try:
            while True:
                yield name
        finally:
            await asyncio.sleep(0)
            closed.append(name)

    generators = [numbers(1), numbers(2)]
    assert [await anext_of(each) for each in generators] == [1, 2]
    await loop.shutdown_asyncgens()
    assert sorted(closed) == [1, 2]


async def anext_of(iterator: AsyncIterator[int]) -> int:
    return await iterator.__anext__()


def test_a_generator_first_used_after_shutdown_warns(loop: AbstractEventLoop) -> None:
    async def numbers() -> AsyncIterator[int]:
        yield 1

    async def use_late() -> None:
        await loop.shutdown_asyncgens()
        with pytest.warns(ResourceWarning, match="asyncgens"):
            assert [number async for number in numbers()] == [1]

    loop.run_until_complete(use_late())


def test_asyncgen_hooks_are_restored_after_a_run(loop: AbstractEventLoop) -> None:
    before = sys.get_asyncgen_hooks()
    loop.run_until_complete(answer(None))
    assert sys.get_asyncgen_hooks() == before


def test_callbacks_run_in_the_order_in_which_they_were_registered(
    loop: asyncio.AbstractEventLoop,
) -> None:
    """Also those that a reader's callback adds, behind what a callback added before it."""
    ours, peer = socket.socketpair()
    ran: list[str] = []

    def readable() -> None:
        ours.recv(1)
        loop.call_soon(ran.append, "by the event")
        loop.call_soon(loop.stop)

    def before() -> None:
        peer.send(b"x")
        loop.call_soon(ran.append, "by a callback")

    with ours, peer:
        ours.setblocking(False)
        loop.add_reader(ours, readable)
        loop.call_soon(before)
        loop.run_forever()
        loop.remove_reader(ours)
    assert ran == ["by a callback", "by the event"]


async def test_what_a_protocol_adds_comes_after_what_was_added_before(
    loop: asyncio.AbstractEventLoop,
) -> None:
    ours, peer = socket.socketpair()
    ran: list[str] = []
    received = loop.create_future()

    class Received(asyncio.Protocol):
        def data_received(self, data: bytes) -> None:
            ran.append("received")
            loop.call_soon(ran.append, "by the protocol")
            loop.call_soon(received.set_result, None)

    def before() -> None:
        peer.send(b"x")
        ran.append("sent")
        loop.call_soon(ran.append, "by a callback")

    with peer:
        transport, _ = await loop.create_connection(Received, sock=ours)
        loop.call_soon(before)
        await received
        transport.close()
    order = [what for what in ran if what.startswith("by")]
    assert order == ["by a callback", "by the protocol"]
