"""Methods whose parameters depend on the Python that runs, as asyncio's do."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

_Method = TypeVar("_Method", bound=Callable[..., Any])
_Coroutine = TypeVar("_Coroutine", bound=Callable[..., Awaitable[Any]])


def keywords_since(**versions: tuple[int, int]) -> Callable[[_Coroutine], _Coroutine]:
    """Makes a coroutine function refuse keywords that asyncio does not have yet.

    versions   by keyword, the first Python that has it
    """
    unknown = {name for name, version in versions.items() if sys.version_info < version}

    def decorate(function: _Coroutine) -> _Coroutine:
        return _without(function, unknown) if unknown else function

    return decorate


def signature_of(original: Callable[..., Any]) -> Callable[[_Method], _Method]:
    """Shows the parameters of `original`, which the method hands on as they come."""

    def decorate(method: _Method) -> _Method:
        method.__signature__ = inspect.signature(original)  # type: ignore[attr-defined]
        return method

    return decorate


def _without(function: Any, unknown: set[str]) -> Any:
    @functools.wraps(function)
    async def method(*args: Any, **keywords: Any) -> Any:
        for name in unknown & keywords.keys():
            raise TypeError(f"{function.__name__}() got an unexpected keyword argument {name!r}")
        return await function(*args, **keywords)

    signature = inspect.signature(function)
    known = [each for name, each in signature.parameters.items() if name not in unknown]
    method.__signature__ = signature.replace(parameters=known)  # type: ignore[attr-defined]
    return method
