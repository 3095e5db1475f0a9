"""Checks: connecting over TCP."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

from tests.api.ends import Notes, closing, connect, listener, refusal, words
from tests.api.registry import Subject
from tests.peers import in_thread, recv_exactly

Loop = asyncio.AbstractEventLoop

CONNECTIONS = Subject("Connecting")

TRIED_HOST = re.compile(r"\('([^']*)'")


@contextlib.contextmanager
def _closed_ports(*hosts: str) -> Iterator[list[Any]]:
    """getaddrinfo()'s answers for ports of these hosts that refuse connections."""
    with contextlib.ExitStack() as stack:
        answers = []
        for host in hosts:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            sock = stack.enter_context(socket.socket(family))
            sock.bind((host, 0))  # bound, but nobody listens
            answers.append(_answer(sock))
        yield answers


def _answer(sock: socket.socket) -> Any:
    return sock.family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", sock.getsockname()


def _resolve_to(loop: Any, answers: list[Any]) -> list[dict[str, Any]]:
    """Has the loop look up every name to `answers`; returns what it will have been asked."""
    asked: list[dict[str, Any]] = []

    async def getaddrinfo(host: Any, port: Any, **arguments: Any) -> list[Any]:
        asked.append({"host": host, "port": port, **arguments})
        return answers

    loop.getaddrinfo = getaddrinfo
    return asked


