"""Checks: TCP servers."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import sys
from collections.abc import AsyncIterator
from typing import Any

from tests.api.ends import Notes, connect, refusal, serving, words
from tests.api.registry import Subject
from tests.peers import in_thread, recv_exactly, recv_until_eof, turns

Loop = asyncio.AbstractEventLoop

SERVERS = Subject("Serving")

TCP_INFO_BYTES = 104
TCP_INFO_BACKLOG_OFFSET = 28  # tcpi_sacked, which is the backlog of a listening socket


class Greeter(Notes):
    """Greets each client."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        transport.write(b"hello")


@contextlib.asynccontextmanager
async def _server(loop: Loop, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
    where = args or (() if "sock" in kwargs else ("127.0.0.1", 0))
    async with serving(await loop.create_server(Greeter, *where, **kwargs)) as server:
        yield server


async def _greeting(address: Any) -> bytes:
    """What a client is told; the connection is closed by it then."""
    with await in_thread(connect, address) as peer:
        return await in_thread(recv_exactly, peer, 5)


def _address(server: Any) -> Any:
    return server.sockets[0].getsockname()


def _option(server: Any, name: int) -> int:
    return int(server.sockets[0].getsockopt(socket.SOL_SOCKET, name))


@SERVERS.check("create_server", "protocol_factory", "host", "port")
async def each_connection_gets_a_protocol(loop: Loop) -> Any:
    async with _server(loop) as server:
        host, port = _address(server)
        return host, port > 0, [await _greeting((host, port)) for _ in range(2)]


@SERVERS.check("create_server", "host")
async def a_server_listens_on_each_host_given(loop: Loop) -> Any:
    async with _server(loop, ["127.0.0.1", "::1"], 0) as server:
        addresses = sorted(sock.getsockname() for sock in server.sockets)
        return [(address[0], await _greeting(address)) for address in addresses]


@SERVERS.check("create_server", "host", "family")
async def no_host_means_all_interfaces_of_the_family(loop: Loop) -> Any:
    seen = []
    for family in (socket.AF_INET, socket.AF_INET6):
        async with _server(loop, None, 0, family=family) as server:
            seen.append([(sock.family.name, sock.getsockname()[0]) for sock in server.sockets])
    return seen


@SERVERS.check("create_server", "port")
async def a_port_that_is_taken_is_an_error(loop: Loop) -> Any:
    async with _server(loop) as server:
        try:
            await loop.create_server(Greeter, *_address(server))
        except OSError as error:
            return words(error), error.strerror.split("(")[0]


@SERVERS.check("create_server", "flags")
async def the_look_up_is_told_the_flags(loop: Any) -> Any:
    asked: list[Any] = []

    async def getaddrinfo(host: Any, port: Any, **arguments: Any) -> list[Any]:
        asked.append((host, port, int(arguments["flags"])))
        return []

    loop.getaddrinfo = getaddrinfo
    failed = [
        await refusal(loop.create_server(Greeter, "name.test", 1)),
        await refusal(loop.create_server(Greeter, "name.test", 1, flags=socket.AI_NUMERICHOST)),
    ]
    return [each.split(":")[0] for each in failed], asked


@SERVERS.check("create_server", "sock")
async def a_socket_of_the_callers_is_served(loop: Loop) -> Any:
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    async with _server(loop, sock=sock) as server:
        return len(server.sockets), sock.gettimeout(), await _greeting(sock.getsockname())


@SERVERS.check("create_server", "sock")
async def a_socket_and_a_host_exclude_each_other_in_servers(loop: Loop) -> Any:
    with socket.socket() as stream, socket.socket(type=socket.SOCK_DGRAM) as datagram:
        return [
            await refusal(loop.create_server(Greeter, "127.0.0.1", 0, sock=stream)),
            await refusal(loop.create_server(Greeter, sock=datagram)),
            await refusal(loop.create_server(Greeter)),
        ]


@SERVERS.check("create_server", "backlog")
async def the_backlog_is_the_listening_sockets(loop: Loop) -> Any:
    seen = []
    for arguments in ({}, {"backlog": 7}):
        async with _server(loop, **arguments) as server:
            info = server.sockets[0].getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO_BYTES)
            seen += struct.unpack_from("=I", info, TCP_INFO_BACKLOG_OFFSET)
    return seen


@SERVERS.check("create_server", "reuse_address")
async def reusing_the_address_is_the_default(loop: Loop) -> Any:
    seen = []
    for arguments in ({}, {"reuse_address": True}, {"reuse_address": False}):
        async with _server(loop, **arguments) as server:
            seen.append(_option(server, socket.SO_REUSEADDR))
    return seen


@SERVERS.check("create_server", "reuse_port")
async def two_servers_may_share_a_port(loop: Loop) -> Any:
    async with (
        _server(loop, reuse_port=True) as server,
        _server(loop, *_address(server), reuse_port=True) as other,
    ):
        return _address(server) == _address(other), _option(server, socket.SO_REUSEPORT)


