"""aioquic: QUIC over datagrams, client and server on the loop under test."""

from __future__ import annotations

import asyncio
import contextlib
from asyncio import AbstractEventLoop
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from peers import numbered_bytes

pytest.importorskip("aioquic")

from aioquic.asyncio import connect, serve
from aioquic.quic.configuration import QuicConfiguration

PROTOCOLS = ["echo"]


@contextlib.asynccontextmanager
async def quic_echo(authority: Path) -> AsyncIterator[Any]:
    """A client that is connected to a server which sends back each stream."""
    configuration = QuicConfiguration(is_client=False, alpn_protocols=PROTOCOLS)
    configuration.load_cert_chain(authority / "cert.pem", authority / "key.pem")
    echoes: set[asyncio.Task[None]] = set()

    def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        echoes.add(asyncio.ensure_future(_echo(reader, writer)))

    server = await serve("127.0.0.1", 0, configuration=configuration, stream_handler=handle)
    port = server._transport.get_extra_info("sockname")[1]
    client = QuicConfiguration(alpn_protocols=PROTOCOLS, server_name="localhost")
    client.load_verify_locations(str(authority / "ca.pem"))
    async with connect("127.0.0.1", port, configuration=client) as protocol:
        yield protocol
    server.close()
    await asyncio.gather(*echoes)


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(await reader.read())
    writer.write_eof()


async def echoed(protocol: Any, data: bytes) -> bytes:
    reader, writer = await protocol.create_stream()
    writer.write(data)
    writer.write_eof()
    return await reader.read()


async def test_bulk_comes_back_whole(authority: Path, loop: AbstractEventLoop) -> None:
    async with quic_echo(authority) as protocol:
        assert await echoed(protocol, numbered_bytes(500_000)) == numbered_bytes(500_000)


async def test_many_streams_are_carried_at_once(authority: Path, loop: AbstractEventLoop) -> None:
    async with quic_echo(authority) as protocol:
        bodies = [numbered_bytes(10 + 400 * number, number) for number in range(60)]
        assert await asyncio.gather(*(echoed(protocol, body) for body in bodies)) == bodies


async def test_pings_are_answered(authority: Path, loop: AbstractEventLoop) -> None:
    async with quic_echo(authority) as protocol:
        for _ in range(20):
            await protocol.ping()
