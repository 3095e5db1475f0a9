"""Who has the methods of the API, and how to get one of each from a loop.

Loops, transports, servers and handles are looked at live: what a loop really hands out is
what users call.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

from tests.api import ends
from tests.peers import wire

Loop = asyncio.AbstractEventLoop
LiveObject = Callable[[Loop], AbstractAsyncContextManager[object]]


@dataclass(frozen=True)
class Owner:
    """label   what its methods are listed under; "" for the loop
    documented the classes of asyncio whose public names count
    live       opens one on the running loop
    """

    label: str
    documented: tuple[type, ...]
    live: LiveObject
    more: tuple[str, ...] = ()

    def member_names(self) -> list[str]:
        names = [name for each in self.documented for name in dir(each) if name[0] != "_"]
        return list(dict.fromkeys([*names, *self.more]))

    def method_name(self, member: str) -> str:
        return f"{self.label}.{member}" if self.label else member


@contextlib.asynccontextmanager
async def _loop(loop: Loop) -> AsyncIterator[object]:
    yield loop


@contextlib.asynccontextmanager
async def _stream(loop: Loop) -> AsyncIterator[object]:
    async with wire() as link:
        yield link.transport


@contextlib.asynccontextmanager
async def _tls_stream(loop: Loop) -> AsyncIterator[object]:
    async with ends.tls_wire() as link:
        yield link.transport


@contextlib.asynccontextmanager
async def _read_pipe(loop: Loop) -> AsyncIterator[object]:
    async with ends.read_pipe() as pipe:
        yield pipe.transport


@contextlib.asynccontextmanager
async def _write_pipe(loop: Loop) -> AsyncIterator[object]:
    async with ends.write_pipe() as pipe:
        yield pipe.transport


@contextlib.asynccontextmanager
async def _datagram(loop: Loop) -> AsyncIterator[object]:
    async with ends.datagrams() as link:
        yield link.transport


@contextlib.asynccontextmanager
async def _child(loop: Loop) -> AsyncIterator[object]:
    async with ends.child("true") as child:
        yield child.transport


@contextlib.asynccontextmanager
async def _server(loop: Loop) -> AsyncIterator[object]:
    async with ends.serving(await loop.create_server(ends.Recorder, "127.0.0.1", 0)) as server:
        yield server


@contextlib.asynccontextmanager
async def _handle(loop: Loop) -> AsyncIterator[object]:
    yield loop.call_soon(int)


@contextlib.asynccontextmanager
async def _timer(loop: Loop) -> AsyncIterator[object]:
    timer = loop.call_later(ends.NEVER_S, int)
    yield timer
    timer.cancel()


_FLOW_CONTROL = ("get_write_buffer_limits", "get_write_buffer_size", "set_write_buffer_limits")

OWNERS = (
    Owner("", (asyncio.AbstractEventLoop,), _loop),
    Owner("Handle", (asyncio.Handle,), _handle),
    Owner("TimerHandle", (asyncio.TimerHandle,), _timer),
    Owner("Server", (asyncio.base_events.Server,), _server),
    Owner("Transport", (asyncio.Transport,), _stream),
    Owner("TLS transport", (asyncio.Transport,), _tls_stream),
    Owner("ReadTransport", (asyncio.ReadTransport,), _read_pipe),
    Owner("WriteTransport", (asyncio.WriteTransport,), _write_pipe),
    # Flow control of datagrams is documented with the protocol's pause_writing().
    Owner("DatagramTransport", (asyncio.DatagramTransport,), _datagram, _FLOW_CONTROL),
    Owner("SubprocessTransport", (asyncio.SubprocessTransport,), _child),
)


async def live_members(owner: Owner) -> dict[str, Any]:
    """The members of a live object by method name: bound methods, so without `self` however it is
    called there, and properties as they are."""
    async with owner.live(asyncio.get_running_loop()) as live:
        return {owner.method_name(name): _member(live, name) for name in owner.member_names()}


def _member(live: object, name: str) -> Any:
    # type(), for an extension type may answer another __class__.
    of_class = getattr(type(live), name, None)
    return of_class if isinstance(of_class, property) else getattr(live, name, None)


async def all_members() -> dict[str, Any]:
    """Each member of each owner, on the running loop; None where one is missing."""
    found = {}
    for owner in OWNERS:
        found.update(await live_members(owner))
    return found


FUNCTIONS = (
    "run",
    "Runner",
    "open_connection",
    "start_server",
    "open_unix_connection",
    "start_unix_server",
    "create_subprocess_exec",
    "create_subprocess_shell",
    "run_coroutine_threadsafe",
    "to_thread",
    "wrap_future",
)


def functions() -> dict[str, Any]:
    """asyncio's own functions that rest on the loop, the same whichever loop runs."""
    return {
        f"asyncio.{name}": getattr(asyncio, name) for name in FUNCTIONS if hasattr(asyncio, name)
    }