if sys.version_info >= (3, 13):

    @SERVERS.check("create_server", "keep_alive")
    async def keep_alive_is_set_on_the_listening_socket(loop: Loop) -> Any:
        seen = []
        for arguments in ({}, {"keep_alive": True}, {"keep_alive": False}):
            async with _server(loop, **arguments) as server:
                seen.append(_option(server, socket.SO_KEEPALIVE))
        return seen


@SERVERS.check("create_server", "start_serving")
@SERVERS.check("Server.start_serving")
@SERVERS.check("Server.is_serving")
async def a_server_may_begin_later(loop: Loop) -> Any:
    async with _server(loop, start_serving=False) as server:
        before = server.is_serving()
        refused = await in_thread(_connect_refusal, _address(server))
        await server.start_serving()
        await server.start_serving()
        return before, refused, server.is_serving(), await _greeting(_address(server))


def _connect_refusal(address: Any) -> str:
    try:
        with connect(address):
            return "connected"
    except OSError as error:
        return words(error)


@SERVERS.check("Server.get_loop")
@SERVERS.check("Server.sockets")
async def a_server_knows_its_loop_and_sockets(loop: Loop) -> Any:
    async with _server(loop) as server:
        open_ones = server.sockets
        facts = [type(open_ones).__name__, len(open_ones), type(open_ones[0]).__name__]
        server.close()
        return facts, server.sockets, server.get_loop() is loop


@SERVERS.check("Server.close")
@SERVERS.check("Server.is_serving")
async def a_closed_server_refuses_but_its_connections_live(loop: Loop) -> Any:
    async with _server(loop) as server:
        address = _address(server)
        with await in_thread(connect, address) as peer:
            greeting = await in_thread(recv_exactly, peer, 5)
            server.close()
            server.close()
            await turns(3)
            facts = greeting, server.is_serving(), await in_thread(_connect_refusal, address)
            peer.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                return facts, peer.recv(1)
            return facts, "still open"


@SERVERS.check("Server.close")
async def the_port_of_a_closed_server_is_free(loop: Loop) -> Any:
    async with _server(loop) as server:
        address = _address(server)
        server.close()
        async with _server(loop, *address) as other:
            return _address(other) == address, await _greeting(address)


@SERVERS.check("Server.serve_forever")
async def serving_for_ever_ends_when_it_is_cancelled(loop: Loop) -> Any:
    async with _server(loop, start_serving=False) as server:
        task = loop.create_task(server.serve_forever())
        await turns(2)
        greeting = await _greeting(_address(server))
        second = await refusal(server.serve_forever())
        task.cancel()
        ended = await asyncio.wait({task})
        return greeting, second, len(ended[0]), task.cancelled(), server.is_serving()


@SERVERS.check("Server.wait_closed")
async def the_end_can_be_waited_for(loop: Loop) -> Any:
    """Whether connections are waited for depends on the version of Python."""
    async with _server(loop) as server:
        with await in_thread(connect, _address(server)) as peer:
            await in_thread(recv_exactly, peer, 5)
            waiting = loop.create_task(server.wait_closed())
            await turns(3)
            before = waiting.done()
            server.close()
            await turns(3)
            after = waiting.done()
        await waiting
        return before, after


if sys.version_info >= (3, 13):

    @SERVERS.check("Server.close_clients")
    async def the_connections_can_be_closed(loop: Loop) -> Any:
        async with _server(loop) as server:
            with await in_thread(connect, _address(server)) as peer:
                await in_thread(recv_exactly, peer, 5)
                server.close()
                server.close_clients()
                await server.wait_closed()
                return await in_thread(recv_until_eof, peer)

    @SERVERS.check("Server.abort_clients")
    async def the_connections_can_be_aborted(loop: Loop) -> Any:
        async with _server(loop) as server:
            with await in_thread(connect, _address(server)) as peer:
                await in_thread(recv_exactly, peer, 5)
                server.close()
                server.abort_clients()
                await server.wait_closed()
                return await in_thread(recv_until_eof, peer)


async def _echo_line(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        writer.write(await reader.readline())
    except ValueError as error:
        writer.write(type(error).__name__.encode())
    await writer.drain()
    writer.close()


async def _answer_to(server: Any, line: bytes) -> bytes:
    with await in_thread(connect, _address(server)) as peer:
        await in_thread(peer.sendall, line)
        return await in_thread(recv_until_eof, peer)


@SERVERS.check("asyncio.start_server", "client_connected_cb", "host", "port", "kwds")
async def a_coroutine_serves_each_connection(loop: Loop) -> Any:
    server = await asyncio.start_server(_echo_line, "127.0.0.1", 0, start_serving=False)
    async with serving(server):
        before = server.is_serving()
        await server.start_serving()
        return before, await _answer_to(server, b"hello\n")


@SERVERS.check("asyncio.start_server", "limit")
async def a_line_beyond_the_servers_limit_is_an_error(loop: Loop) -> Any:
    server = await asyncio.start_server(_echo_line, "127.0.0.1", 0, limit=8)
    async with serving(server):
        return await _answer_to(server, b"twelve bytes\n")
