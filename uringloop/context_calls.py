"""Calling users' code in its context: what Context.run() does, without looking anything up.

A protocol's callback is a method of any class, found anew for each call, as in asyncio: it
may be replaced while the connection lives. Compiled, no bound method is made for it.

This is the interpreted rendering; context_calls.pyx is the compiled one.
"""

from __future__ import annotations

from contextvars import Context, copy_context
from typing import Any


def current_context() -> Context:
    """A copy of the running context, as contextvars.copy_context() makes it."""
    return copy_context()


def call_method(context: Context, receiver: Any, name: str, argument: Any) -> Any:
    """`receiver.name(argument)`, run in `context`.

    raises   what the method raises; RuntimeError when the context is entered already
    """
    return context.run(getattr(receiver, name), argument)


def call_with(context: Context, callback: Any, arguments: tuple[Any, ...]) -> Any:
    """`callback(*arguments)`, run in `context`; raises as call_method().

    A cancelled handle has no arguments: TypeError.
    """
    return context.run(callback, *arguments)
