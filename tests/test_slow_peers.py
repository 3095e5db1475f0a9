"""Peers that are slow: to read, to write, to leave. The others notice nothing of them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import zlib
from asyncio import AbstractEventLoop
from collections.abc import Iterator
from pathlib import Path

import pytest
from peers import PEER_LIMIT_S, Recorder, in_thread, recv_exactly, until_true

SLOW = 60
BLOCK = b"".join(b"%07d\n" % number for number in range(80_000))  # more than a socket holds
HIGH = 65_536
PIECE = 10_000


class Sender(Recorder):
    """Sends BLOCK, in pieces and no faster than it may."""

    position = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.paused = False
        senders.append(self)
        self.send()

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        self.send()

    def send(self) -> None:
        while not self.paused and self.position < len(BLOCK):
            self.transport.write(BLOCK[self.position : self.position + PIECE])
            self.position += PIECE
        if self.position >= len(BLOCK):
            # Not at once: asyncio would call connection_lost() twice.
            asyncio.get_running_loop().call_soon(self.transport.close)


senders: list[Sender] = []


@pytest.fixture(autouse=True)
def _no_senders() -> Iterator[None]:
    yield
    senders.clear()


def connected(path: Path) -> socket.socket:
    peer = socket.socket(socket.AF_UNIX)
    peer.settimeout(PEER_LIMIT_S)
    peer.connect(str(path))
    return peer


async def test_peers_that_read_nothing_cost_a_bounded_buffer_and_hold_up_nobody(
    tmp_path: Path, loop: AbstractEventLoop
) -> None:
    """Rows 17 and 22. Half of them read all in the end, and half leave."""
    path = tmp_path / "socket"
    server = await loop.create_unix_server(Sender, path)
    with contextlib.ExitStack() as stack:
        peers = [stack.enter_context(connected(path)) for _ in range(SLOW)]
        await until_true(lambda: len(senders) == SLOW and all(each.paused for each in senders))
        sizes = [sender.transport.get_write_buffer_size() for sender in senders]
        assert max(sizes) <= HIGH + PIECE
        for _ in range(3):
            assert zlib.crc32(await in_thread(_read_all, path)) == zlib.crc32(BLOCK)
        for peer in peers[::2]:
            peer.close()
        for peer in peers[1::2]:
            assert await in_thread(recv_exactly, peer, len(BLOCK)) == BLOCK
        await asyncio.gather(*(sender.lost for sender in senders))
    errors = [sender.lost.result() for sender in senders]
    assert sum(error is not None for error in errors) == SLOW // 2
    server.close()


def _read_all(path: Path) -> bytes:
    with connected(path) as peer:
        return recv_exactly(peer, len(BLOCK))


async def test_peers_that_send_byte_by_byte_are_each_heard_in_order(
    loop: AbstractEventLoop,
) -> None:
    """Their bytes come interleaved; each line must be of one peer."""
    lines: list[bytes] = []
    all_read = loop.create_future()

    async def read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines.append(await reader.readline())
        writer.close()
        if len(lines) == SLOW:
            all_read.set_result(None)

    server = await asyncio.start_server(read, "127.0.0.1", 0)
    await in_thread(_send_in_turns, server.sockets[0].getsockname())
    await all_read
    assert sorted(lines) == [b"peer %03d says\n" % number for number in range(SLOW)]
    server.close()


def _send_in_turns(address: tuple[str, int]) -> None:
    with contextlib.ExitStack() as stack:
        peers = [stack.enter_context(socket.create_connection(address)) for _ in range(SLOW)]
        for peer in peers:
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for position in range(len(b"peer 000 says\n")):
            for number, peer in enumerate(peers):
                peer.sendall((b"peer %03d says\n" % number)[position : position + 1])
        for peer in peers:
            assert peer.recv(1) == b""
