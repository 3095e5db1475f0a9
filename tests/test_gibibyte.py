"""A gibibyte through one connection, by a protocol that heeds flow control.

What people run is in tests/frameworks.
"""

from __future__ import annotations

import asyncio
import random
import socket
import zlib
from asyncio import AbstractEventLoop
from collections.abc import Callable, Iterator

import pytest
from peers import Recorder, in_thread, wire

GIBIBYTE = 1 << 30
MEBIBYTE = 1 << 20


def blocks() -> Iterator[bytes]:
    """A gibibyte, a mebibyte at a time, in an order that repeats late."""
    chance = random.Random(3)
    distinct = [chance.randbytes(MEBIBYTE) for _ in range(16)]
    return (distinct[(number * number + number // 16) % 16] for number in range(1024))


def checksum(pieces: Iterator[bytes]) -> int:
    value = 0
    for piece in pieces:
        value = zlib.crc32(piece, value)
    return value


def receive_and_sum(sock: socket.socket) -> tuple[int, int]:
    value = count = 0
    buffer = bytearray(MEBIBYTE)
    with memoryview(buffer) as view:
        while size := sock.recv_into(buffer):
            value = zlib.crc32(view[:size], value)
            count += size
    return count, value


class Summing(Recorder):
    """Keeps a checksum instead of the data."""

    count = value = 0

    def data_received(self, data: bytes) -> None:
        self.count += len(data)
        self.value = zlib.crc32(data, self.value)


class Sender(Recorder):
    """Sends while it may, as flow control wants it."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.left = blocks()
        self.paused = False
        self.send()

    def send(self) -> None:
        while not self.paused:
            block = next(self.left, None)
            if block is None:
                self.transport.close()
                return
            self.transport.write(block)

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        self.send()


@pytest.mark.ours
@pytest.mark.parametrize("family", ["tcp", "unix"])
async def test_a_gibibyte_is_sent_whole(family: str, loop: AbstractEventLoop) -> None:
    async with wire(Sender, family) as connection:
        count, value = await in_thread(receive_and_sum, connection.peer)
        assert count == GIBIBYTE
        assert value == await in_thread(checksum, blocks())
        assert await connection.protocol.lost is None


@pytest.mark.ours
@pytest.mark.parametrize("family", ["tcp", "unix"])
async def test_a_gibibyte_is_received_whole(family: str, loop: AbstractEventLoop) -> None:
    async with wire(Summing, family) as connection:
        await in_thread(_send_all, connection.peer, blocks)
        assert await connection.protocol.lost is None
        assert connection.protocol.count == GIBIBYTE
        assert connection.protocol.value == await in_thread(checksum, blocks())


def _send_all(sock: socket.socket, pieces: Callable[[], Iterator[bytes]]) -> None:
    for piece in pieces():
        sock.sendall(piece)
    sock.close()
