"""Event loops and servers by name.

A name is one of those listed in `PYTHON_LOOPS`, `NATIVE_SERVERS` or `PROXIES`, or the name of
any installed module that has a `new_event_loop`. Modules are imported when their loop is
made, never before: naming a loop that is not installed is an answer, not a crash.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from typing import Any, cast

from bench.errors import MissingError

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


@dataclass(frozen=True)
class PythonLoop:
    """Where a loop comes from: `module.maker(**arguments)`."""

    module: str
    arguments: tuple[tuple[str, str], ...] = ()
    maker: str = "new_event_loop"


PYTHON_LOOPS = {
    "asyncio": PythonLoop("asyncio"),
    "uvloop": PythonLoop("uvloop"),
    "uringloop": PythonLoop("uringloop", (("backend", "io_uring"),)),
    "uringloop-epoll": PythonLoop("uringloop", (("backend", "epoll"),)),
    "uringloop-auto": PythonLoop("uringloop"),
    "talyn": PythonLoop("talyn", maker="Loop"),
}
# Echo servers in C, without Python: the limit for a loop of either kind.
NATIVE_SERVERS = {"c-io_uring": "echo_uring", "c-epoll": "echo_epoll"}
# Programs that relay bytes and nothing else (proxies.py).
PROXIES = ("haproxy", "nginx")


@dataclass(frozen=True)
class LoopFacts:
    """What a loop says of itself. An empty string: it does not say."""

    name: str
    version: str
    backend: str
    backend_reason: str


def is_python(name: str) -> bool:
    """Whether this is an event loop, and not a program of another kind."""
    return name not in NATIVE_SERVERS and name not in PROXIES


def factory(name: str) -> LoopFactory:
    """What makes loops of this name.

    raises      MissingError: no such module, or it makes no event loops.
    """
    source = PYTHON_LOOPS.get(name, PythonLoop(name))
    if source.module == "asyncio":
        return asyncio.SelectorEventLoop  # even where a policy has been installed
    try:
        module = importlib.import_module(source.module)
    except ImportError as error:
        raise MissingError(f"{name}: {error}") from error
    make: Callable[..., asyncio.AbstractEventLoop] | None
    make = getattr(module, source.maker, None)
    if make is None:
        raise MissingError(f"{name}: the module {source.module} has no {source.maker}")
    arguments = dict(source.arguments)
    return lambda: make(**arguments)


def new_event_loop(name: str) -> asyncio.AbstractEventLoop:
    """A loop, or MissingError with the words in which it refused to be made."""
    make = factory(name)
    try:
        return make()
    except (OSError, RuntimeError, ImportError) as error:
        raise MissingError(f"{name}: {error}") from error


def facts(name: str, loop: asyncio.AbstractEventLoop) -> LoopFacts:
    """What to print of a loop beside its figures."""
    described = cast(Any, loop)
    return LoopFacts(
        name=name,
        version=_version(PYTHON_LOOPS.get(name, PythonLoop(name)).module),
        backend=str(getattr(described, "backend", "")),
        backend_reason=str(getattr(described, "backend_reason", "")),
    )


def _version(module: str) -> str:
    try:
        return metadata.version(module)
    except metadata.PackageNotFoundError:
        return str(getattr(importlib.import_module(module), "__version__", ""))
