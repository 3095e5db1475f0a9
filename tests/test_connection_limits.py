"""Server.set_connection_limit(): never more connections than that, and never fewer for long."""

from __future__ import annotations

import asyncio
import socket
import ssl
from asyncio import AbstractEventLoop
from pathlib import Path
from typing import Any

import pytest
from certificates import HOST, contexts
from peers import Recorder, in_thread, recv_exactly, recv_until_eof, turns, until_true

import uringloop

pytestmark = pytest.mark.ours

SOME_TURNS = 20


class Served:
    """What a server serves: its protocols, and how many are open."""

    def __init__(self) -> None:
        self.protocols: list[Recorder] = []

    def new(self) -> Recorder:
        self.protocols.append(Recorder())
        return self.protocols[-1]

    @property
    def count(self) -> int:
        return len(self.protocols)

    @property
    def open(self) -> list[Recorder]:
        return [each for each in self.protocols if "lost" not in each.calls]

    async def end(self, server: asyncio.AbstractServer, peers: list[socket.socket]) -> None:
        server.close()
        for protocol in self.open:
            await protocol.made
            protocol.transport.abort()
            await protocol.lost
        for peer in peers:
            peer.close()


def connected(address: Any, count: int) -> list[socket.socket]:
    return [socket.create_connection(address, timeout=10) for _ in range(count)]


async def test_servers_are_asyncios_and_ours(loop: AbstractEventLoop, tmp_path: Path) -> None:
    for server in (
        await loop.create_server(Recorder, "127.0.0.1", 0),
        await loop.create_unix_server(Recorder, tmp_path / "socket"),
        await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0),
    ):
        assert isinstance(server, asyncio.Server)
        assert isinstance(server, uringloop.Server)
        assert repr(server).startswith("<Server sockets=(")
        server.close()


async def test_the_next_is_served_when_one_has_ended(loop: Any) -> None:
    served = Served()
    server = await loop.create_server(served.new, "127.0.0.1", 0, backlog=100)
    server.set_connection_limit(3)
    peers = await in_thread(connected, server.sockets[0].getsockname(), 10)
    for ended in range(7):
        await until_true(lambda ended=ended: served.count == 3 + ended)
        await turns(SOME_TURNS)
        assert (served.count, len(served.open)) == (3 + ended, 3)
        peers[ended].close()
    await until_true(lambda: served.count == 10)
    for protocol in served.protocols[7:]:
        await protocol.made
    ports = [peer.getsockname()[1] for peer in peers[7:]]
    assert [each.transport.get_extra_info("peername")[1] for each in served.protocols[7:]] == ports
    await served.end(server, peers)


async def test_a_turn_that_brings_many_stops_at_the_limit(loop: Any) -> None:
    """They are in the kernel's queue when the server starts."""
    served = Served()
    server = await loop.create_server(served.new, "127.0.0.1", 0, backlog=100, start_serving=False)
    server.set_connection_limit(2)
    server.sockets[0]._sock.listen(100)
    peers = connected(server.sockets[0].getsockname(), 30)
    await server.start_serving()
    await until_true(lambda: served.count == 2)
    await turns(SOME_TURNS)
    assert served.count == 2
    server.set_connection_limit(None)
    await until_true(lambda: served.count == 30)
    await served.end(server, peers)


async def test_the_limit_may_be_lowered_and_raised(loop: Any) -> None:
    served = Served()
    server = await loop.create_server(served.new, "127.0.0.1", 0, backlog=100)
    peers = await in_thread(connected, server.sockets[0].getsockname(), 4)
    await until_true(lambda: served.count == 4)
    server.set_connection_limit(2)  # closes nothing
    peers += await in_thread(connected, server.sockets[0].getsockname(), 4)
    peers[0].close()
    peers[1].close()
    await until_true(lambda: len(served.open) == 2)
    await turns(SOME_TURNS)
    assert served.count == 4
    server.set_connection_limit(5)
    await until_true(lambda: served.count == 7)
    await turns(SOME_TURNS)
    assert served.count == 7
    await served.end(server, peers)


async def test_the_limit_is_of_all_sockets_together(loop: Any) -> None:
    served = Served()
    server = await loop.create_server(served.new, ["127.0.0.1", "127.0.0.2"], 0)
    server.set_connection_limit(2)
    addresses = [sock.getsockname() for sock in server.sockets]
    assert len(addresses) == 2
    peers = [peer for address in addresses for peer in connected(address, 3)]
    await until_true(lambda: served.count == 2)
    await turns(SOME_TURNS)
    assert served.count == 2
    while served.count < 6:
        for protocol in served.open:
            await protocol.made
            protocol.transport.abort()
        await turns(1)
        assert len(served.open) <= 2
    await served.end(server, peers)


