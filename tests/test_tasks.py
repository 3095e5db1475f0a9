"""create_task and task factories, and generators that are closed with the loop."""

from __future__ import annotations

import asyncio
import contextvars
import sys
from asyncio import AbstractEventLoop
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import pytest

CONTEXT = pytest.mark.skipif(
    sys.version_info < (3, 11), reason="create_task takes a context since 3.11"
)
EAGER = pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with 3.12")

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


async def see() -> str:
    await asyncio.sleep(0)
    return variable.get()


async def test_a_task_runs_in_a_copy_of_its_makers_context(loop: AbstractEventLoop) -> None:
    variable.set("maker's")
    task = loop.create_task(see())
    variable.set("changed later")
    assert await task == "maker's"


@CONTEXT
async def test_a_task_runs_in_the_context_it_is_given(loop: AbstractEventLoop) -> None:
    context = contextvars.Context()
    context.run(variable.set, "given")

    async def change() -> None:
        variable.set("changed")

    assert await loop.create_task(see(), context=context) == "given"
    await loop.create_task(change(), context=context)
    assert context[variable] == "changed"


@pytest.mark.parametrize("name", ["a name", None])
async def test_a_task_has_the_name_it_is_given(name: str | None, loop: AbstractEventLoop) -> None:
    task = loop.create_task(see(), name=name)
    assert task.get_name() == (name or task.get_name())
    assert task.get_name()
    await task


async def test_create_task_refuses_what_asyncio_refuses(loop: AbstractEventLoop) -> None:
    coroutine = see()
    with pytest.raises(TypeError):
        loop.create_task(coroutine, no_such_option=1)
    coroutine.close()
    with pytest.raises(TypeError):
        loop.create_task(5)


def test_a_closed_loop_makes_no_task(loop: AbstractEventLoop) -> None:
    loop.close()
    coroutine = see()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        loop.create_task(coroutine)
    coroutine.close()


class Factory:
    """Makes ordinary tasks, and remembers what it was given."""

    def __init__(self) -> None:
        self.options: list[dict[str, Any]] = []

    def __call__(
        self, loop: AbstractEventLoop, coroutine: Coroutine[Any, Any, Any], **options: Any
    ) -> asyncio.Task[Any]:
        self.options.append(options)
        return asyncio.Task(coroutine, loop=loop, **options)


async def test_a_factory_is_used_by_all_that_make_tasks(loop: AbstractEventLoop) -> None:
    factory = Factory()
    loop.set_task_factory(factory)
    await loop.create_task(see(), name="by the loop")
    await asyncio.create_task(see())
    await asyncio.gather(see(), see())
    await asyncio.wait_for(see(), 10)
    assert len(factory.options) >= 4
    loop.set_task_factory(None)
    assert loop.get_task_factory() is None


@CONTEXT
async def test_a_factory_gets_the_context_only_when_there_is_one(loop: AbstractEventLoop) -> None:
    factory = Factory()
    loop.set_task_factory(factory)
    context = contextvars.copy_context()
    await loop.create_task(see())
    await loop.create_task(see(), context=context)
    loop.set_task_factory(None)
    assert factory.options[0].get("context") is None
    assert factory.options[1]["context"] is context


async def test_a_factorys_task_is_named(loop: AbstractEventLoop) -> None:
    loop.set_task_factory(Factory())
    task = loop.create_task(see(), name="named")
    loop.set_task_factory(None)
    assert task.get_name() == "named"
    await task


def test_a_factory_must_be_callable(loop: AbstractEventLoop) -> None:
    with pytest.raises(TypeError, match="task factory must be a callable or None"):
        loop.set_task_factory("no")


@EAGER
async def test_an_eager_task_that_need_not_wait_is_done_at_once(loop: AbstractEventLoop) -> None:
    async def quick() -> str:
        assert asyncio.current_task() is not outer
        return "done"

    outer = asyncio.current_task()
    loop.set_task_factory(asyncio.eager_task_factory)
    task = loop.create_task(quick())
    loop.set_task_factory(None)
    assert task.done()
    assert asyncio.current_task() is outer
    assert await task == "done"


@EAGER
async def test_an_eager_task_works_on_sockets_and_timers(loop: AbstractEventLoop) -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readline())
        await asyncio.sleep(0.001)
        writer.close()

    loop.set_task_factory(asyncio.eager_task_factory)
    async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"eager\n")
        assert await reader.read() == b"eager\n"
        writer.close()
        await writer.wait_closed()
    loop.set_task_factory(None)


async def test_a_generator_that_fails_to_close_is_reported(
    loop: AbstractEventLoop, reported: list[dict[str, Any]]
) -> None:
    async def stubborn() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            raise LookupError("in aclose")

    generator = stubborn()
    assert await generator.__anext__() == 1
    await loop.shutdown_asyncgens()
    context = reported.pop()
    assert isinstance(context["exception"], LookupError)
    assert context["asyncgen"] is generator
    assert "an error occurred during closing of asynchronous generator" in context["message"]


def test_a_generator_that_is_forgotten_is_closed_by_the_loop(loop: AbstractEventLoop) -> None:
    closed: list[int] = []

    async def numbers() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            await asyncio.sleep(0)
            closed.append(1)

    async def take_one() -> None:
        async for _ in numbers():
            break

    async def until_closed() -> None:
        while not closed:  # noqa: ASYNC110 - the generator's end wakes nobody
            await asyncio.sleep(0)

    loop.run_until_complete(take_one())
    loop.run_until_complete(asyncio.wait_for(until_closed(), 10))


async def test_programs_may_replace_asyncios_classes(
    loop: AbstractEventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As some do to nest loops; asyncio looks its classes up for each Task and Future."""

    class OwnTask(asyncio.Task):  # type: ignore[type-arg]
        pass

    class OwnFuture(asyncio.Future):  # type: ignore[type-arg]
        pass

    monkeypatch.setattr(asyncio.tasks, "Task", OwnTask)
    monkeypatch.setattr(asyncio.futures, "Future", OwnFuture)
    task = loop.create_task(asyncio.sleep(0, "slept"))
    assert type(task) is OwnTask
    assert type(loop.create_future()) is OwnFuture
    assert await task == "slept"
