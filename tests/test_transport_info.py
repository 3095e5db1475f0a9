"""What a transport tells about itself: addresses, socket, state, options set on it."""

from __future__ import annotations

import asyncio
import gc
import socket
from asyncio import AbstractEventLoop
from asyncio.trsock import TransportSocket

import pytest
from peers import FAMILIES, Recorder, in_thread, turns, until_true, wire

each_family = pytest.mark.parametrize("family", FAMILIES)


@each_family
async def test_extra_info_names_both_ends(family: str, loop: AbstractEventLoop) -> None:
    async with wire(family=family) as connection:
        transport, peer = connection.transport, connection.peer
        assert transport.get_extra_info("sockname") == peer.getpeername()
        assert transport.get_extra_info("peername") == peer.getsockname()


@each_family
async def test_an_accepted_transport_knows_its_peer(family: str, loop: AbstractEventLoop) -> None:
    """Row 32: a multishot accept has no address to offer."""
    accepted = loop.create_future()

    class Accepted(Recorder):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            accepted.set_result((transport, transport.get_extra_info("peername")))

    server, peer = await _serve_one(loop, family, Accepted)
    with peer:
        transport, peername_in_connection_made = await accepted
        assert peername_in_connection_made == peer.getsockname()
        assert transport.get_extra_info("peername") == peer.getsockname()
        assert transport.get_extra_info("sockname") == peer.getpeername()
        transport.abort()
    server.close()


async def _serve_one(
    loop: AbstractEventLoop, family: str, factory: type[asyncio.Protocol]
) -> tuple[asyncio.Server, socket.socket]:
    if family == "unix":
        listener = socket.socket(socket.AF_UNIX)
        listener.bind("")  # the kernel picks an abstract name
        server = await loop.create_unix_server(factory, sock=listener)
    else:
        host = "127.0.0.1" if family == "tcp" else "::1"
        server = await loop.create_server(factory, host, 0)
    name = server.sockets[0].getsockname()
    peer = socket.socket(server.sockets[0].family)
    await in_thread(peer.connect, name)
    return server, peer


@each_family
async def test_the_socket_is_a_transport_socket(family: str, loop: AbstractEventLoop) -> None:
    async with wire(family=family) as connection:
        sock = connection.transport.get_extra_info("socket")
        assert type(sock) is TransportSocket
        assert sock.family == connection.peer.family
        assert sock.type == socket.SOCK_STREAM
        assert sock.fileno() >= 0
        assert sock.getsockname() == connection.peer.getpeername()
        assert sock.gettimeout() == 0


async def test_the_socket_shows_that_it_was_closed(loop: AbstractEventLoop) -> None:
    async with wire() as connection:
        sock = connection.transport.get_extra_info("socket")
        connection.transport.close()
        await connection.protocol.lost
        await turns(3)
        assert sock.fileno() == -1


async def test_addresses_stay_available_after_the_end(loop: AbstractEventLoop) -> None:
    async with wire() as connection:
        names = ("sockname", "peername")
        before = [connection.transport.get_extra_info(name) for name in names]
        connection.transport.close()
        await connection.protocol.lost
        await turns(3)
        assert [connection.transport.get_extra_info(name) for name in names] == before


@each_family
async def test_addresses_first_asked_for_after_the_end_are_known(
    family: str, loop: AbstractEventLoop
) -> None:
    accepted: list[Recorder] = []

    class Accepted(Recorder):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            accepted.append(self)

    server, peer = await _serve_one(loop, family, Accepted)
    with peer:
        await until_true(lambda: bool(accepted))
        names = (peer.getpeername(), peer.getsockname())
        accepted[0].transport.abort()
        await accepted[0].lost
        await turns(3)
        told = accepted[0].transport.get_extra_info
        assert (told("sockname"), told("peername")) == names
    server.close()


