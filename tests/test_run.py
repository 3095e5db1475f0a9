"""Ways to start: uringloop.run, new_event_loop, the policy, asyncio.Runner, the environment."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable, Generator, Iterator
from typing import Any

import pytest
from children import run_program

import uringloop

pytestmark = pytest.mark.ours
RUNNER = pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio.Runner came with 3.11")


@pytest.fixture
def chosen(loop_kind: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The backend that the environment asks for."""
    monkeypatch.setenv("URINGLOOP_BACKEND", loop_kind)
    return loop_kind


@pytest.fixture
def with_policies() -> Iterator[Callable[[], Any]]:
    """What each use of policies is wrapped in: asyncio warns of it since 3.14."""

    def policies() -> Any:
        if sys.version_info < (3, 14):
            return contextlib.nullcontext()
        return pytest.warns(DeprecationWarning, match="policy")

    with policies():
        before = asyncio.get_event_loop_policy()
    yield policies
    with policies():
        asyncio.set_event_loop_policy(before)


async def backend_of_running_loop() -> str:
    await asyncio.sleep(0)
    loop = asyncio.get_running_loop()
    assert isinstance(loop, uringloop.EventLoop)
    return loop.backend


def test_run_runs_a_coroutine_on_our_loop(chosen: str) -> None:
    assert uringloop.run(backend_of_running_loop()) == chosen


def test_run_may_be_called_again_and_again(chosen: str) -> None:
    for _ in range(20):
        assert uringloop.run(backend_of_running_loop()) == chosen


def test_run_raises_what_the_coroutine_raises(chosen: str) -> None:
    async def fail() -> None:
        raise LookupError("main")

    with pytest.raises(LookupError, match="main"):
        uringloop.run(fail())


@pytest.mark.parametrize("debug", [True, False])
def test_run_sets_debug_mode(debug: bool, chosen: str) -> None:
    async def main() -> bool:
        return asyncio.get_running_loop().get_debug()

    assert uringloop.run(main(), debug=debug) is debug


def test_run_inside_run_is_refused(chosen: str) -> None:
    async def main() -> None:
        inner = backend_of_running_loop()
        with pytest.raises(RuntimeError, match="cannot be called from a running event loop"):
            uringloop.run(inner)
        inner.close()

    uringloop.run(main())


def test_run_refuses_what_is_no_coroutine(chosen: str) -> None:
    with pytest.raises((TypeError, ValueError), match=r"a coroutine was expected|required"):
        uringloop.run(42)


def test_run_ends_tasks_generators_and_executor(chosen: str) -> None:
    ended: list[str] = []

    async def forgotten() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            ended.append("task")

    async def generator() -> object:
        try:
            yield 1
            yield 2
        finally:
            ended.append("generator")

    async def main() -> None:
        task = asyncio.ensure_future(forgotten())
        numbers = generator()
        await numbers.__anext__()
        await asyncio.get_running_loop().run_in_executor(None, ended.append, "executor")
        kept.extend([task, numbers])

    kept: list[object] = []
    uringloop.run(main())
    assert ended == ["executor", "task", "generator"]


