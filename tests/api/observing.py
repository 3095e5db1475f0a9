"""Runs one check on one kind of loop, and says what was observed.

For the document. In the tests, fixtures of tests/conftest.py bring the loop and audit it.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import functools
import inspect
from collections.abc import Iterator
from typing import Any

from tests.api.ends import words
from tests.api.registry import Check
from tests.loops import LoopFactory, make_loop

CHECK_LIMIT_S = 15


def observe(check: Check, given: Any) -> Any:
    """The observation of `check`, given what it takes: a loop, or a maker of loops."""
    if inspect.iscoroutinefunction(check.function):
        limited = asyncio.wait_for(check.function(given), CHECK_LIMIT_S)
        observation = given.run_until_complete(limited)
    else:
        observation = check.function(given)
    # Lists may grow when the loop is run to its end.
    return copy.deepcopy(observation)


@functools.cache
def on_asyncio(check: Check) -> Any:
    """What asyncio's own loop does: the oracle, on which no check may fail."""
    reported: list[dict[str, Any]] = []
    observation = _on_fresh_loop("asyncio", check, reported)
    assert reported == [], check.name
    return observation


def on_ours(kind: str, check: Check) -> Any:
    """What a loop of ours does; what it raised or reported, in words."""
    reported: list[dict[str, Any]] = []
    try:
        observation = _on_fresh_loop(kind, check, reported)
    except Exception as error:
        return f"raised {words(error)}"
    return f"reported {reported[0]['message']}" if reported else observation


def _on_fresh_loop(kind: str, check: Check, reported: list[dict[str, Any]]) -> Any:
    with fresh_loops(kind, reported) as new_loop:
        return observe(check, new_loop() if check.takes == "loop" else new_loop)


@contextlib.contextmanager
def fresh_loops(kind: str, reported: list[dict[str, Any]]) -> Iterator[LoopFactory]:
    """Makes loops, and ends those that the check has not closed itself."""
    made: list[asyncio.AbstractEventLoop] = []

    def new_loop() -> asyncio.AbstractEventLoop:
        loop = make_loop(kind)
        loop.set_exception_handler(lambda _, context: reported.append(context))
        made.append(loop)
        return loop

    try:
        yield new_loop
    finally:
        for loop in made:
            if not loop.is_closed():
                loop.set_debug(False)  # its warnings are not what the check is about
                loop.run_until_complete(_wind_up(loop))
                loop.close()


async def _wind_up(loop: asyncio.AbstractEventLoop) -> None:
    tasks = asyncio.all_tasks(loop) - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await loop.shutdown_asyncgens()
    await loop.shutdown_default_executor()