@contextlib.asynccontextmanager
async def _connected(loop: Loop, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
    """(transport, protocol, the peer's socket) of a connection to a listener of our own."""
    with listener() as listening:
        transport, protocol = await loop.create_connection(
            Notes, *(args or listening.getsockname()), **kwargs
        )
        peer, _ = listening.accept()
        with peer:
            async with closing(transport):
                yield transport, protocol, peer


@CONNECTIONS.check("create_connection", "protocol_factory", "host", "port")
async def a_connection_is_made_and_carries_data(loop: Loop) -> Any:
    async with _connected(loop) as (transport, protocol, peer):
        transport.write(b"to the peer")
        received = await in_thread(recv_exactly, peer, 11)
        peer.sendall(b"from the peer")
        return received, await protocol.received(13), protocol.calls[0], type(protocol).__name__


@CONNECTIONS.check("create_connection", "host", "port")
async def a_port_where_nobody_listens_refuses(loop: Loop) -> Any:
    with _closed_ports("127.0.0.1") as [answer]:
        refused = await refusal(loop.create_connection(Notes, *answer[4]))
    return refused, await refusal(loop.create_connection(Notes))


@CONNECTIONS.check("create_connection", "host")
async def every_address_of_a_name_is_tried(loop: Loop) -> Any:
    with _closed_ports("127.0.0.1") as closed, listener("127.0.0.2") as listening:
        _resolve_to(loop, [*closed, _answer(listening)])
        transport, _ = await loop.create_connection(Notes, "name.test", 1)
        async with closing(transport):
            return transport.get_extra_info("peername")[0]


@CONNECTIONS.check("create_connection", "family", "proto", "flags")
async def the_look_up_is_told_what_to_find(loop: Loop) -> Any:
    asked = _resolve_to(loop, [])
    failed = await refusal(
        loop.create_connection(
            Notes,
            "name.test",
            1,
            family=socket.AF_INET,
            proto=socket.IPPROTO_TCP,
            flags=socket.AI_NUMERICSERV,
        )
    )
    return failed, [{name: _plain(value) for name, value in each.items()} for each in asked]


def _plain(value: Any) -> Any:
    return int(value) if isinstance(value, int) else value


@CONNECTIONS.check("create_connection", "sock")
async def a_connected_socket_is_taken_over(loop: Loop) -> Any:
    with listener() as listening:
        ours = connect(listening.getsockname())
        transport, _ = await loop.create_connection(Notes, sock=ours)
        peer, _ = listening.accept()
        with peer:
            async with closing(transport):
                same = transport.get_extra_info("socket").fileno() == ours.fileno()
                return same, ours.gettimeout()


@CONNECTIONS.check("create_connection", "sock")
async def a_socket_and_a_host_exclude_each_other(loop: Loop) -> Any:
    with socket.socket() as stream, socket.socket(type=socket.SOCK_DGRAM) as datagram:
        return [
            await refusal(loop.create_connection(Notes, "127.0.0.1", 1, sock=stream)),
            await refusal(loop.create_connection(Notes, sock=datagram)),
        ]


@CONNECTIONS.check("create_connection", "local_addr")
async def the_local_address_is_what_the_peer_sees(loop: Loop) -> Any:
    async with _connected(loop, local_addr=("127.0.0.2", 0)) as (transport, _, peer):
        return peer.getpeername()[0], transport.get_extra_info("sockname")[0]


@CONNECTIONS.check("create_connection", "local_addr")
async def a_local_address_that_is_not_ours_fails(loop: Loop) -> Any:
    with listener() as listening:
        return await refusal(
            loop.create_connection(Notes, *listening.getsockname(), local_addr=("192.0.2.1", 0))
        )


@CONNECTIONS.check("create_connection", "happy_eyeballs_delay")
async def a_silent_address_is_overtaken_after_the_delay(loop: Loop) -> Any:
    with _silent_listener() as silent, listener("127.0.0.2") as listening:
        _resolve_to(loop, [_answer(silent), _answer(listening)])
        transport, _ = await loop.create_connection(
            Notes, "name.test", 1, happy_eyeballs_delay=0.01
        )
        async with closing(transport):
            return transport.get_extra_info("peername")[0]


@contextlib.contextmanager
def _silent_listener() -> Iterator[socket.socket]:
    """Answers nobody: its queue is full, and SYNs that find it so are dropped."""
    with contextlib.ExitStack() as stack:
        silent = stack.enter_context(socket.socket())
        silent.bind(("127.0.0.1", 0))
        silent.listen(0)
        stack.enter_context(connect(silent.getsockname()))
        yield silent


@CONNECTIONS.check("create_connection", "interleave")
async def families_are_interleaved(loop: Loop) -> Any:
    with _closed_ports("127.0.0.1", "127.0.0.2", "127.0.0.3", "::1") as closed:
        _resolve_to(loop, closed)
        orders = []
        for interleave in (None, 1, 2):
            try:
                await loop.create_connection(Notes, "name.test", 1, interleave=interleave)
            except OSError as error:
                orders.append(TRIED_HOST.findall(str(error)))
        return orders


if sys.version_info >= (3, 12):

    @CONNECTIONS.check("create_connection", "all_errors")
    async def all_errors_come_in_a_group(loop: Loop) -> Any:
        with _closed_ports("127.0.0.1", "::1") as closed:
            _resolve_to(loop, closed)
            try:
                await loop.create_connection(Notes, "name.test", 1, all_errors=True)
            except ExceptionGroup as group:  # noqa: F821 - from Python 3.11 on
                return group.message, [words(error) for error in group.exceptions]


@CONNECTIONS.check("connect_accepted_socket", "protocol_factory", "sock")
async def an_accepted_socket_becomes_a_connection(loop: Loop) -> Any:
    with listener() as listening, connect(listening.getsockname()) as peer:
        accepted, _ = listening.accept()
        transport, protocol = await loop.connect_accepted_socket(Notes, accepted)
        async with closing(transport):
            peer.sendall(b"hello")
            peername = transport.get_extra_info("peername")
            return await protocol.received(5), peername == peer.getsockname()


@CONNECTIONS.check("connect_accepted_socket", "sock")
async def a_socket_of_datagrams_is_not_accepted(loop: Loop) -> Any:
    with socket.socket(type=socket.SOCK_DGRAM) as datagram:
        return await refusal(loop.connect_accepted_socket(Notes, datagram))


@CONNECTIONS.check("asyncio.open_connection", "host", "port", "kwds")
async def a_reader_and_a_writer_are_made(loop: Loop) -> Any:
    with listener() as listening:
        host, port = listening.getsockname()
        reader, writer = await asyncio.open_connection(host, port, local_addr=("127.0.0.2", 0))
        peer, address = listening.accept()
        with peer:
            writer.write(b"ping")
            await writer.drain()
            received = await in_thread(recv_exactly, peer, 4)
            peer.sendall(b"pong\nrest")
            line = await reader.readline()
            peer.close()
            rest = await reader.read()
        writer.close()
        await writer.wait_closed()
        return received, line, rest, address[0]


@CONNECTIONS.check("asyncio.open_connection", "limit")
async def a_line_beyond_the_limit_is_an_error(loop: Loop) -> Any:
    with listener() as listening:
        reader, writer = await asyncio.open_connection(*listening.getsockname(), limit=8)
        peer, _ = listening.accept()
        with peer:
            peer.sendall(b"a line that is too long\n")
            failed = await refusal(reader.readline())
            writer.close()
            await writer.wait_closed()
            return failed.partition(":")[0]