def test_a_task_left_over_that_fails_is_reported(
    chosen: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def stubborn() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            raise LookupError("while it was cancelled")

    async def main() -> None:
        kept.append(asyncio.ensure_future(stubborn()))
        await asyncio.sleep(0)

    kept: list[object] = []
    uringloop.run(main())
    assert "during" in caplog.text
    assert "while it was cancelled" in caplog.text


def test_install_makes_asyncio_use_our_loop(chosen: str, with_policies: Callable[[], Any]) -> None:
    with with_policies():
        uringloop.install()
    with with_policies():
        assert isinstance(asyncio.get_event_loop_policy(), uringloop.EventLoopPolicy)
    assert asyncio.run(backend_of_running_loop()) == chosen


@pytest.mark.skipif(sys.version_info < (3, 14), reason="policies are deprecated since 3.14")
def test_install_warns_its_caller_once_and_names_what_to_use(
    with_policies: Callable[[], Any],
) -> None:
    with pytest.warns(DeprecationWarning, match="event loop policy") as warned:
        uringloop.install()
    (warning,) = warned
    assert warning.filename == __file__
    assert "loop_factory=uringloop.new_event_loop" in str(warning.message)


def test_the_policy_makes_our_loops(chosen: str, with_policies: Callable[[], Any]) -> None:
    policy = uringloop.EventLoopPolicy()
    with with_policies():
        asyncio.set_event_loop_policy(policy)
    loop = asyncio.new_event_loop()
    assert isinstance(loop, uringloop.EventLoop)
    asyncio.set_event_loop(loop)
    assert policy.get_event_loop() is loop
    asyncio.set_event_loop(None)
    loop.close()


@pytest.mark.skipif(sys.version_info < (3, 14), reason="earlier, none was made or it warned")
def test_the_policy_has_no_loop_of_its_own(chosen: str) -> None:
    with pytest.raises(RuntimeError, match="no current event loop"):
        uringloop.EventLoopPolicy().get_event_loop()


@pytest.mark.skipif(sys.version_info < (3, 14), reason="run() takes coroutines only before 3.14")
def test_run_takes_whatever_can_be_awaited(chosen: str) -> None:
    class Awaitable:
        def __await__(self) -> Generator[Any, None, str]:
            return backend_of_running_loop().__await__()

    assert uringloop.run(Awaitable()) == chosen


@RUNNER
def test_a_runner_takes_new_event_loop(chosen: str) -> None:
    with asyncio.Runner(loop_factory=uringloop.new_event_loop) as runner:
        assert runner.run(backend_of_running_loop()) == chosen
        assert runner.run(backend_of_running_loop()) == chosen


@pytest.mark.skipif(sys.version_info < (3, 12), reason="loop_factory of run came with 3.12")
def test_asyncio_run_takes_new_event_loop(chosen: str) -> None:
    result = asyncio.run(backend_of_running_loop(), loop_factory=uringloop.new_event_loop)
    assert result == chosen


def test_the_loop_tells_its_backend_and_why(loop_kind: str) -> None:
    loop = uringloop.new_event_loop(backend=loop_kind)
    assert loop.backend == loop_kind
    assert isinstance(loop.backend_reason, str)
    assert loop_kind in loop.backend_reason
    loop.close()


def test_the_argument_wins_over_the_environment(
    loop_kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = {"io_uring": "epoll", "epoll": "io_uring"}[loop_kind]
    monkeypatch.setenv("URINGLOOP_BACKEND", other)
    loop = uringloop.new_event_loop(backend=loop_kind)
    assert loop.backend == loop_kind
    loop.close()


@pytest.mark.parametrize("name", ["uring", "kqueue", "IO_URING"])
def test_an_unknown_backend_is_refused_with_the_names_there_are(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match=r"backend.*auto, io_uring, epoll"):
        uringloop.new_event_loop(backend=name)
    monkeypatch.setenv("URINGLOOP_BACKEND", name)
    with pytest.raises(ValueError, match=r"URINGLOOP_BACKEND.*auto, io_uring, epoll"):
        uringloop.new_event_loop()


def test_an_unknown_feature_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("URINGLOOP_DISABLE", "no_such_feature")
    with pytest.raises(ValueError, match=r"no_such_feature"):
        uringloop.new_event_loop()


def test_io_uring_can_be_switched_off_as_a_feature(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("URINGLOOP_DISABLE", "io_uring")
    loop = uringloop.new_event_loop()
    assert loop.backend == "epoll"
    assert "URINGLOOP_DISABLE" in loop.backend_reason
    loop.close()


def test_a_program_that_forgets_its_loop_ends_cleanly(loop_kind: str) -> None:
    """The interpreter shuts down with an unclosed loop, in the middle of operations."""
    assert run_program("left_running.py", loop_kind) == "end of program\n"
