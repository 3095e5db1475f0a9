"""What checks talk to: peers of the loop under test, and words for what went wrong.

The other end is a plain blocking socket, a descriptor or a child process, used from a thread
where it might wait. Each context leaves nothing open.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import re
import socket
import ssl
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from tests.certificates import HOST, contexts
from tests.peers import PEER_LIMIT_S, Recorder, Wire, in_thread, turns

NEVER_S = 3600.0
SOON_S = 0.05  # a limit that is meant to run out

# Object names with addresses or descriptors, which no two runs share.
_OBJECT = re.compile(r"<.*>")


def words(error: BaseException) -> str:
    """An exception as an observation. The text of an OSError may hold a port: its name does."""
    if isinstance(error, OSError) and error.errno in errno.errorcode:
        return f"{type(error).__name__} {errno.errorcode[error.errno]}"
    return f"{type(error).__name__}: {_OBJECT.sub('<...>', str(error))}"


async def refusal(awaitable: Awaitable[Any]) -> str:
    """What the awaitable raises, in words."""
    try:
        return f"no refusal, but {await awaitable!r}"
    except Exception as error:
        return words(error)


def refusal_of(function: Callable[..., Any], *args: Any, **kwargs: Any) -> str:
    """What the call raises, in words."""
    try:
        return f"no refusal, but {function(*args, **kwargs)!r}"
    except Exception as error:
        return words(error)


class Notes(Recorder):
    """A Recorder for pipes and datagrams too, whose transports are no asyncio.Transport."""

    def __init__(self) -> None:
        super().__init__()
        self.datagrams: list[bytes] = []
        self.senders: list[Any] = []
        self.errors: list[str] = []

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self._note("made")
        self.made.set_result(None)

    def datagram_received(self, data: bytes, address: Any) -> None:
        self.datagrams.append(data)
        self.senders.append(address)
        self._note("datagram")

    def error_received(self, error: OSError) -> None:
        self.errors.append(words(error))
        self._note("error")


class ChildNotes(asyncio.SubprocessProtocol):
    """Remembers what a child process wrote, and how it ended."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.written: dict[int, bytes] = {1: b"", 2: b""}
        self.calls: list[str] = []
        self.exited: asyncio.Future[None] = loop.create_future()
        self.lost: asyncio.Future[Exception | None] = loop.create_future()
        self._was_written = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.calls.append("made")

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self.written[fd] += data
        self._was_written.set()

    async def until_written(self, fd: int, data: bytes) -> None:
        while self.written[fd] != data:
            self._was_written.clear()
            await self._was_written.wait()

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        self.calls.append(f"pipe {fd} lost")

    def process_exited(self) -> None:
        self.calls.append("exited")
        self.exited.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self.calls.append("lost")
        self.lost.set_result(exc)


@dataclass
class Link:
    """A transport under test, its protocol, and whatever is at the other end."""

    transport: Any
    protocol: Any
    peer: Any


@contextlib.asynccontextmanager
async def tls_wire() -> AsyncIterator[Wire]:
    """A TLS connection by the loop to a plain blocking TLS socket."""
    ours, theirs = socket.socketpair()
    theirs.settimeout(PEER_LIMIT_S)
    accepting = in_thread(contexts().server.wrap_socket, theirs, True)
    transport, protocol = await asyncio.get_running_loop().create_connection(
        Recorder, sock=ours, ssl=contexts().client, server_hostname=HOST
    )
    with await accepting as peer:
        try:
            yield Wire(transport, protocol, peer)
        finally:
            transport.abort()
    await turns(4)


@contextlib.asynccontextmanager
async def read_pipe() -> AsyncIterator[Link]:
    """A pipe that the loop reads; the peer is the writing end, a file."""
    reading, writing = os.pipe()
    with os.fdopen(writing, "wb", 0) as peer:
        transport, protocol = await asyncio.get_running_loop().connect_read_pipe(
            Notes, os.fdopen(reading, "rb", 0)
        )
        try:
            yield Link(transport, protocol, peer)
        finally:
            transport.close()
    await turns(4)


@contextlib.asynccontextmanager
async def write_pipe() -> AsyncIterator[Link]:
    """A pipe that the loop writes; the peer is the reading end, a file."""
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb", 0) as peer:
        transport, protocol = await asyncio.get_running_loop().connect_write_pipe(
            Notes, os.fdopen(writing, "wb", 0)
        )
        try:
            yield Link(transport, protocol, peer)
        finally:
            if not transport.is_closing():
                transport.abort()
    await turns(4)


@contextlib.asynccontextmanager
async def datagrams() -> AsyncIterator[Link]:
    """A UDP endpoint of the loop, connected to a blocking socket."""
    with udp_socket() as peer:
        transport, protocol = await asyncio.get_running_loop().create_datagram_endpoint(
            Notes, remote_addr=peer.getsockname()
        )
        try:
            yield Link(transport, protocol, peer)
        finally:
            transport.abort()
    await turns(4)


@contextlib.contextmanager
def udp_socket() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(PEER_LIMIT_S)
        sock.bind(("127.0.0.1", 0))
        yield sock


@contextlib.asynccontextmanager
async def child(command: str, **arguments: Any) -> AsyncIterator[Link]:
    """A shell that runs `command`; killed at the end, if need be, and it alone: a command that
    may outlive it is to be called by exec."""
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.subprocess_shell(ChildNotes, command, **arguments)
    async with ended(transport, protocol):
        yield Link(transport, protocol, None)


@contextlib.asynccontextmanager
async def ended(transport: Any, protocol: ChildNotes) -> AsyncIterator[None]:
    """Sees to it that the child and its pipes are gone in the end."""
    try:
        yield
    finally:
        transport.close()
        await protocol.lost


@contextlib.asynccontextmanager
async def serving(server: asyncio.AbstractServer) -> AsyncIterator[Any]:
    """Closes the server in the end, and lets the loop take note."""
    try:
        yield server
    finally:
        server.close()
        await turns(4)


@contextlib.asynccontextmanager
async def closing(transport: Any) -> AsyncIterator[None]:
    """Ends a transport without waiting for what it still has to write."""
    try:
        yield
    finally:
        transport.abort()
        await turns(4)


@contextlib.contextmanager
def listener(
    host: str = "127.0.0.1", family: socket.AddressFamily = socket.AF_INET
) -> Iterator[socket.socket]:
    """A blocking listening socket."""
    with socket.socket(family) as sock:
        sock.settimeout(PEER_LIMIT_S)
        sock.bind((host, 0))
        sock.listen()
        yield sock


@contextlib.contextmanager
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """(non-blocking, blocking) ends of a connection."""
    ours, peer = socket.socketpair()
    with ours, peer:
        ours.setblocking(False)
        peer.settimeout(PEER_LIMIT_S)
        yield ours, peer


def connect(address: Any) -> socket.socket:
    """A blocking connection to an IPv4, IPv6 or Unix address."""
    if isinstance(address, (str, bytes)):
        family = socket.AF_UNIX
    else:
        family = socket.AF_INET if len(address) == 2 else socket.AF_INET6
    sock = socket.socket(family)
    sock.settimeout(PEER_LIMIT_S)
    try:
        sock.connect(address)
    except BaseException:
        sock.close()
        raise
    return sock


def connect_tls(address: Any) -> ssl.SSLSocket:
    return contexts().client.wrap_socket(connect(address), server_hostname=HOST)


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


@contextlib.contextmanager
def file_of(content: bytes) -> Iterator[BinaryIO]:
    """A file on disk with that content, at its start."""
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.seek(0)
        yield file
