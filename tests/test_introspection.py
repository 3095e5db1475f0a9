"""Row 40: what tells of tasks from outside sees those of our loops.

asyncio.all_tasks and current_task, also from other threads; since 3.14 the call graph of a
task, and `python -m asyncio ps` and `pstree`, which read another process's memory.
"""

from __future__ import annotations

import asyncio
import io
import subprocess
import sys
import threading
from asyncio import AbstractEventLoop
from collections.abc import Callable
from typing import Any

import pytest
from children import CHILD_LIMIT_S, started_program
from loops import LoopFactory
from peers import in_thread

JOIN_LIMIT_S = 10
CALL_GRAPH = pytest.mark.skipif(sys.version_info < (3, 14), reason="call graphs came with 3.14")
EAGER = pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with 3.12")


async def innermost(future: asyncio.Future[None]) -> None:
    await future


async def middle(future: asyncio.Future[None]) -> None:
    await innermost(future)


def names_of(tasks: set[asyncio.Task[Any]]) -> list[str]:
    return sorted(task.get_name() for task in tasks)


def in_own_thread(work: Callable[[], object]) -> None:
    """Runs `work` in a thread while this one waits without a turn of the loop."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(JOIN_LIMIT_S)
    assert not thread.is_alive()


async def test_all_tasks_are_those_that_are_not_done(loop: AbstractEventLoop) -> None:
    future = loop.create_future()
    waiting = loop.create_task(middle(future), name="waiting")
    before = asyncio.all_tasks() - {waiting}
    assert asyncio.current_task() in before
    assert asyncio.all_tasks(loop) == before | {waiting}
    future.set_result(None)
    await waiting
    assert asyncio.all_tasks() == before


@EAGER
async def test_an_eager_task_that_waits_is_among_all_tasks(loop: AbstractEventLoop) -> None:
    future = loop.create_future()
    loop.set_task_factory(asyncio.eager_task_factory)
    before = asyncio.all_tasks()
    task = loop.create_task(middle(future))
    assert asyncio.all_tasks() == before | {task}
    future.set_result(None)
    await task
    assert asyncio.all_tasks() == before


async def test_all_tasks_can_be_asked_for_from_another_thread(loop: AbstractEventLoop) -> None:
    future = loop.create_future()
    task = loop.create_task(middle(future), name="seen from a thread")
    assert task in await in_thread(asyncio.all_tasks, loop)
    future.set_result(None)
    await task


def test_tasks_are_known_while_the_loop_does_not_run(loop: AbstractEventLoop) -> None:
    future = loop.create_future()
    task = loop.create_task(middle(future))
    assert asyncio.all_tasks(loop) == {task}
    loop.run_until_complete(asyncio.sleep(0))
    assert asyncio.all_tasks(loop) == {task}
    assert asyncio.current_task(loop) is None
    future.set_result(None)
    loop.run_until_complete(task)
    assert asyncio.all_tasks(loop) == set()


def test_loops_in_two_threads_know_their_own_tasks(new_loop: LoopFactory) -> None:
    seen: dict[str, list[str]] = {}
    both_are_there = threading.Barrier(2, timeout=JOIN_LIMIT_S)
    loops = [new_loop(), new_loop()]

    async def main(name: str) -> None:
        task = asyncio.ensure_future(asyncio.sleep(0))
        task.set_name(f"task of {name}")
        both_are_there.wait()
        seen[name] = names_of(asyncio.all_tasks() - {asyncio.current_task()})
        both_are_there.wait()
        await task

    threads = [
        threading.Thread(target=loop.run_until_complete, args=(main(name),))
        for name, loop in zip(("one", "two"), loops, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(JOIN_LIMIT_S)
    assert seen == {"one": ["task of one"], "two": ["task of two"]}


async def test_the_current_task_is_the_one_whose_step_runs(loop: AbstractEventLoop) -> None:
    seen: list[asyncio.Task[Any] | None] = []

    async def look() -> None:
        seen.append(asyncio.current_task())
        await asyncio.sleep(0)
        seen.append(asyncio.current_task(loop))

    task = loop.create_task(look())
    await task
    assert seen == [task, task]


async def test_a_callback_has_no_current_task(loop: AbstractEventLoop) -> None:
    seen = loop.create_future()
    loop.call_soon(lambda: seen.set_result(asyncio.current_task()))
    assert await seen is None


async def test_another_thread_sees_the_current_task(loop: AbstractEventLoop) -> None:
    seen: list[asyncio.Task[Any] | None] = []
    in_own_thread(lambda: seen.append(asyncio.current_task(loop)))
    assert seen == [asyncio.current_task()]


@EAGER
async def test_an_eager_task_is_current_in_its_first_step(loop: AbstractEventLoop) -> None:
    outer = asyncio.current_task()
    seen: list[asyncio.Task[Any] | None] = []

    async def look() -> None:
        seen.append(asyncio.current_task())

    task = asyncio.Task(look(), loop=loop, eager_start=True)
    assert seen == [task]
    assert asyncio.current_task() is outer


def functions_of(graph: Any) -> list[str]:
    return [entry.frame.f_code.co_name for entry in graph.call_stack]


@CALL_GRAPH
async def test_a_call_graph_tells_what_a_task_waits_in_and_who_waits_for_it(
    loop: AbstractEventLoop,
) -> None:
    graph = await graph_while_awaited(asyncio.capture_call_graph)
    assert functions_of(graph) == ["innermost", "middle"]
    (awaiter,) = graph.awaited_by
    assert awaiter.future is asyncio.current_task()
    assert "graph_while_awaited" in functions_of(awaiter)


@CALL_GRAPH
async def test_a_call_graph_can_be_captured_in_a_callback(loop: AbstractEventLoop) -> None:
    """There is no task then: the graph is that of no future at all."""
    captured = loop.create_future()
    loop.call_soon(lambda: captured.set_result(asyncio.capture_call_graph()))
    assert await captured is None


@CALL_GRAPH
async def test_a_call_graph_can_be_printed(loop: AbstractEventLoop) -> None:
    text = await graph_while_awaited(asyncio.format_call_graph)
    assert "name='the one awaited'" in text
    assert "innermost" in text
    assert "awaited by" in text.lower()
    page = io.StringIO()
    await graph_while_awaited(lambda task: asyncio.print_call_graph(task, file=page))
    assert "innermost" in page.getvalue()


async def graph_while_awaited(look: Callable[[asyncio.Task[None]], Any]) -> Any:
    """What `look` says of a task that this one waits for."""
    loop = asyncio.get_running_loop()
    future = loop.create_future()
    task = loop.create_task(middle(future), name="the one awaited")
    seen: list[Any] = []

    def look_and_end() -> None:
        seen.append(look(task))
        future.set_result(None)

    loop.call_soon(loop.call_soon, look_and_end)  # after the task's first step
    await task
    return seen[0]


@CALL_GRAPH
@pytest.mark.parametrize("command", ["ps", "pstree"])
def test_the_tasks_of_a_process_are_shown_from_outside(command: str, loop_kind: str) -> None:
    """A program waits in the kernel; asyncio's tool finds its tasks in its memory."""
    with started_program("waiting_tasks.py", loop_kind) as child:
        shown = subprocess.run(
            [sys.executable, "-m", "asyncio", command, str(child.pid)],
            capture_output=True,
            text=True,
            timeout=CHILD_LIMIT_S,
            check=False,
        )
    if "insufficient permissions" in shown.stdout + shown.stderr:
        pytest.skip("this system does not let a process read another's memory")
    assert shown.returncode == 0, shown.stdout + shown.stderr
    for name in ("the waiter", "the awaited", "innermost"):
        assert name in shown.stdout
