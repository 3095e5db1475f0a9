"""Checks: callbacks and timers, and their handles."""

from __future__ import annotations

import asyncio
import sys
import threading
from contextvars import Context, ContextVar, copy_context
from typing import Any

from tests.api.ends import NEVER_S, refusal_of
from tests.api.registry import Subject

Loop = asyncio.AbstractEventLoop

TIMERS = Subject("Callbacks and timers")

variable: ContextVar[str] = ContextVar("variable", default="unset")


def _context() -> Context:
    context = copy_context()
    context.run(variable.set, "given")
    return context


class _Seen:
    """Callbacks that note what they are given, and in which context."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self._event = asyncio.Event()

    def __call__(self, *args: Any) -> None:
        self.calls.append((*args, variable.get()))
        self._event.set()

    async def after(self, count: int) -> list[Any]:
        while len(self.calls) < count:
            self._event.clear()
            await self._event.wait()
        return self.calls


@TIMERS.check("time")
async def time_goes_on_while_the_loop_sleeps(loop: Loop) -> Any:
    before = loop.time()
    await asyncio.sleep(0.01)
    return type(before).__name__, loop.time() - before >= 0.01


@TIMERS.check("call_soon", "callback", "args")
async def callbacks_run_in_the_order_of_their_calls(loop: Loop) -> Any:
    seen = _Seen()
    handles = [loop.call_soon(seen, number, "argument") for number in range(3)]
    return await seen.after(3), [isinstance(handle, asyncio.Handle) for handle in handles]


@TIMERS.check("call_soon", "callback")
async def debug_mode_refuses_a_coroutine_function(loop: Loop) -> Any:
    async def coroutine() -> None: ...

    loop.set_debug(True)
    refused = [
        refusal_of(loop.call_soon, coroutine),
        refusal_of(loop.call_later, 0, coroutine),
        refusal_of(loop.call_soon, "no callable"),
    ]
    loop.set_debug(False)
    return refused


@TIMERS.check("call_soon", "context")
async def a_callback_runs_in_the_context_given(loop: Loop) -> Any:
    seen = _Seen()
    loop.call_soon(seen, context=_context())
    loop.call_soon(seen)
    return await seen.after(2)


@TIMERS.check("call_soon_threadsafe", "callback", "args")
async def a_callback_from_a_thread_wakes_the_loop(loop: Loop) -> Any:
    seen = _Seen()
    here = threading.get_ident()

    def callback(argument: str) -> None:
        seen(argument, threading.get_ident() == here)

    thread = threading.Thread(target=loop.call_soon_threadsafe, args=(callback, "argument"))
    thread.start()
    calls = await seen.after(1)
    thread.join()
    return calls


@TIMERS.check("call_soon_threadsafe", "context")
async def a_callback_from_a_thread_runs_in_the_context_given(loop: Loop) -> Any:
    seen = _Seen()
    loop.call_soon_threadsafe(seen, context=_context())
    return await seen.after(1)


@TIMERS.check("call_later", "delay", "callback", "args")
async def timers_run_in_the_order_of_their_moments(loop: Loop) -> Any:
    seen = _Seen()
    begin = loop.time()
    loop.call_later(0.02, seen, "third")
    loop.call_later(0.01, seen, "second")
    loop.call_later(-1, seen, "first")
    calls = list(await seen.after(3))
    return calls, loop.time() - begin >= 0.02 - 0.001


def _in_words_since_3_11(refused: str) -> Any:
    """asyncio 3.10 refuses by whatever fails first, which is nobody's contract."""
    return refused if sys.version_info >= (3, 11) else refused.startswith("no refusal")


@TIMERS.check("call_later", "delay")
async def a_delay_of_none_is_refused(loop: Loop) -> Any:
    return _in_words_since_3_11(refusal_of(loop.call_later, None, int))


@TIMERS.check("call_later", "context")
async def a_delayed_callback_runs_in_the_context_given(loop: Loop) -> Any:
    seen = _Seen()
    loop.call_later(0, seen, context=_context())
    return await seen.after(1)


@TIMERS.check("call_at", "when", "callback", "args")
async def timers_of_one_moment_and_of_the_past_run(loop: Loop) -> Any:
    seen = _Seen()
    now = loop.time()
    loop.call_at(now + 0.01, seen, "later")
    loop.call_at(now, seen, "now")
    loop.call_at(0, seen, "long ago")
    return await seen.after(3)


@TIMERS.check("call_at", "when")
async def a_moment_of_none_is_refused(loop: Loop) -> Any:
    return _in_words_since_3_11(refusal_of(loop.call_at, None, int))


@TIMERS.check("call_at", "context")
async def a_callback_of_a_moment_runs_in_the_context_given(loop: Loop) -> Any:
    seen = _Seen()
    loop.call_at(loop.time(), seen, context=_context())
    return await seen.after(1)


@TIMERS.check("Handle.cancel")
@TIMERS.check("Handle.cancelled")
async def a_cancelled_callback_does_not_run(loop: Loop) -> Any:
    seen = _Seen()
    cancelled = loop.call_soon(seen, "cancelled")
    kept = loop.call_soon(seen, "kept")
    before = cancelled.cancelled()
    cancelled.cancel()
    cancelled.cancel()
    return before, cancelled.cancelled(), kept.cancelled(), await seen.after(1)


@TIMERS.check("TimerHandle.cancel")
@TIMERS.check("TimerHandle.cancelled")
async def a_cancelled_timer_does_not_run(loop: Loop) -> Any:
    seen = _Seen()
    cancelled = loop.call_later(0.001, seen, "cancelled")
    loop.call_later(0.01, seen, "kept")
    cancelled.cancel()
    return cancelled.cancelled(), await seen.after(1)


@TIMERS.check("TimerHandle.when")
async def a_timer_knows_its_moment(loop: Loop) -> Any:
    when = loop.time() + NEVER_S
    timer, other = loop.call_at(when, int), loop.call_at(when + 1, int)
    facts = [timer.when() == when, timer < other, timer == other, isinstance(timer, asyncio.Handle)]
    facts.append(isinstance(timer, asyncio.TimerHandle))
    timer.cancel()
    other.cancel()
    return facts


if sys.version_info >= (3, 12):

    @TIMERS.check("Handle.get_context")
    @TIMERS.check("TimerHandle.get_context")
    async def a_handle_knows_its_context(loop: Loop) -> Any:
        context = _context()
        soon = loop.call_soon(int, context=context)
        later = loop.call_later(NEVER_S, int, context=context)
        later.cancel()
        own = loop.call_soon(int).get_context().get(variable)
        return soon.get_context() is context, later.get_context() is context, own
