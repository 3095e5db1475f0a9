"""Relays under test: both ends of them, in every kind that a relay takes."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from peers import Recorder, in_thread, recv_until_eof, wire

import uringloop

PIECE_BYTES = (1, 100, 1024, 5000, 65_536, 300_000)

# What is given as `a` and `b`.
KINDS = ("transports", "streams", "mixed")


@dataclass
class Ends:
    """What is given to relay(), the blocking sockets at the far ends, and what was told."""

    a: Any
    b: Any
    peer_a: Any
    peer_b: Any
    transports: tuple[Any, Any]
    protocols: tuple[Any, Any]

    def relay(self, **options: Any) -> uringloop.Relay:
        return uringloop.relay(self.a, self.b, **options)


@contextlib.asynccontextmanager
async def ends(
    kind: str = "transports", family: str = "tcp", buffer_bytes: int | None = None
) -> AsyncIterator[Ends]:
    async with contextlib.AsyncExitStack() as stack:
        sides = []
        for index in (0, 1):
            has_streams = kind == "streams" or (kind == "mixed" and index)
            factory = StreamRecorder if has_streams else Recorder
            side = await stack.enter_async_context(wire(factory, family, buffer_bytes))
            given = side.protocol.pair(side.transport) if has_streams else side.transport
            sides.append((given, side.peer, side.transport, side.protocol))
        a, b = sides
        yield Ends(a[0], b[0], a[1], b[1], (a[2], b[2]), (a[3], b[3]))


class StreamRecorder(asyncio.StreamReaderProtocol):
    """The protocol of a (reader, writer) pair, which remembers that it was told of the end."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.reader = asyncio.StreamReader(loop=self.loop)
        super().__init__(self.reader, loop=self.loop)
        self.calls: list[str] = []
        self.lost = self.loop.create_future()

    def pair(self, transport: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return self.reader, asyncio.StreamWriter(transport, self, self.reader, self.loop)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.calls.append("lost")
        self.lost.set_result(exc)  # a second call fails here


def engine_bytes(loop: Any) -> int:
    """How many bytes the engine has relayed; 0 for a loop that has none."""
    return loop.driver_state().counters["bytes_relayed"] if is_ours(loop) else 0


def is_ours(loop: Any) -> bool:
    return isinstance(loop, uringloop.EventLoop)


def pour(sock: Any, seed: int, total_bytes: int) -> str:
    """Sends pieces of all sizes and then the end; answers the digest."""
    generator = random.Random(seed)
    digest = hashlib.sha256()
    while total_bytes:
        size = min(total_bytes, generator.choice(PIECE_BYTES))
        piece = generator.randbytes(size)
        digest.update(piece)
        sock.sendall(piece)
        total_bytes -= size
    sock.shutdown(socket.SHUT_WR)
    return digest.hexdigest()


def drink(sock: Any, seed: int) -> tuple[str, int]:
    """Reads to the end, in pieces of all sizes; answers the digest and the count."""
    generator = random.Random(seed)
    digest = hashlib.sha256()
    total_bytes = 0
    while piece := sock.recv(generator.choice(PIECE_BYTES)):
        digest.update(piece)
        total_bytes += len(piece)
    return digest.hexdigest(), total_bytes


async def over(relay: uringloop.Relay) -> uringloop.RelayResult:
    return await relay


async def filled(relay: uringloop.Relay, sender: socket.socket) -> int:
    """Sends until nothing moves any more; how many bytes were taken."""
    taken = quiet_turns = 0
    while quiet_turns < 20:
        before = taken, relay.bytes_a_to_b
        with contextlib.suppress(BlockingIOError):
            while True:
                taken += sender.send(bytes(65_536))
        await asyncio.sleep(0.001)
        quiet_turns = quiet_turns + 1 if before == (taken, relay.bytes_a_to_b) else 0
    return taken


async def assert_reset(peer: socket.socket) -> None:
    with pytest.raises(ConnectionResetError):
        await in_thread(recv_until_eof, peer)


def until_gone(peer: socket.socket) -> None:
    with contextlib.suppress(ConnectionResetError):
        recv_until_eof(peer)