async def test_addresses_are_known_when_the_connection_is_lost(loop: AbstractEventLoop) -> None:
    seen: list[object] = []

    class Look(Recorder):
        def connection_lost(self, exc: Exception | None) -> None:
            seen.append(self.transport.get_extra_info("peername"))
            super().connection_lost(exc)

    async with wire(Look) as connection:
        expected = connection.peer.getsockname()
        await in_thread(connection.peer.close)
        await connection.protocol.lost
        assert seen == [expected]


async def test_unknown_extra_info_is_the_default(loop: AbstractEventLoop) -> None:
    async with wire() as connection:
        assert connection.transport.get_extra_info("no such thing") is None
        assert connection.transport.get_extra_info("no such thing", 42) == 42
        assert connection.transport.get_extra_info("sslcontext") is None


@pytest.mark.parametrize("family", ["tcp", "tcp6"])
async def test_small_segments_are_not_held_back(family: str, loop: AbstractEventLoop) -> None:
    """TCP_NODELAY on connected and on accepted sockets."""
    accepted = loop.create_future()

    class Accepted(Recorder):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            accepted.set_result(transport)

    server, peer = await _serve_one(loop, family, Accepted)
    async with wire(family=family) as connection:
        with peer:
            for transport in (connection.transport, await accepted):
                sock = transport.get_extra_info("socket")
                assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            (await accepted).abort()
    server.close()


@pytest.mark.difference("nodelay_without_proto")
async def test_a_socket_that_does_not_name_its_protocol_is_not_held_back_either(
    loop: AbstractEventLoop,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        sock.connect(listener.getsockname())
        sock.setblocking(False)
        transport, protocol = await loop.create_connection(Recorder, sock=sock)
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        transport.abort()
        await protocol.lost


async def test_is_closing_turns_true_with_close_and_stays(loop: AbstractEventLoop) -> None:
    async with wire() as connection:
        assert not connection.transport.is_closing()
        connection.transport.close()
        assert connection.transport.is_closing()
        await connection.protocol.lost
        assert connection.transport.is_closing()


async def test_is_closing_is_true_when_connection_lost_is_called(loop: AbstractEventLoop) -> None:
    seen: list[bool] = []

    class Look(Recorder):
        def connection_lost(self, exc: Exception | None) -> None:
            seen.append(self.transport.is_closing())
            super().connection_lost(exc)

    async with wire(Look) as connection:
        await in_thread(connection.peer.close)
        await connection.protocol.lost
    assert seen == [True]


async def test_transports_are_asyncio_transports(loop: AbstractEventLoop) -> None:
    async with wire() as connection:
        assert isinstance(connection.transport, asyncio.Transport)
        assert isinstance(connection.transport, asyncio.ReadTransport)
        assert isinstance(connection.transport, asyncio.WriteTransport)


async def test_repr_tells_descriptor_and_state(loop: AbstractEventLoop) -> None:
    async with wire() as connection:
        transport = connection.transport
        fd = transport.get_extra_info("socket").fileno()
        assert f"fd={fd}" in repr(transport)
        transport.close()
        assert "clos" in repr(transport)
        await connection.protocol.lost
        await turns(3)
        assert "closed" in repr(transport)


async def test_get_protocol_returns_what_the_factory_made(loop: AbstractEventLoop) -> None:
    async with wire() as connection:
        assert connection.transport.get_protocol() is connection.protocol


async def test_the_loop_keeps_a_transport_alive_while_it_reads(loop: AbstractEventLoop) -> None:
    """A server's protocol is held by nobody but its transport, and that by the loop."""
    received: asyncio.Future[bytes] = loop.create_future()

    class Forgotten(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = transport

        def data_received(self, data: bytes) -> None:
            received.set_result(data)
            self.transport.close()

    server, peer = await _serve_one(loop, "tcp", Forgotten)
    with peer:
        await turns(5)
        gc.collect()
        await in_thread(peer.sendall, b"data")
        assert await received == b"data"
        await turns(5)
    server.close()
