"""Fixtures: each behaviour test runs on three loops, within a limit, and is audited.

A test that takes `loop` may be a coroutine function; it then runs on that loop. What the
loop reports to its exception handler must be taken out of `reported` by the test.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import signal
import socket
from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest

pytest.register_assert_rewrite("audit", "peers")

from audit import assert_nothing_left, descriptors_of_a_loop, open_descriptors, settle  # noqa: E402
from differences import DIFFERENCES  # noqa: E402
from loops import ALL, OURS, LoopFactory, make_loop, parameter  # noqa: E402
from peers import Pair  # noqa: E402

TEST_LIMIT_S = 20  # the coroutine's; pytest-timeout's is larger, for what hangs below Python


def pytest_configure(config: pytest.Config) -> None:
    # A shell starts a background job deaf to Ctrl-C, which some tests give themselves.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    config.addinivalue_line("markers", "difference(name): a listed difference from asyncio")
    config.addinivalue_line("markers", "ours: about what only our loops have")


def pytest_collection_finish() -> None:
    """Hypothesis registers its generator of random numbers in its first run, and warns if a
    fixture has frozen what refers to that: a run before all fixtures."""
    once = hypothesis.settings(max_examples=1, database=None)
    once(hypothesis.given(hypothesis.strategies.none())(lambda _: None))()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "loop_kind" in metafunc.fixturenames:
        metafunc.parametrize("loop_kind", [parameter(kind) for kind in _kinds(metafunc)])


def _kinds(metafunc: pytest.Metafunc) -> tuple[str, ...]:
    if metafunc.definition.get_closest_marker("ours"):
        return OURS
    difference = metafunc.definition.get_closest_marker("difference")
    if difference and DIFFERENCES[difference.args[0]].on_this_python:
        return OURS
    return ALL


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    loop: asyncio.AbstractEventLoop = pyfuncitem.funcargs["loop"]
    names = pyfuncitem._fixtureinfo.argnames
    body = pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names})
    loop.run_until_complete(asyncio.wait_for(body, TEST_LIMIT_S))
    return True


@pytest.fixture
def pair() -> Iterator[Pair]:
    """Two connected sockets, ours non-blocking, the peer's with a limit."""
    ours, peer = socket.socketpair()
    ours.setblocking(False)
    peer.settimeout(10)
    with ours, peer:
        yield ours, peer


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """Non-blocking, on a free port."""
    with socket.create_server(("127.0.0.1", 0), backlog=1000) as sock:
        sock.setblocking(False)
        yield sock


@pytest.fixture
def new_loop(loop_kind: str) -> Iterator[LoopFactory]:
    """Makes loops of the kind under test; the test or this fixture closes them."""
    gc.freeze()  # the audit collects: let it look at this test's objects alone, for speed
    before = open_descriptors()
    made: list[asyncio.AbstractEventLoop] = []

    def factory() -> asyncio.AbstractEventLoop:
        made.append(make_loop(loop_kind))
        return made[-1]

    yield factory
    for loop in made:
        loop.close()
    assert_nothing_left(made, before)


@pytest.fixture
def reported() -> list[dict[str, Any]]:
    """What `loop` told its exception handler. A test that expects a report takes it out."""
    return []


@pytest.fixture
def loop(
    loop_kind: str, new_loop: LoopFactory, reported: list[dict[str, Any]]
) -> Iterator[asyncio.AbstractEventLoop]:
    descriptors = len(open_descriptors()) + descriptors_of_a_loop(loop_kind)
    loop = new_loop()
    loop.set_exception_handler(lambda _, context: reported.append(context))
    yield loop
    if not loop.is_closed():
        settle(loop, descriptors)
        loop.close()
    gc.collect()  # futures and tasks whose exception nobody took report now
    assert reported == []
