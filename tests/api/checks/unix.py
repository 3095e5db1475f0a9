"""Checks: Unix sockets."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from tests.api.checks.servers import Greeter
from tests.api.ends import Notes, closing, connect, folder, refusal, serving
from tests.api.registry import Subject
from tests.peers import in_thread, recv_exactly, recv_until_eof

Loop = asyncio.AbstractEventLoop

UNIX = Subject("Unix sockets")


@contextlib.asynccontextmanager
async def _server(loop: Loop, path: Any, **kwargs: Any) -> AsyncIterator[Any]:
    async with serving(await loop.create_unix_server(Greeter, path, **kwargs)) as server:
        yield server


@contextlib.contextmanager
def _listener(path: Path) -> Any:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        yield listening


async def _greeting(path: Any) -> bytes:
    with await in_thread(connect, os.fspath(path)) as peer:
        return await in_thread(recv_exactly, peer, 5)


@UNIX.check("create_unix_connection", "protocol_factory", "path")
async def a_path_may_be_a_string_bytes_or_a_path(loop: Loop) -> Any:
    seen = []
    with folder() as place, _listener(place / "socket") as listening:
        for path in (place / "socket", str(place / "socket"), os.fsencode(place / "socket")):
            transport, protocol = await loop.create_unix_connection(Notes, path)
            peer, _ = listening.accept()
            with peer:
                async with closing(transport):
                    peer.sendall(b"hello")
                    seen.append((await protocol.received(5), protocol.calls[0]))
    return seen


@UNIX.check("create_unix_connection", "path")
async def a_path_where_nobody_listens_is_an_error(loop: Loop) -> Any:
    with folder() as place:
        with _listener(place / "socket"):
            pass
        return [
            await refusal(loop.create_unix_connection(Notes, place / "socket")),
            await refusal(loop.create_unix_connection(Notes, place / "nothing")),
            await refusal(loop.create_unix_connection(Notes)),
        ]


@UNIX.check("create_unix_connection", "sock")
async def a_connected_unix_socket_is_taken_over(loop: Loop) -> Any:
    ours, peer = socket.socketpair()
    with peer:
        transport, protocol = await loop.create_unix_connection(Notes, sock=ours)
        async with closing(transport):
            peer.sendall(b"hello")
            return await protocol.received(5), ours.gettimeout()


@UNIX.check("create_unix_connection", "sock")
async def a_socket_of_another_kind_is_refused(loop: Loop) -> Any:
    with socket.socket() as internet, socket.socket(socket.AF_UNIX) as unix:
        return [
            await refusal(loop.create_unix_connection(Notes, sock=internet)),
            await refusal(loop.create_unix_connection(Notes, "path", sock=unix)),
        ]


@UNIX.check("create_unix_server", "protocol_factory", "path")
async def a_unix_server_greets(loop: Loop) -> Any:
    with folder() as place:
        async with _server(loop, place / "socket") as server:
            sock = server.sockets[0]
            named = Path(sock.getsockname()) == place / "socket"
            return named, sock.family.name, await _greeting(place / "socket")


@UNIX.check("create_unix_server", "path")
async def a_path_may_be_abstract(loop: Loop) -> Any:
    name = f"\0uringloop-api-{os.getpid()}"
    async with _server(loop, name):
        return await _greeting(name)


@UNIX.check("create_unix_server", "path")
async def a_stale_socket_is_replaced_but_a_file_is_not(loop: Loop) -> Any:
    with folder() as place:
        with _listener(place / "socket"):
            pass
        async with _server(loop, place / "socket"):
            greeting = await _greeting(place / "socket")
        (place / "file").write_bytes(b"")
        try:
            await loop.create_unix_server(Greeter, place / "file")
        except OSError as error:
            return greeting, type(error).__name__, error.errno, (place / "file").exists()


@UNIX.check("create_unix_server", "sock")
async def a_unix_socket_of_the_callers_is_served(loop: Loop) -> Any:
    with folder() as place, socket.socket() as internet:
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(str(place / "socket"))
        async with _server(loop, None, sock=sock):
            greeting = await _greeting(place / "socket")
        return [
            greeting,
            await refusal(loop.create_unix_server(Greeter, sock=internet)),
            await refusal(loop.create_unix_server(Greeter, place / "socket", sock=internet)),
            await refusal(loop.create_unix_server(Greeter)),
        ]


@UNIX.check("create_unix_server", "backlog")
async def connections_beyond_the_backlog_wait(loop: Loop) -> Any:
    """While nobody accepts, a queue of `backlog` takes one connection more than its number."""
    with folder() as place:
        async with _server(loop, place / "socket", backlog=2):
            return _connections_until_full(place / "socket")


def _connections_until_full(path: Path) -> int:
    with contextlib.ExitStack() as stack:
        for count in range(100):
            sock = stack.enter_context(socket.socket(socket.AF_UNIX))
            sock.setblocking(False)
            try:
                sock.connect(str(path))
            except BlockingIOError:
                return count
    raise AssertionError("the queue has no end")


@UNIX.check("create_unix_server", "start_serving")
async def a_unix_server_may_begin_later(loop: Loop) -> Any:
    with folder() as place:
        async with _server(loop, place / "socket", start_serving=False) as server:
            before = server.is_serving()
            await server.start_serving()
            return before, server.is_serving(), await _greeting(place / "socket")


if sys.version_info >= (3, 13):

    @UNIX.check("create_unix_server", "cleanup_socket")
    async def the_socket_is_removed_unless_it_shall_stay(loop: Loop) -> Any:
        seen = []
        with folder() as place:
            for arguments in ({}, {"cleanup_socket": True}, {"cleanup_socket": False}):
                async with _server(loop, place / "socket", **arguments):
                    pass
                seen.append((place / "socket").exists())
        return seen


@UNIX.check("asyncio.open_unix_connection", "path", "kwds")
async def a_reader_and_a_writer_for_a_unix_socket(loop: Loop) -> Any:
    ours, peer = socket.socketpair()
    with peer, folder() as place, _listener(place / "socket") as listening:
        reader, writer = await asyncio.open_unix_connection(place / "socket")
        other, _ = listening.accept()
        with other:
            other.sendall(b"hello\n")
            line = await reader.readline()
        writer.close()
        await writer.wait_closed()
        _, writer = await asyncio.open_unix_connection(sock=ours)
        writer.write(b"hello")
        writer.close()
        await writer.wait_closed()
        return line, await in_thread(recv_until_eof, peer)


@UNIX.check("asyncio.open_unix_connection", "limit")
async def a_line_beyond_the_limit_from_a_unix_socket(loop: Loop) -> Any:
    ours, peer = socket.socketpair()
    with peer:
        reader, writer = await asyncio.open_unix_connection(sock=ours, limit=8)
        peer.sendall(b"twelve bytes\n")
        failed = await refusal(reader.readline())
        writer.close()
        await writer.wait_closed()
        return failed


async def _echo_line(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write((await refusal(reader.readline())).encode())
    await writer.drain()
    writer.close()


async def _answer_to(path: Path, line: bytes) -> bytes:
    with await in_thread(connect, str(path)) as peer:
        await in_thread(peer.sendall, line)
        return await in_thread(recv_until_eof, peer)


@UNIX.check("asyncio.start_unix_server", "client_connected_cb", "path", "limit", "kwds")
async def a_coroutine_serves_each_unix_connection(loop: Loop) -> Any:
    with folder() as place:
        path = place / "socket"
        server = await asyncio.start_unix_server(_echo_line, path, limit=8, start_serving=False)
        async with serving(server):
            before = server.is_serving()
            await server.start_serving()
            lines = (b"short\n", b"twelve bytes\n")
            return before, [await _answer_to(path, line) for line in lines]
