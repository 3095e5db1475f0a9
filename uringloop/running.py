"""Entry points: run a program on uringloop, or make asyncio use it.

`run` is asyncio.run with our loop. `new_event_loop` fits wherever a loop factory is taken
(asyncio.Runner, asyncio.run from 3.12 on, uvicorn). The policy is for code that calls
asyncio.new_event_loop(); asyncio has deprecated policies from 3.14 on.
"""

from __future__ import annotations

import asyncio
import sys
import warnings
from collections.abc import Coroutine
from typing import Any, TypeVar

from uringloop.loop import EventLoop

_T = TypeVar("_T")

_INSTEAD = "use uringloop.run(), or loop_factory=uringloop.new_event_loop"


def new_event_loop(backend: str | None = None) -> EventLoop:
    """A new loop.

    backend   "io_uring", "epoll" or "auto"; None asks the environment's URINGLOOP_BACKEND
    raises    RuntimeError when io_uring is demanded and cannot be had
    """
    return EventLoop(backend)


def run(main: Coroutine[Any, Any, _T], *, debug: bool | None = None) -> _T:
    """Runs the coroutine `main` to its end on a new loop, as asyncio.run does.

    main      since 3.14 anything that can be awaited
    debug     the loop's debug mode; None leaves it to PYTHONASYNCIODEBUG
    returns   what `main` returns
    raises    what `main` raises; RuntimeError when a loop is running in this thread
    """
    if asyncio._get_running_loop() is not None:
        if asyncio.iscoroutine(main):
            main.close()
        raise RuntimeError("uringloop.run() cannot be called from a running event loop")
    if sys.version_info >= (3, 11):
        with asyncio.Runner(debug=debug, loop_factory=new_event_loop) as runner:
            return runner.run(main)
    return _run_before_runner(main, debug)


def _run_before_runner(main: Coroutine[Any, Any, _T], debug: bool | None) -> _T:
    """What asyncio.run of Python 3.10 does, for another loop."""
    if not asyncio.iscoroutine(main):
        raise ValueError(f"a coroutine was expected, got {main!r}")
    loop = new_event_loop()
    try:
        asyncio.set_event_loop(loop)
        if debug is not None:
            loop.set_debug(debug)
        return loop.run_until_complete(main)
    finally:
        try:
            _cancel_all_tasks(loop)
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.run_until_complete(loop.shutdown_default_executor())
        finally:
            asyncio.set_event_loop(None)
            loop.close()


def _cancel_all_tasks(loop: EventLoop) -> None:
    """Cancels what is left, waits for it, and reports what it raised."""
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
    for task in tasks:
        if not task.cancelled() and task.exception() is not None:
            loop.call_exception_handler(
                {
                    "message": "unhandled exception during run() shutdown",
                    "exception": task.exception(),
                    "task": task,
                }
            )


# asyncio has deprecated policies since 3.14 and is to be without them from 3.16 on: it then
# warns of each use, and this module is imported by programs that make none.
with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    _Policy: Any = getattr(asyncio, "DefaultEventLoopPolicy", object)


class EventLoopPolicy(_Policy):  # type: ignore[misc]
    """asyncio's default policy, with our loops."""

    def _loop_factory(self) -> EventLoop:
        return new_event_loop()


def install() -> None:
    """Makes asyncio.new_event_loop(), and so asyncio.run(), use uringloop in this process.

    From 3.14 on this is deprecated as all of asyncio's policies are, and warns: use run(), or
    hand new_event_loop to asyncio.run() and asyncio.Runner() as their loop_factory.

    raises    RuntimeError where asyncio has no policies any more
    """
    if not hasattr(asyncio, "set_event_loop_policy"):
        raise RuntimeError(f"asyncio has no event loop policies any more; {_INSTEAD}")
    if sys.version_info >= (3, 14):
        warnings.warn(
            "uringloop.install() sets an event loop policy, which asyncio has deprecated; "
            f"{_INSTEAD}",
            DeprecationWarning,
            stacklevel=2,
        )
    _set_policy()


def become_default() -> None:
    """Makes asyncio.new_event_loop(), asyncio.run() and asyncio.Runner use uringloop in this
    process, on every Python and without a warning: for the command `run`, whose user has
    asked for it. A program says install().
    """
    if hasattr(asyncio, "set_event_loop_policy"):
        _set_policy()
    else:  # from 3.16 on Runner, and so run(), takes what this function makes
        for module in (asyncio, asyncio.events):
            vars(module)["new_event_loop"] = new_event_loop


def _set_policy() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        asyncio.set_event_loop_policy(EventLoopPolicy())
