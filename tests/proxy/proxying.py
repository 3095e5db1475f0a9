"""A proxy in the loop under test, between plain blocking sockets that threads use."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from peers import PEER_LIMIT_S, in_thread, until_true

from uringloop.proxy.addresses import Address, TcpAddress, UnixAddress
from uringloop.proxy.configuration import Configuration
from uringloop.proxy.listening import listen
from uringloop.proxy.log import LOGGER
from uringloop.proxy.server import Proxy

HOST = "127.0.0.1"


@dataclass(eq=False)
class Events(logging.Handler):
    """What the proxy logged: (event, fields)."""

    seen: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def emit(self, record: logging.LogRecord) -> None:
        self.seen.append((record.getMessage(), record.fields))  # type: ignore[attr-defined]

    def of(self, name: str) -> list[dict[str, Any]]:
        return [fields for event, fields in self.seen if event == name]

    async def one(self, name: str) -> dict[str, Any]:
        """The only event of that name, once it is there."""
        await until_true(lambda: self.of(name))
        (found,) = self.of(name)
        return found


@contextlib.contextmanager
def logged(level: int = logging.DEBUG) -> Iterator[Events]:
    events = Events()
    before = LOGGER.level, LOGGER.propagate
    LOGGER.addHandler(events)
    LOGGER.setLevel(level)
    LOGGER.propagate = False
    try:
        yield events
    finally:
        LOGGER.removeHandler(events)
        LOGGER.level, LOGGER.propagate = before


class Upstream:
    """A listening socket; accept() answers in a thread, with a limit."""

    def __init__(self, family: int = socket.AF_INET, path: str | None = None) -> None:
        if path is not None:
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.bind(path)
            self.address: Address = UnixAddress(path)
        else:
            self.sock = socket.socket(family)
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.sock.bind(("::1" if family == socket.AF_INET6 else HOST, 0))
            self.address = TcpAddress(*self.sock.getsockname()[:2])
        self.sock.listen(100)
        self.sock.settimeout(PEER_LIMIT_S)

    def __enter__(self) -> Upstream:
        return self

    def __exit__(self, *exception: object) -> None:
        self.sock.close()

    def accept(self) -> asyncio.Future[socket.socket]:
        return in_thread(self._accept)

    def _accept(self) -> socket.socket:
        peer = self.sock.accept()[0]
        peer.settimeout(PEER_LIMIT_S)
        return peer


def unused_address() -> TcpAddress:
    """Nobody listens there: connecting is refused. (The port is free a moment later.)"""
    with socket.socket() as sock:
        sock.bind((HOST, 0))
        return TcpAddress(*sock.getsockname())


@dataclass
class Running:
    """A proxy and where it listens."""

    proxy: Proxy
    address: Address
    events: Events

    async def connect(self) -> socket.socket:
        return await in_thread(self._connect)

    def _connect(self) -> socket.socket:
        if isinstance(self.address, UnixAddress):
            peer = socket.socket(socket.AF_UNIX)
            peer.settimeout(PEER_LIMIT_S)
            peer.connect(self.address.path)
            return peer
        return socket.create_connection(
            (self.address.host, self.address.port), timeout=PEER_LIMIT_S
        )


@contextlib.asynccontextmanager
async def running(
    *upstreams: Address,
    listen_on: Address | None = None,
    clock: Callable[[], float] = time.monotonic,
    **changes: Any,
) -> AsyncIterator[Running]:
    """A proxy, cut at the end, when nothing may be left of it."""
    listeners = listen(listen_on or TcpAddress(HOST, 0))
    with logged() as events:
        proxy = Proxy(Configuration(upstreams=upstreams, **changes), clock)
        await proxy.start(listeners.sockets[0])
        try:
            yield Running(proxy, listeners.names[0], events)
        finally:
            proxy.stop_accepting()
            await proxy.cut()
            listeners.close()
            assert proxy.counters().open == 0
            assert [upstream.open for upstream in proxy.upstreams.all] == [0] * len(upstreams)
            assert [upstream.connecting for upstream in proxy.upstreams.all] == [0] * len(upstreams)


@contextlib.asynccontextmanager
async def carried(proxy: Running, upstream: Upstream) -> AsyncIterator[tuple[Any, Any]]:
    """A client's socket and the upstream's, connected through the proxy."""
    client = await proxy.connect()
    with client, await upstream.accept() as server:
        yield client, server


async def exchange(client: socket.socket, server: socket.socket, question: bytes = b"?") -> None:
    """A few bytes each way, so that the connection is known to work."""
    await in_thread(client.sendall, question)
    assert await in_thread(server.recv, len(question), socket.MSG_WAITALL) == question
    await in_thread(server.sendall, b"answer")
    assert await in_thread(client.recv, 6, socket.MSG_WAITALL) == b"answer"


def ends_without_a_byte(peer: socket.socket) -> bool:
    """FIN and RST are both an end; a byte is not."""
    try:
        return peer.recv(1) == b""
    except ConnectionResetError:
        return True
