"""What stands all the time of a soak: servers, and connections to them that stay open."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uringloop
from tests.certificates import HOST, Contexts, contexts

PIECE_BYTES = 65_536
KEPT_OF_EACH_KIND = 4
THREADS = 4

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Connect = Callable[[], Awaitable[Connection]]


@dataclass
class Ground:
    """Ways to new connections, and the connections that stay; all of them reach an echo.

    connect      by the kind of the way: "tcp", "unix", "tls", "relayed"
    kept         connections, by the same kinds
    questions    datagram endpoints, connected to one that echoes
    folder       for files
    """

    connect: dict[str, Connect]
    kept: dict[str, list[Connection]]
    questions: list[Questions]
    folder: Path
    tls: Contexts


class Echo(asyncio.DatagramProtocol):
    """Sends each datagram back."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport

    def datagram_received(self, data: bytes, address: Any) -> None:
        self._transport.sendto(data, address)


class Questions(asyncio.DatagramProtocol):
    """Sends one datagram at a time, and waits for the answer."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport
        self._answer: asyncio.Future[bytes] | None = None

    def datagram_received(self, data: bytes, address: Any) -> None:
        assert self._answer is not None, "nobody asked"
        self._answer.set_result(data)

    def error_received(self, exc: OSError) -> None:
        assert self._answer is not None, "nobody asked"
        self._answer.set_exception(exc)

    async def ask(self, question: bytes) -> bytes:
        self._answer = asyncio.get_running_loop().create_future()
        self.transport.sendto(question)
        return await self._answer


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):  # of a client that does not say good-bye
        while data := await reader.read(PIECE_BYTES):
            writer.write(data)
            await writer.drain()
    await close(writer)


async def close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(ConnectionError):  # told a second time, where one was told already
        await writer.wait_closed()


def relay_to(connect: Connect) -> Callable[..., Awaitable[None]]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await uringloop.relay((reader, writer), await connect())

    return serve


@contextlib.asynccontextmanager
async def ground() -> AsyncIterator[Ground]:
    """Opened, and closed again, with all connections that stayed."""
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS))
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        tls = contexts()
        connect = await _servers(stack, folder, tls)
        kept = {kind: await _kept(stack, way) for kind, way in connect.items()}
        yield Ground(connect, kept, await _datagrams(stack), folder, tls)


async def _servers(
    stack: contextlib.AsyncExitStack, folder: Path, tls: Contexts
) -> dict[str, Connect]:
    path = folder / "socket"
    tcp = await listening(stack, await asyncio.start_server(echo, "127.0.0.1", 0))
    await listening(stack, await asyncio.start_unix_server(echo, path))
    encrypted = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=tls.server)
    to_encrypted = await listening(stack, encrypted)
    relaying = await asyncio.start_server(relay_to(way_to(tcp)), "127.0.0.1", 0)
    return {
        "tcp": way_to(tcp),
        "unix": lambda: asyncio.open_unix_connection(path),
        "tls": way_to(to_encrypted, tls.client),
        "relayed": way_to(await listening(stack, relaying)),
    }


async def listening(stack: contextlib.AsyncExitStack, server: asyncio.Server) -> Any:
    """The server's address; the stack closes it, when its connections are closed."""

    async def end() -> None:
        server.close()
        await server.wait_closed()

    stack.push_async_callback(end)
    return server.sockets[0].getsockname()


def way_to(address: Any, context: ssl.SSLContext | None = None) -> Connect:
    name = HOST if context else None
    return lambda: asyncio.open_connection(*address, ssl=context, server_hostname=name)


async def _kept(stack: contextlib.AsyncExitStack, connect: Connect) -> list[Connection]:
    made = [await connect() for _ in range(KEPT_OF_EACH_KIND)]
    for _, writer in made:
        stack.push_async_callback(close, writer)
    return made


async def _datagrams(stack: contextlib.AsyncExitStack) -> list[Questions]:
    loop = asyncio.get_running_loop()
    server, _ = await loop.create_datagram_endpoint(Echo, ("127.0.0.1", 0))
    stack.callback(server.close)
    address = server.get_extra_info("sockname")
    questions = []
    for _ in range(KEPT_OF_EACH_KIND):
        transport, protocol = await loop.create_datagram_endpoint(Questions, remote_addr=address)
        stack.callback(transport.close)
        questions.append(protocol)
    return questions
