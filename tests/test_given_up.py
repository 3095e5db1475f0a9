"""Calls that are given up before the kernel has heard of them, and sockets that are closed then.

Rows 5 and 9. In a turn that brings something, what its callbacks ask for goes to the kernel with
the next one. A task that is cancelled meanwhile closes its socket, and somebody else gets the
number: what the task had asked for must not happen to that socket.
"""

from __future__ import annotations

import asyncio
import os
import socket
from asyncio import AbstractEventLoop
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest
from peers import Pair, Recorder, turns

Address = tuple[str, int]
Call = Callable[[Any, Address], Awaitable[Any]]


class GivingUp(Recorder):
    """Cancels its task while events are dispatched. Behind the task, in the same turn, somebody
    opens a socket."""

    task: asyncio.Task[Any]
    stranger: socket.socket

    def __init__(self, open_stranger: Callable[[], socket.socket]) -> None:
        super().__init__()
        self._open_stranger = open_stranger

    def data_received(self, data: bytes) -> None:
        self.task.cancel()
        asyncio.get_running_loop().call_soon(self._open)

    def _open(self) -> None:
        self.stranger = self._open_stranger()


async def stranger_after(
    call: Awaitable[Any], pair: Pair, open_stranger: Callable[[], socket.socket]
) -> tuple[socket.socket, int]:
    """Begins `call` in a turn that brings something, which has it given up. The socket that was
    opened then, and the number that the first one opened in `call` had."""
    loop = asyncio.get_running_loop()
    ours, peer = pair
    transport, protocol = await loop.create_connection(lambda: GivingUp(open_stranger), sock=ours)
    number = free_number()
    protocol.task = asyncio.ensure_future(call)
    peer.sendall(b"x")
    with suppress(asyncio.CancelledError):
        await protocol.task
    await turns(5)
    transport.abort()
    await protocol.lost
    return protocol.stranger, number


def free_number() -> int:
    """Which descriptor is opened next."""
    number = os.dup(0)
    os.close(number)
    return number


async def plain_connection(loop: AbstractEventLoop, address: Address) -> None:
    await loop.create_connection(Recorder, *address)


async def connection_with_options(loop: AbstractEventLoop, address: Address) -> None:
    await loop.create_connection(Recorder, *address, family=socket.AF_INET)


async def connected_socket(loop: AbstractEventLoop, address: Address) -> None:
    with socket.socket() as sock:
        sock.setblocking(False)
        await loop.sock_connect(sock, address)


@pytest.mark.parametrize("call", [plain_connection, connection_with_options, connected_socket])
async def test_a_connect_connects_no_socket_but_its_own(
    call: Call, listener: socket.socket, pair: Pair, loop: AbstractEventLoop
) -> None:
    address = listener.getsockname()
    stranger, number = await stranger_after(call(loop, address), pair, socket.socket)
    with stranger:
        assert stranger.fileno() == number
        with pytest.raises(OSError, match="not connected"):
            stranger.getpeername()


@pytest.fixture
def raw() -> Any:
    """A connected socket, to be closed by who works with it, and the number of that."""
    ours, peer = socket.socketpair()
    ours.setblocking(False)
    with ours, peer:
        yield ours


def stranger_with_bytes() -> socket.socket:
    """One end of a pair; the other one has sent something, and is closed."""
    stranger, peer = socket.socketpair()
    with peer:
        peer.sendall(b"the stranger's")
    return stranger


async def test_a_receive_takes_no_bytes_of_another_socket(
    raw: socket.socket, pair: Pair, loop: AbstractEventLoop
) -> None:
    number = raw.fileno()

    async def receive() -> None:
        with raw:
            await loop.sock_recv(raw, 100)

    stranger, _ = await stranger_after(receive(), pair, stranger_with_bytes)
    with stranger:
        assert stranger.fileno() == number
        assert stranger.recv(100) == b"the stranger's"


async def test_a_send_gives_no_bytes_to_another_socket(
    raw: socket.socket, pair: Pair, loop: AbstractEventLoop
) -> None:
    number = raw.fileno()
    peers = []

    async def send() -> None:
        with raw:
            await loop.sock_sendall(raw, bytes(1 << 24))  # more than asyncio gets rid of at once

    def open_stranger() -> socket.socket:
        stranger, peer = socket.socketpair()
        peers.append(peer)
        return stranger

    stranger, _ = await stranger_after(send(), pair, open_stranger)
    with stranger, peers[0] as peer:
        assert stranger.fileno() == number
        peer.setblocking(False)
        with pytest.raises(BlockingIOError):
            peer.recv(1)
