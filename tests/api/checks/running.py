"""Checks: running a loop, ending it, and what it says of itself."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
import warnings
from collections.abc import AsyncIterator, Iterator
from contextvars import ContextVar, copy_context
from typing import Any

from tests.api.ends import NEVER_S, refusal, refusal_of
from tests.api.registry import Subject
from tests.loops import LoopFactory

Loop = asyncio.AbstractEventLoop

RUNNING = Subject("Running and closing")

variable: ContextVar[str] = ContextVar("variable", default="unset")


async def _answer(value: object) -> object:
    await asyncio.sleep(0)
    return value


@RUNNING.check("run_forever")
@RUNNING.check("stop")
def stop_ends_the_run_after_the_callbacks_that_are_ready(loop: Loop) -> Any:
    seen: list[str] = []
    loop.call_soon(loop.stop)
    loop.call_soon(seen.append, "the same turn")
    loop.call_soon(loop.call_soon, seen.append, "the turn after")
    loop.run_forever()
    return seen


@RUNNING.check("stop")
def stop_before_the_run_lets_it_turn_once(loop: Loop) -> Any:
    seen: list[str] = []
    loop.stop()
    loop.call_soon(seen.append, "ran")
    loop.run_forever()
    return seen


@RUNNING.check("run_forever")
def a_running_loop_refuses_to_run(loop: Loop) -> Any:
    async def nested() -> Any:
        return refusal_of(loop.run_until_complete, loop.create_future())

    return loop.run_until_complete(nested())


@RUNNING.check("run_until_complete", "future")
def a_coroutine_is_run_to_its_result(loop: Loop) -> Any:
    return loop.run_until_complete(_answer("result"))


@RUNNING.check("run_until_complete", "future")
def a_future_is_waited_for(loop: Loop) -> Any:
    future = loop.create_future()
    loop.call_soon(future.set_result, "result")
    return loop.run_until_complete(future)


@RUNNING.check("run_until_complete", "future")
def a_loop_stopped_early_says_so(loop: Loop) -> Any:
    loop.call_soon(loop.stop)
    return refusal_of(loop.run_until_complete, loop.create_future())


@RUNNING.check("run_until_complete", "future")
def what_is_no_awaitable_is_refused(loop: Loop) -> Any:
    return refusal_of(loop.run_until_complete, 42)


@RUNNING.check("is_running")
def a_loop_is_running_inside_run_only(loop: Loop) -> Any:
    seen = [loop.is_running()]
    loop.call_soon(lambda: seen.append(loop.is_running()))
    loop.call_soon(loop.stop)
    loop.run_forever()
    return [*seen, loop.is_running()]


@RUNNING.check("is_closed")
@RUNNING.check("close")
def a_closed_loop_refuses_work_and_a_second_close_is_nothing(new_loop: LoopFactory) -> Any:
    loop = new_loop()
    before = loop.is_closed()
    loop.close()
    loop.close()
    refused = [
        refusal_of(loop.call_soon, int),
        refusal_of(loop.call_later, 0, int),
        refusal_of(loop.call_soon_threadsafe, int),
        refusal_of(loop.run_forever),
        refusal_of(loop.run_in_executor, None, int),
        refusal_of(loop.add_reader, 0, int),
    ]
    return before, loop.is_closed(), refused


@RUNNING.check("close")
async def a_running_loop_refuses_to_close(loop: Loop) -> Any:
    return refusal_of(loop.close), loop.is_closed()


@RUNNING.check("shutdown_asyncgens")
def generators_left_open_are_closed(loop: Loop) -> Any:
    seen: list[str] = []

    async def numbers() -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
        finally:
            await asyncio.sleep(0)
            seen.append("closed")

    async def take_one() -> None:
        seen.append(str(await generator.__anext__()))

    generator = numbers()
    loop.run_until_complete(take_one())
    loop.run_until_complete(loop.shutdown_asyncgens())
    return seen


@RUNNING.check("shutdown_default_executor")
def the_executor_is_waited_for_and_then_gone(loop: Loop) -> Any:
    seen: list[str] = []
    started, go_on = threading.Event(), threading.Event()

    def work() -> None:
        started.set()
        go_on.wait()
        seen.append("worked")

    async def shut_down() -> None:
        future = loop.run_in_executor(None, work)
        loop.call_soon(go_on.set)
        await loop.shutdown_default_executor()
        seen.append(f"done {future.done()}")

    loop.run_until_complete(shut_down())
    return seen, started.is_set(), refusal_of(loop.run_in_executor, None, int)


@RUNNING.check("shutdown_default_executor", "timeout")
def a_timeout_is_known_since_3_12(loop: Loop) -> Any:
    async def shut_down() -> str:
        await loop.run_in_executor(None, int)
        return await refusal(loop.shutdown_default_executor(timeout=10))

    if sys.version_info < (3, 12):
        return refusal_of(loop.shutdown_default_executor, timeout=10)
    return loop.run_until_complete(shut_down())


# asyncio 3.12.1 still waits for ever, and only then looks at the timeout.
if sys.version_info >= (3, 13):

    @RUNNING.check("shutdown_default_executor", "timeout")
    def a_timeout_gives_up_with_a_warning(loop: Loop) -> Any:
        go_on = threading.Event()

        async def shut_down() -> list[str]:
            future = loop.run_in_executor(None, go_on.wait)
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                await loop.shutdown_default_executor(timeout=0.01)
            go_on.set()
            await future
            return [f"{each.category.__name__}: {each.message}" for each in caught]

        return loop.run_until_complete(shut_down())


@RUNNING.check("get_debug")
@RUNNING.check("set_debug", "enabled")
def debug_mode_is_off_until_it_is_set(loop: Loop) -> Any:
    before = loop.get_debug()
    loop.set_debug(True)
    return before, loop.get_debug()


@RUNNING.check("set_debug", "enabled")
async def debug_mode_refuses_calls_from_other_threads(loop: Loop) -> Any:
    loop.set_debug(True)
    return await loop.run_in_executor(None, refusal_of, loop.call_soon, int)


@contextlib.contextmanager
def _policy(new_loop: LoopFactory) -> Iterator[None]:
    """asyncio makes its loops by new_loop, on Pythons whose run() takes no loop_factory."""

    class Policy(asyncio.DefaultEventLoopPolicy):
        def _loop_factory(self) -> Loop:
            return new_loop()

    asyncio.set_event_loop_policy(Policy())
    try:
        yield
    finally:
        asyncio.set_event_loop_policy(None)


def _run(new_loop: LoopFactory, main: Any, **arguments: Any) -> Any:
    if sys.version_info >= (3, 12):
        return asyncio.run(main, loop_factory=new_loop, **arguments)
    with _policy(new_loop):
        return asyncio.run(main, **arguments)


@RUNNING.check("asyncio.run", "main")
def run_ends_what_the_program_left(new_loop: LoopFactory) -> Any:
    seen: list[str] = []

    async def forgotten() -> None:
        try:
            await asyncio.sleep(NEVER_S)
        finally:
            seen.append("cancelled")

    async def main() -> Loop:
        task = asyncio.create_task(forgotten())
        await asyncio.sleep(0)
        seen.append(f"done {task.done()}")
        return asyncio.get_running_loop()

    loop = _run(new_loop, main())
    return seen, loop.is_closed()


@RUNNING.check("asyncio.run", "debug")
def run_sets_debug_mode(new_loop: LoopFactory) -> Any:
    async def main() -> bool:
        return asyncio.get_running_loop().get_debug()

    return _run(new_loop, main(), debug=True), _run(new_loop, main(), debug=False)


if sys.version_info >= (3, 12):

    @RUNNING.check("asyncio.run", "loop_factory")
    def run_takes_its_loop_from_a_factory(new_loop: LoopFactory) -> Any:
        made: list[Loop] = []

        def factory() -> Loop:
            made.append(new_loop())
            return made[-1]

        async def main() -> bool:
            return asyncio.get_running_loop() is made[0]

        return asyncio.run(main(), loop_factory=factory), made[0].is_closed()


if sys.version_info >= (3, 11):

    @RUNNING.check("asyncio.Runner", "loop_factory")
    def a_runner_runs_several_programs_on_one_loop(new_loop: LoopFactory) -> Any:
        async def main() -> str:
            seen = variable.get()
            variable.set("set by the first")
            return seen

        with asyncio.Runner(loop_factory=new_loop) as runner:
            loop = runner.get_loop()
            seen = [runner.run(main()), runner.run(main())]
            seen.append(runner.run(main(), context=copy_context()))
        return seen, loop.is_closed()

    @RUNNING.check("asyncio.Runner", "debug")
    def a_runner_sets_debug_mode(new_loop: LoopFactory) -> Any:
        with asyncio.Runner(debug=True, loop_factory=new_loop) as runner:
            return runner.get_loop().get_debug()
