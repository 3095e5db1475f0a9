"""share_port(): one port, a listening socket for each worker, no connection lost between them."""

from __future__ import annotations

import asyncio
import errno
import socket
from asyncio import AbstractEventLoop
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from peers import in_thread, until_true

import uringloop

ANY_PORT = ("127.0.0.1", 0)
CONNECTIONS = 60


@pytest.fixture
def open_sockets() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def shared(open_sockets: ExitStack, workers: int, **options: int) -> list[socket.socket]:
    sockets = uringloop.share_port(ANY_PORT, workers, **options)
    for sock in sockets:
        open_sockets.enter_context(sock)
    return sockets


def connect(open_sockets: ExitStack, address: tuple[str, int], count: int) -> None:
    for _ in range(count):
        open_sockets.enter_context(socket.create_connection(address, timeout=10))


class Worker:
    """A server on one of the sockets, and how many it has served."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._transports: list[asyncio.BaseTransport] = []

    @property
    def address(self) -> tuple[str, int]:
        name: tuple[str, int] = self._sock.getsockname()
        return name

    @property
    def count(self) -> int:
        return len(self._transports)

    async def start(self, loop: AbstractEventLoop) -> None:
        remember = self._transports.append

        class Served(asyncio.Protocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                remember(transport)

        self._server = await loop.create_server(Served, sock=self._sock)

    def stop(self) -> None:
        self._server.close()
        for transport in self._transports:
            transport.close()


async def test_connections_are_spread_over_the_workers(
    loop: AbstractEventLoop, open_sockets: ExitStack
) -> None:
    first, second = (Worker(sock) for sock in shared(open_sockets, 2))
    await first.start(loop)
    await second.start(loop)
    await in_thread(connect, open_sockets, first.address, CONNECTIONS)
    await until_true(lambda: first.count + second.count == CONNECTIONS)
    assert min(first.count, second.count) > 0, "of 60 all on one side: once in 2**59 runs"
    first.stop()
    second.stop()


async def test_connections_that_come_before_a_worker_wait_for_it(
    loop: AbstractEventLoop, open_sockets: ExitStack
) -> None:
    """The parent's sockets listen: so what a worker leaves in its queue is its successor's."""
    workers = [Worker(sock) for sock in shared(open_sockets, 2)]
    await in_thread(connect, open_sockets, workers[0].address, CONNECTIONS)
    for worker in workers:
        await worker.start(loop)
    await until_true(lambda: sum(worker.count for worker in workers) == CONNECTIONS)
    for worker in workers:
        worker.stop()


def test_all_listen_on_the_port_that_the_kernel_chose(open_sockets: ExitStack) -> None:
    sockets = shared(open_sockets, 3)
    assert len({sock.getsockname() for sock in sockets}) == 1
    assert sockets[0].getsockname()[1] != 0
    assert all(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) for sock in sockets)
    assert not any(sock.getblocking() for sock in sockets)


def test_sockets_of_ipv6_leave_ipv4_to_others(open_sockets: ExitStack) -> None:
    (sock,) = uringloop.share_port(("::1", 0), 1, family=socket.AF_INET6)
    open_sockets.enter_context(sock)
    assert sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("others", [1, 2])
def test_a_port_of_others_is_refused_also_where_they_share_it(
    open_sockets: ExitStack, workers: int, others: int
) -> None:
    address = shared(open_sockets, others)[0].getsockname()
    with pytest.raises(OSError, match="in use") as raised:
        uringloop.share_port(address, workers)
    assert raised.value.errno == errno.EADDRINUSE


def test_where_one_cannot_listen_none_is_left_open() -> None:
    """That would be a ResourceWarning."""
    with pytest.raises(OverflowError):
        uringloop.share_port(ANY_PORT, 2, backlog=2**40)


def test_less_than_one_worker_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1, not 0"):
        uringloop.share_port(ANY_PORT, 0)
