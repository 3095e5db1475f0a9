"""Turns a test class of CPython's into one per loop.

Most classes need nothing but `LoopMaker.installed` around each test. The few that build a
loop out of private parts get a stand-in here, which replaces only their set-up.
"""

from __future__ import annotations

import asyncio
import importlib
import pkgutil
import unittest
from collections.abc import Iterator

import pytest
import test.test_asyncio
from test.test_asyncio import (
    test_base_events,
    test_events,
    test_pep492,
    test_runners,
    test_subprocess,
)
from test.test_asyncio import utils as test_utils

from .left_out import CLASSES, MODULES, reason_for
from .loops import LoopMaker, get_policy, why_unusable


class EventLoopTests(
    test_events.EventLoopTestsMixin, test_events.SubprocessTestsMixin, test_utils.TestCase
):
    """Without the child watcher that CPython's class attaches: ours has no use for one."""

    def create_event_loop(self):
        return asyncio.new_event_loop()

    def test_prompt_cancellation(self):
        # The test ends with this private method; there is nothing to stop in ours.
        self.loop._stop_serving = self.loop.remove_reader
        super().test_prompt_cancellation()


class SubprocessTests(test_subprocess.SubprocessMixin, test_utils.TestCase):
    """CPython has a class per child watcher; this one takes what the loop brings."""

    def setUp(self):
        super().setUp()
        self.loop = asyncio.new_event_loop()
        self.set_event_loop(self.loop)


class BaseEventLoopTests(test_base_events.BaseEventLoopTests):
    """CPython tests an abstract BaseEventLoop with a mocked selector; we, a whole loop."""

    def setUp(self):
        test_utils.TestCase.setUp(self)
        self.loop = asyncio.new_event_loop()
        self.set_event_loop(self.loop)


class _Pep492:
    def setUp(self):
        test_utils.TestCase.setUp(self)
        self.loop = asyncio.new_event_loop()
        self.set_event_loop(self.loop)


class Pep492LockTests(_Pep492, test_pep492.LockTests):
    """As BaseEventLoopTests."""


class Pep492StreamReaderTests(_Pep492, test_pep492.StreamReaderTests):
    """As BaseEventLoopTests."""


class Pep492CoroutineTests(_Pep492, test_pep492.CoroutineTests):
    """As BaseEventLoopTests."""


class _Runners:
    def setUp(self):
        self._make_loop = get_policy().new_event_loop
        super().setUp()

    def new_loop(self):
        loop = self._make_loop()
        loop.shutdown_ag_run = False

        async def shutdown_asyncgens():
            loop.shutdown_ag_run = True

        loop.shutdown_asyncgens = shutdown_asyncgens
        return loop


STAND_INS = {
    "test_base_events.BaseEventLoopTests": BaseEventLoopTests,
    "test_events.EPollEventLoopTests": EventLoopTests,
    "test_pep492.CoroutineTests": Pep492CoroutineTests,
    "test_pep492.LockTests": Pep492LockTests,
    "test_pep492.StreamReaderTests": Pep492StreamReaderTests,
    "test_subprocess.SubprocessPidfdWatcherTests": SubprocessTests,
} | {
    f"test_runners.{name}": type(name, (_Runners, getattr(test_runners, name)), {})
    for name in ("RunTests", "RunnerTests")
    if hasattr(test_runners, name)
}


def cpython_classes() -> Iterator[tuple[str, type[unittest.TestCase]]]:
    """Each test class of the running Python, as ("test_events.TimerTests", the class)."""
    for module_name in cpython_modules():
        if module_name not in MODULES:
            module = importlib.import_module(f"test.test_asyncio.{module_name}")
            for name, value in vars(module).items():
                if _is_test_class_of(module.__name__, value):
                    yield f"{module_name}.{name}", value


def cpython_modules() -> list[str]:
    names = (module.name for module in pkgutil.iter_modules(test.test_asyncio.__path__))
    return sorted(name for name in names if name.startswith("test_"))


def names_of_tests(case: type[unittest.TestCase]) -> list[str]:
    return list(unittest.defaultTestLoader.getTestCaseNames(case))


def _is_test_class_of(module_name: str, value: object) -> bool:
    return (
        isinstance(value, type)
        and issubclass(value, unittest.TestCase)
        and value.__module__ == module_name
        and bool(names_of_tests(value))
    )


class _OnLoop:
    """Runs each test with every way to make a loop led to the loop under test."""

    loop_id: str
    # IsolatedAsyncioTestCase then asks asyncio for a loop, even where CPython names its own.
    loop_factory = None

    def run(self, result=None):
        if refusal := why_unusable(self.loop_id):
            raise unittest.SkipTest(refusal)
        maker = LoopMaker(self.loop_id)
        self.addCleanup(self._assert_a_loop_was_made, maker)
        with maker.installed():
            return super().run(result)

    def _assert_a_loop_was_made(self, maker):
        # A test that never met our loop proves nothing about it.
        if self._outcome.success:
            self.assertTrue(maker.has_made, "this test made no loop: leave it out")

    def new_test_loop(self, gen=None):
        """A loop under test in the place of CPython's TestLoop."""
        self.assertIsNone(gen, "this test steers a clock of its own: leave it out")
        loop = asyncio.new_event_loop()
        self.set_event_loop(loop)
        return loop


def on_loop(name: str, case: type[unittest.TestCase], loop_id: str) -> type[unittest.TestCase]:
    """`case` on that loop, without the tests that are left out."""
    base = STAND_INS.get(name, case)
    # A test that is None is no test: neither unittest nor pytest sees it.
    hidden = {test: None for test in names_of_tests(base) if reason_for(f"{name}.{test}")}
    own_name = f"{name.replace('.', '_')}_{loop_id}"
    # CPython tests what it has deprecated; any other warning is an error, as everywhere.
    marks = [pytest.mark.filterwarnings("default::DeprecationWarning")]
    members = {"loop_id": loop_id, "pytestmark": marks, "__module__": __name__, **hidden}
    return type(own_name, (_OnLoop, base), members)


def classes_under_test(loop_id: str) -> Iterator[type[unittest.TestCase]]:
    for name, case in cpython_classes():
        if name not in CLASSES:
            yield on_loop(name, case, loop_id)