async def test_a_unix_server_has_a_limit_too(loop: Any, tmp_path: Path) -> None:
    served = Served()
    server = await loop.create_unix_server(served.new, tmp_path / "socket")
    server.set_connection_limit(1)
    peers = [socket.socket(socket.AF_UNIX) for _ in range(2)]
    for peer in peers:
        peer.connect(str(tmp_path / "socket"))
    await until_true(lambda: served.count == 1)
    await turns(SOME_TURNS)
    assert served.count == 1
    peers[0].close()
    await until_true(lambda: served.count == 2)
    await served.end(server, peers)


async def test_a_pause_and_a_limit_are_two_things(loop: Any) -> None:
    served = Served()
    server = await loop.create_server(served.new, "127.0.0.1", 0, backlog=100)
    server.set_connection_limit(1)
    server.pause_accepting()
    peers = await in_thread(connected, server.sockets[0].getsockname(), 3)
    await turns(SOME_TURNS)
    assert served.count == 0
    server.resume_accepting()
    await until_true(lambda: served.count == 1)
    server.pause_accepting()
    peers[0].close()
    await until_true(lambda: len(served.open) == 0)
    await turns(SOME_TURNS)
    assert served.count == 1  # there is room, but the pause holds
    server.resume_accepting()
    await until_true(lambda: served.count == 2)
    server.resume_accepting()
    await turns(SOME_TURNS)
    assert served.count == 2  # the limit holds
    await served.end(server, peers)


async def test_a_server_is_paused_before_it_starts(loop: Any) -> None:
    served = Served()
    server = await loop.create_server(served.new, "127.0.0.1", 0, start_serving=False)
    server.pause_accepting()
    await server.start_serving()
    peers = await in_thread(connected, server.sockets[0].getsockname(), 1)
    await turns(SOME_TURNS)
    assert served.count == 0
    server.resume_accepting()
    await until_true(lambda: served.count == 1)
    await served.end(server, peers)


@pytest.mark.parametrize("limit", [0, -1])
async def test_a_limit_below_one_is_refused(limit: int, loop: Any) -> None:
    server = await loop.create_server(Recorder, "127.0.0.1", 0)
    with pytest.raises(ValueError, match=str(limit)):
        server.set_connection_limit(limit)
    server.close()


async def test_a_failing_factory_leaves_its_place_to_the_next(loop: Any) -> None:
    served = Served()
    attempts: list[int] = []

    def factory() -> Recorder:
        attempts.append(served.count)
        if len(attempts) == 1:
            raise RuntimeError("not this one")
        return served.new()

    server = await loop.create_server(factory, "127.0.0.1", 0)
    server.set_connection_limit(1)
    peers = await in_thread(connected, server.sockets[0].getsockname(), 3)
    await until_true(lambda: served.count == 1)
    await turns(SOME_TURNS)
    assert attempts == [0, 0]
    await served.end(server, peers)


# -- TLS --------------------------------------------------------------------------------


async def test_handshakes_count_against_the_limit(loop: Any) -> None:
    """Of three clients that say nothing, one at a time is let in."""
    server = await loop.create_server(Recorder, "127.0.0.1", 0, ssl=contexts().server, backlog=100)
    server.set_connection_limit(1)
    peers = await in_thread(connected, server.sockets[0].getsockname(), 3)
    await until_true(lambda: loop.metrics().connections_accepted == 1)
    await turns(SOME_TURNS)
    assert loop.metrics().connections_accepted == 1
    for count in (2, 3):
        peers[count - 2].close()  # the handshake fails
        await until_true(lambda count=count: loop.metrics().connections_accepted == count)
        await turns(SOME_TURNS)
        assert loop.metrics().connections_accepted == count
    server.close()
    for peer in peers:
        peer.close()
    await until_true(lambda: loop.metrics().connections_open == 0)


async def test_a_factory_that_fails_under_tls_leaves_its_place(loop: Any) -> None:
    served = Served()
    failures: list[int] = []

    def factory() -> Recorder:
        if not failures:
            failures.append(1)
            raise RuntimeError("not this one")
        return served.new()

    server = await loop.create_server(factory, "127.0.0.1", 0, ssl=contexts().server, backlog=100)
    server.set_connection_limit(1)
    address = server.sockets[0].getsockname()
    refused = await in_thread(connected, address, 1)
    assert await in_thread(recv_until_eof, refused[0]) == b""
    peer = await in_thread(_shake_hands, contexts().client, address)
    await until_true(lambda: served.count == 1)
    await served.protocols[0].made
    served.protocols[0].transport.write(b"hello")
    assert await in_thread(recv_exactly, peer, 5) == b"hello"
    await served.end(server, [*refused, peer])


def _shake_hands(context: ssl.SSLContext, address: Any) -> ssl.SSLSocket:
    sock = socket.create_connection(address, timeout=10)
    return context.wrap_socket(sock, server_hostname=HOST)
