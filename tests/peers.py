"""The other end of a connection, and protocols that remember what they were told.

A peer is a plain blocking socket used from a thread: nothing of the loop under test is on
both ends, so that two equal mistakes cannot cancel out.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import struct
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest

PEER_LIMIT_S = 10

Pair = tuple[socket.socket, socket.socket]
Result = TypeVar("Result")


def in_thread(function: Callable[..., Result], *args: Any) -> asyncio.Future[Result]:
    """Starts at once, also when it is awaited later."""
    loop = asyncio.get_running_loop()
    return loop.run_in_executor(None, functools.partial(function, *args))


async def turns(count: int) -> None:
    """Lets the loop turn, where the test is about what happens in between."""
    for _ in range(count):
        await asyncio.sleep(0)


async def until_true(condition: Callable[[], bool]) -> None:
    """Keeps the loop turning, without rest, until nobody can tell us but by looking."""
    while not condition():  # noqa: ASYNC110 - there is nothing that could set an event
        await asyncio.sleep(0)


class Recorder(asyncio.Protocol):
    """Remembers its calls by name in `calls`, and lets a test wait for them."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.calls: list[str] = []
        self.data = bytearray()
        self.keep_open: bool | None = None
        self.made: asyncio.Future[None] = loop.create_future()
        self.ended: asyncio.Future[None] = loop.create_future()
        self.lost: asyncio.Future[Exception | None] = loop.create_future()
        self._changed = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._note("made")
        self.made.set_result(None)

    def data_received(self, data: bytes) -> None:
        assert type(data) is bytes
        assert data
        self.data += data
        self._note("data")

    def eof_received(self) -> bool | None:
        self._note("eof")
        self.ended.set_result(None)
        return self.keep_open

    def connection_lost(self, exc: Exception | None) -> None:
        self._note("lost")
        self.lost.set_result(exc)  # a second call fails here

    def pause_writing(self) -> None:
        self._note("pause")

    def resume_writing(self) -> None:
        self._note("resume")

    def _note(self, call: str) -> None:
        self.calls.append(call)
        self._changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Waits until a call made the condition true; the test's limit bounds it."""
        while not condition():
            self._changed.clear()
            await self._changed.wait()

    async def until_called(self, call: str, count: int = 1) -> None:
        await self.until(lambda: self.calls.count(call) >= count)

    async def received(self, count: int) -> bytes:
        await self.until(lambda: len(self.data) >= count)
        return bytes(self.data)


class BufferedRecorder(Recorder, asyncio.BufferedProtocol):
    """The same, giving the transport a buffer of `buffer_bytes` to receive into.

    The buffer is given as a memoryview: stdlib's SSLProtocol slices what it is given.
    """

    def __init__(self, buffer_bytes: int = 65536) -> None:
        super().__init__()
        self.buffer = bytearray(buffer_bytes)
        self.hints: list[int] = []

    def get_buffer(self, sizehint: int) -> memoryview:
        self.hints.append(sizehint)
        return memoryview(self.buffer)

    def buffer_updated(self, nbytes: int) -> None:
        assert 0 < nbytes <= len(self.buffer)
        self.data += self.buffer[:nbytes]
        self._note("data")


# For tests of what both kinds of protocol have to be told alike.
each_protocol = pytest.mark.parametrize("factory", [Recorder, BufferedRecorder])


@dataclass
class Wire:
    """A transport under test, its protocol, and the blocking socket at the other end."""

    transport: asyncio.Transport
    protocol: Any
    peer: socket.socket


FAMILIES = ("tcp", "tcp6", "unix")
_HOSTS = {"tcp": ("127.0.0.1", socket.AF_INET), "tcp6": ("::1", socket.AF_INET6)}


@contextlib.asynccontextmanager
async def wire(
    factory: Callable[[], Recorder] = Recorder,
    family: str = "tcp",
    buffer_bytes: int | None = None,
) -> AsyncIterator[Wire]:
    """A connection made by the loop to a plain socket. `buffer_bytes` makes the sender's
    and the receiver's kernel buffers small. At the end both sides are gone."""
    ours, peer = await _connected_pair(family, buffer_bytes)
    peer.settimeout(PEER_LIMIT_S)
    loop = asyncio.get_running_loop()
    connect = loop.create_unix_connection if family == "unix" else loop.create_connection
    transport, protocol = await connect(factory, sock=ours)
    with peer:
        try:
            yield Wire(transport, protocol, peer)
        finally:
            if "lost" not in protocol.calls:
                transport.abort()
    for _ in range(4):
        await asyncio.sleep(0)  # connection_lost is called soon after abort


async def _connected_pair(
    family: str, buffer_bytes: int | None
) -> tuple[socket.socket, socket.socket]:
    if family == "unix":
        ours, peer = socket.socketpair()
        limit_buffers(ours, buffer_bytes)
        limit_buffers(peer, buffer_bytes)
    else:
        ours, peer = _tcp_pair(*_HOSTS[family], buffer_bytes)
    ours.setblocking(False)
    return ours, peer


def _tcp_pair(
    host: str, family: socket.AddressFamily, buffer_bytes: int | None
) -> tuple[socket.socket, socket.socket]:
    with socket.socket(family) as listener:
        limit_buffers(listener, buffer_bytes)
        listener.bind((host, 0))
        listener.listen()
        ours = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        limit_buffers(ours, buffer_bytes)
        ours.connect(listener.getsockname())
        return ours, listener.accept()[0]


def limit_buffers(sock: socket.socket, buffer_bytes: int | None) -> None:
    if buffer_bytes is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer_bytes)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)


def send_all_or_until_refused(sock: socket.socket, data: bytes) -> None:
    with contextlib.suppress(ConnectionError):
        sock.sendall(data)


def recv_exactly(sock: socket.socket, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        piece = sock.recv(min(count - len(data), 1 << 20))
        if not piece:
            raise EOFError(f"{len(data)} of {count} bytes")
        data += piece
    return bytes(data)


def recv_until_eof(sock: socket.socket) -> bytes:
    data = bytearray()
    while piece := sock.recv(1 << 20):
        data += piece
    return bytes(data)


def reset(sock: socket.socket) -> None:
    """Closes with RST instead of FIN."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def numbered_bytes(count: int, start: int = 0) -> bytes:
    """Bytes whose 4-byte words count up, so that a lost, doubled or moved piece shows."""
    first, last = start // 4, (start + count) // 4 + 1
    words = struct.pack(f">{last - first}I", *range(first, last))
    return words[start % 4 : start % 4 + count]
