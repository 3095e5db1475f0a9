"""The other end of datagrams, and a protocol that remembers what it was told.

As in peers.py, the other end is a plain blocking socket with a limit to each of its waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

from peers import PEER_LIMIT_S, limit_buffers, turns

FAMILIES = {"udp": socket.AF_INET, "udp6": socket.AF_INET6, "unix": socket.AF_UNIX}
HOSTS = {"udp": "127.0.0.1", "udp6": "::1"}


class Datagrams(asyncio.DatagramProtocol):
    """Remembers its calls by name in `calls`, and lets a test wait for them."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.received: list[tuple[bytes, Any]] = []
        self.errors: list[Exception] = []
        self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        self._changed = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.BaseTransport)
        self.transport: Any = transport
        self._note("made")

    def datagram_received(self, data: bytes, addr: Any) -> None:
        assert type(data) is bytes
        self.received.append((data, addr))
        self._note("received")

    def error_received(self, exc: Exception) -> None:
        assert isinstance(exc, OSError)
        self.errors.append(exc)
        self._note("error")

    def pause_writing(self) -> None:
        self._note("pause")

    def resume_writing(self) -> None:
        self._note("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        self._note("lost")
        self.lost.set_result(exc)  # a second call fails here

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

    def payloads(self) -> list[bytes]:
        return [data for data, _ in self.received]


def local_name(family: str, folder: Path, name: str) -> Any:
    """Where to bind; an internet socket gets a port of the kernel's choice."""
    return str(folder / name) if family == "unix" else (HOSTS[family], 0)


@contextlib.contextmanager
def open_peer(
    family: str, folder: Path, name: str = "peer", buffer_bytes: int | None = None
) -> Iterator[socket.socket]:
    """A bound blocking socket, the other end."""
    with socket.socket(FAMILIES[family], socket.SOCK_DGRAM) as peer:
        limit_buffers(peer, buffer_bytes)
        peer.bind(local_name(family, folder, name))
        peer.settimeout(PEER_LIMIT_S)
        yield peer


@contextlib.asynccontextmanager
async def endpoint(
    family: str,
    folder: Path,
    peer: socket.socket | None = None,
    factory: Callable[[], Datagrams] = Datagrams,
) -> AsyncIterator[Any]:
    """The protocol of an endpoint of the running loop; connected where there is a peer. At
    the end it is gone."""
    loop = asyncio.get_running_loop()
    remote = {} if peer is None else {"remote_addr": peer.getsockname()[: _names(family)]}
    _, protocol = await loop.create_datagram_endpoint(
        factory,
        local_addr=local_name(family, folder, "endpoint"),
        family=FAMILIES[family],
        **remote,
    )
    try:
        yield protocol
    finally:
        if "lost" not in protocol.calls:
            protocol.transport.abort()
        await turns(4)  # connection_lost is called soon after abort


def _names(family: str) -> int | None:
    """create_datagram_endpoint() takes pairs, whatever getsockname() says."""
    return None if family == "unix" else 2


def name_of(protocol: Datagrams) -> Any:
    return protocol.transport.get_extra_info("sockname")


def fill(protocol: Datagrams, size: int = 1000, address: Any = None) -> int:
    """Sends numbered datagrams until one has to wait; how many."""
    count = 0
    while not protocol.transport.get_write_buffer_size():
        protocol.transport.sendto(numbered(count, size), address)
        count += 1
    return count


def numbered(number: int, size: int = 1000) -> bytes:
    return number.to_bytes(4, "big") * (size // 4)


def recv_numbered(peer: socket.socket, count: int, size: int = 1000) -> None:
    """Receives `count` datagrams, which must be the first ones, in order."""
    for number in range(count):
        assert peer.recv(size + 1) == numbered(number, size), number


def recv_waiting(peer: socket.socket) -> list[bytes]:
    """All that is there now."""
    found = []
    peer.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            found.append(peer.recv(1 << 18))
    peer.settimeout(PEER_LIMIT_S)
    return found
