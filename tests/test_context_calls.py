"""Users' code called in its context, as contextvars.Context.run() would."""

from __future__ import annotations

from contextvars import ContextVar, copy_context
from typing import Any

import pytest

from uringloop.context_calls import call_method, call_with, current_context

NAME: ContextVar[str] = ContextVar("NAME", default="nobody")


class Receiver:
    def look(self, argument: Any) -> tuple[str, Any]:
        return NAME.get(), argument

    def fail(self, argument: Any) -> None:
        NAME.set("failed")
        raise ValueError(argument)


def named_context(name: str) -> Any:
    context = copy_context()
    context.run(NAME.set, name)
    return context


def test_a_method_runs_in_the_context_that_is_given() -> None:
    assert call_method(named_context("somebody"), Receiver(), "look", 5) == ("somebody", 5)
    assert NAME.get() == "nobody"


def test_a_method_of_the_object_itself_comes_first() -> None:
    receiver: Any = Receiver()
    receiver.look = lambda argument: (NAME.get(), "own", argument)
    assert call_method(named_context("x"), receiver, "look", 5) == ("x", "own", 5)


def test_a_callback_gets_all_its_arguments() -> None:
    assert call_with(named_context("x"), lambda *a: (NAME.get(), *a), (1, 2)) == ("x", 1, 2)
    assert call_with(named_context("x"), NAME.get, ()) == "x"


def test_an_exception_leaves_the_context_and_what_was_set_in_it() -> None:
    context = named_context("somebody")
    with pytest.raises(ValueError, match="seven"):
        call_method(context, Receiver(), "fail", "seven")
    assert NAME.get() == "nobody"
    assert context.run(NAME.get) == "failed"  # so it can be entered again


def test_a_context_that_is_entered_already_is_refused() -> None:
    context = copy_context()
    with pytest.raises(RuntimeError, match="already entered"):
        context.run(call_method, context, Receiver(), "look", 5)
    with pytest.raises(RuntimeError, match="already entered"):
        context.run(call_with, context, print, ())


def test_a_missing_method_and_missing_arguments_are_errors() -> None:
    with pytest.raises(AttributeError, match="nothing"):
        call_method(copy_context(), Receiver(), "nothing", 5)
    with pytest.raises(TypeError):
        call_with(copy_context(), print, None)  # type: ignore[arg-type]


def test_the_current_context_is_a_copy() -> None:
    copied = current_context()
    copied.run(NAME.set, "changed")
    assert NAME.get() == "nobody"
