"""Checks: futures, tasks, executors, look-ups of names, and the exception handler."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import contextvars
import logging
import socket
import sys
import threading
from collections.abc import Iterator
from typing import Any

from tests.api.ends import refusal, refusal_of, words
from tests.api.registry import Subject

Loop = asyncio.AbstractEventLoop

TASKS = Subject("Futures and tasks")
EXECUTORS = Subject("Executors and name look-ups")
EXCEPTIONS = Subject("The exception handler")

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


async def _context_seen() -> str:
    await asyncio.sleep(0)
    return variable.get()


@TASKS.check("create_future")
async def a_future_is_of_this_loop(loop: Loop) -> Any:
    future = loop.create_future()
    loop.call_soon(future.set_result, "result")
    return isinstance(future, asyncio.Future), future.get_loop() is loop, await future


@TASKS.check("create_task", "coro")
async def a_task_begins_in_the_next_turn(loop: Loop) -> Any:
    seen: list[str] = []

    async def note() -> str:
        seen.append("task")
        return "result"

    task = loop.create_task(note())
    seen.append("caller")
    return await task, seen, task in asyncio.all_tasks(loop), type(task) is asyncio.Task


@TASKS.check("create_task", "name")
async def a_task_bears_the_name_given(loop: Loop) -> Any:
    task = loop.create_task(_context_seen(), name="given")
    await task
    return task.get_name()


if sys.version_info >= (3, 11):

    @TASKS.check("create_task", "context")
    async def a_task_runs_in_the_context_given(loop: Loop) -> Any:
        context = contextvars.copy_context()
        context.run(variable.set, "given")
        given = loop.create_task(_context_seen(), context=context)
        return await given, await loop.create_task(_context_seen())


if sys.version_info >= (3, 13, 3):

    @TASKS.check("create_task", "kwargs")
    async def the_task_factory_gets_further_arguments(loop: Loop) -> Any:
        seen: dict[str, Any] = {}

        def factory(loop: Loop, coro: Any, **kwargs: Any) -> Any:
            seen.update(kwargs)
            return asyncio.Task(coro, loop=loop)

        loop.set_task_factory(factory)
        task = loop.create_task(_context_seen(), name="given", flavour="sweet")
        loop.set_task_factory(None)
        await task
        return sorted(seen), seen["flavour"]


@TASKS.check("get_task_factory")
@TASKS.check("set_task_factory", "factory")
async def a_task_factory_makes_the_tasks(loop: Loop) -> Any:
    class OwnTask(asyncio.Task[Any]):
        pass

    def factory(loop: Loop, coro: Any, **kwargs: Any) -> Any:
        return OwnTask(coro, loop=loop, **kwargs)

    before = loop.get_task_factory()
    loop.set_task_factory(factory)
    is_set = loop.get_task_factory() is factory
    task = loop.create_task(_context_seen())
    loop.set_task_factory(None)
    return before, is_set, type(task) is OwnTask, await task, loop.get_task_factory()


@TASKS.check("set_task_factory", "factory")
async def a_task_factory_must_be_callable(loop: Loop) -> Any:
    return refusal_of(loop.set_task_factory, "factory")


if sys.version_info >= (3, 12):

    @TASKS.check("set_task_factory", "factory")
    async def eager_tasks_begin_at_once(loop: Loop) -> Any:
        async def note() -> str:
            seen.append("task")
            return "result"

        seen: list[str] = []
        loop.set_task_factory(asyncio.eager_task_factory)
        task = loop.create_task(note())
        seen.append("caller")
        loop.set_task_factory(None)
        return seen, task.done(), await task


@TASKS.check("asyncio.run_coroutine_threadsafe", "coro", "loop")
async def a_thread_gets_the_result_of_a_coroutine(loop: Loop) -> Any:
    def in_thread() -> str:
        return asyncio.run_coroutine_threadsafe(_context_seen(), loop).result(10)

    return await loop.run_in_executor(None, in_thread)


@TASKS.check("asyncio.wrap_future", "future", "loop")
async def a_future_of_a_thread_can_be_awaited(loop: Loop) -> Any:
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        return await asyncio.wrap_future(pool.submit(lambda: "result"), loop=loop)


@EXECUTORS.check("run_in_executor", "func", "args")
async def a_function_runs_in_another_thread(loop: Loop) -> Any:
    def work(*args: int) -> Any:
        return sum(args), threading.current_thread() is threading.main_thread()

    return await loop.run_in_executor(None, work, 1, 2)


@EXECUTORS.check("run_in_executor", "func")
async def what_the_function_raises_is_raised(loop: Loop) -> Any:
    return await refusal(loop.run_in_executor(None, int, "no number"))


@EXECUTORS.check("run_in_executor", "executor")
async def the_executor_given_is_used(loop: Loop) -> Any:
    with concurrent.futures.ThreadPoolExecutor(1, "given") as executor:
        return await loop.run_in_executor(executor, lambda: threading.current_thread().name)


@EXECUTORS.check("set_default_executor", "executor")
async def the_default_executor_can_be_replaced(loop: Loop) -> Any:
    loop.set_default_executor(concurrent.futures.ThreadPoolExecutor(1, "default"))
    name = await loop.run_in_executor(None, lambda: threading.current_thread().name)
    return name, refusal_of(loop.set_default_executor, "executor")


@EXECUTORS.check("asyncio.to_thread", "func", "args", "kwargs")
async def a_function_in_a_thread_sees_the_callers_context(loop: Loop) -> Any:
    variable.set("the caller's")
    return await asyncio.to_thread(lambda *args, **kwargs: (variable.get(), args, kwargs), 1, key=2)


@EXECUTORS.check("getaddrinfo", "host", "port", "type")
async def a_numeric_name_is_looked_up(loop: Loop) -> Any:
    return await loop.getaddrinfo("127.0.0.1", 80, type=socket.SOCK_STREAM)


@EXECUTORS.check("getaddrinfo", "host", "port")
async def names_may_be_bytes_or_none_and_services_words(loop: Loop) -> Any:
    answers = [
        await loop.getaddrinfo(b"127.0.0.1", "80", type=socket.SOCK_STREAM),
        await loop.getaddrinfo(None, 80, family=socket.AF_INET, type=socket.SOCK_STREAM),
        await loop.getaddrinfo("127.0.0.1", None, type=socket.SOCK_STREAM),
    ]
    return [answer[0][4] for answer in answers]


@EXECUTORS.check("getaddrinfo", "family")
async def the_family_restricts_the_answers(loop: Loop) -> Any:
    found = await loop.getaddrinfo("localhost", 80, family=socket.AF_INET)
    wrong = loop.getaddrinfo("::1", 80, family=socket.AF_INET)
    return {each[0].name for each in found}, await _look_up_refusal(wrong)


@EXECUTORS.check("getaddrinfo", "proto")
async def the_protocol_restricts_the_answers(loop: Loop) -> Any:
    found = await loop.getaddrinfo("127.0.0.1", 80, proto=socket.IPPROTO_UDP)
    return [(each[1].name, each[2]) for each in found]


@EXECUTORS.check("getaddrinfo", "flags")
async def flags_reach_the_look_up(loop: Loop) -> Any:
    stream = {"type": socket.SOCK_STREAM, "family": socket.AF_INET}
    passive = await loop.getaddrinfo(None, 80, flags=socket.AI_PASSIVE, **stream)
    numeric = loop.getaddrinfo("localhost", 80, flags=socket.AI_NUMERICHOST, **stream)
    named = await loop.getaddrinfo("127.0.0.1", 80, flags=socket.AI_CANONNAME, **stream)
    return passive[0][4], await _look_up_refusal(numeric), named[0][3]


async def _look_up_refusal(look_up: Any) -> Any:
    try:
        return await look_up
    except socket.gaierror as error:
        return f"gaierror {error.args[0]}"


@EXECUTORS.check("getnameinfo", "sockaddr", "flags")
async def a_name_is_asked_for_as_numbers(loop: Loop) -> Any:
    numbers = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV
    return await loop.getnameinfo(("127.0.0.1", 80), numbers)


@EXECUTORS.check("getnameinfo", "sockaddr", "flags")
async def names_are_what_the_system_says(loop: Loop) -> Any:
    numeric_host, address = socket.NI_NUMERICHOST, ("127.0.0.1", 512)
    asked = [0, numeric_host, numeric_host | socket.NI_DGRAM]
    answers = [await loop.getnameinfo(address, flags) for flags in asked]
    return answers == [socket.getnameinfo(address, flags) for flags in asked]


@EXCEPTIONS.check("set_exception_handler", "handler")
@EXCEPTIONS.check("get_exception_handler")
async def the_handler_hears_of_failing_callbacks(loop: Loop) -> Any:
    seen: list[Any] = []

    def handler(of: Loop, context: dict[str, Any]) -> None:
        seen.append((of is loop, sorted(context), words(context["exception"])))

    loop.set_exception_handler(handler)
    is_set = loop.get_exception_handler() is handler
    loop.call_soon(int, "no number")
    await asyncio.sleep(0)
    return is_set, seen


@EXCEPTIONS.check("set_exception_handler", "handler")
async def a_handler_is_callable_or_none(loop: Loop) -> Any:
    refused = refusal_of(loop.set_exception_handler, "handler")
    loop.set_exception_handler(None)
    return refused, loop.get_exception_handler()


@EXCEPTIONS.check("call_exception_handler", "context")
async def the_handler_is_called_with_the_context(loop: Loop) -> Any:
    seen: list[Any] = []
    loop.set_exception_handler(lambda of, context: seen.append(context))
    loop.call_exception_handler({"message": "asked for", "extra": 1})
    return seen


@contextlib.contextmanager
def _logged() -> Iterator[list[str]]:
    """The first lines of what asyncio logs."""
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage().splitlines()[0])  # type: ignore[method-assign]
    logger = logging.getLogger("asyncio")
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield lines
    finally:
        logger.propagate = True
        logger.removeHandler(handler)


@EXCEPTIONS.check("call_exception_handler", "context")
async def a_handler_that_fails_is_reported_itself(loop: Loop) -> Any:
    def handler(of: Loop, context: dict[str, Any]) -> None:
        raise LookupError("lost")

    loop.set_exception_handler(handler)
    with _logged() as lines:
        loop.call_exception_handler({"message": "asked for"})
    return lines


@EXCEPTIONS.check("default_exception_handler", "context")
async def the_default_handler_logs(loop: Loop) -> Any:
    loop.set_exception_handler(None)
    with _logged() as lines:
        loop.default_exception_handler({"message": "asked for", "exception": ValueError("no")})
        loop.call_soon(int, "no number")
        await asyncio.sleep(0)
    return [line.split(" <")[0] for line in lines]
