"""The end of a process that serves: drained, cut by a second request, cut by the time."""

from __future__ import annotations

import asyncio
import socket
from asyncio import AbstractEventLoop
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
from peers import in_thread, recv_until_eof, until_true

from tests.proxy.proxying import HOST, Events, Running, Upstream, ends_without_a_byte, exchange
from tests.proxy.proxying import logged as logged_events
from uringloop.proxy.addresses import TcpAddress
from uringloop.proxy.configuration import Configuration
from uringloop.proxy.errors import ExitStatus
from uringloop.proxy.listening import listen
from uringloop.proxy.server import Proxy
from uringloop.proxy.serving import CUT, DRAIN, StopRequests, serve

pytestmark = pytest.mark.ours

LONG_S = 3600.0


@dataclass
class Serving:
    """What serve() serves, one connection that it has, and how to stop it."""

    requests: StopRequests
    ended: asyncio.Future[ExitStatus]
    client: socket.socket
    server: socket.socket
    address: TcpAddress
    events: Events

    def is_refused(self) -> bool:
        try:
            socket.create_connection((self.address.host, self.address.port)).close()
        except ConnectionRefusedError:
            return True
        return False


@asynccontextmanager
async def serving(drain_timeout_s: float = LONG_S) -> AsyncIterator[Serving]:
    listeners = listen(TcpAddress(HOST, 0))
    with Upstream() as upstream, logged_events() as events:
        proxy = Proxy(Configuration(upstreams=(upstream.address,)))
        requests = StopRequests()
        ended = asyncio.ensure_future(serve(proxy, listeners.sockets[0], requests, drain_timeout_s))
        await asyncio.sleep(0)
        client = await Running(proxy, listeners.names[0], events).connect()
        address = listeners.names[0]
        assert isinstance(address, TcpAddress)
        with client, await upstream.accept() as server:
            await exchange(client, server)
            yield Serving(requests, ended, client, server, address, events)


async def test_draining_refuses_new_connections_and_waits_for_old_ones(
    loop: AbstractEventLoop,
) -> None:
    async with serving() as it:
        it.requests.add()
        await it.events.one("draining")
        assert await in_thread(it.is_refused)
        await exchange(it.client, it.server)
        assert not it.ended.done()
        it.client.close()
        assert await in_thread(recv_until_eof, it.server) == b""
        it.server.close()
        assert await it.ended is ExitStatus.DRAINED
        assert (await it.events.one("draining"))["connections"] == 1
        assert (await it.events.one("connection"))["end"] == "eof"


async def test_a_second_request_cuts(loop: AbstractEventLoop) -> None:
    async with serving() as it:
        it.requests.add()
        await it.events.one("draining")
        it.requests.add()
        assert await in_thread(ends_without_a_byte, it.client)
        assert await in_thread(ends_without_a_byte, it.server)
        assert await it.ended is ExitStatus.CUT
        assert (await it.events.one("cut"))["connections"] == 1


async def test_the_time_to_drain_is_limited(loop: AbstractEventLoop) -> None:
    async with serving(drain_timeout_s=0.05) as it:
        it.requests.add()
        assert await in_thread(ends_without_a_byte, it.client)
        assert await it.ended is ExitStatus.CUT


async def test_no_time_to_drain_cuts_at_once(loop: AbstractEventLoop) -> None:
    async with serving(drain_timeout_s=0.0) as it:
        it.requests.add()
        assert await it.ended is ExitStatus.CUT


@pytest.mark.parametrize("orders", [DRAIN, b""], ids=["told", "the parent is gone"])
async def test_a_worker_drains_when_told_and_when_its_parent_is_gone(
    loop: AbstractEventLoop, orders: bytes
) -> None:
    async with serving() as it:
        it.requests.obey(orders)
        await it.events.one("draining")
        assert not it.ended.done()
        it.requests.obey(orders)  # again: no second request
        await exchange(it.client, it.server)
        it.client.close()
        it.server.close()
        assert await it.ended is ExitStatus.DRAINED


async def test_a_worker_cuts_when_told(loop: AbstractEventLoop) -> None:
    async with serving() as it:
        it.requests.obey(DRAIN + CUT)
        assert await it.ended is ExitStatus.CUT


async def test_without_connections_draining_ends_at_once(loop: AbstractEventLoop) -> None:
    listeners = listen(TcpAddress(HOST, 0))
    requests = StopRequests()
    proxy = Proxy(Configuration(upstreams=(TcpAddress(HOST, 1),)))
    ended = asyncio.ensure_future(serve(proxy, listeners.sockets[0], requests, LONG_S))
    await asyncio.sleep(0)
    requests.add()
    assert await ended is ExitStatus.DRAINED
    await until_true(lambda: all(sock.fileno() == -1 for sock in listeners.sockets[0]))
