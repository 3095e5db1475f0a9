"""start_tls: a connection that begins in clear text and goes on encrypted (row 36)."""

from __future__ import annotations

import asyncio
import socket
import ssl
import sys
from asyncio import AbstractEventLoop
from typing import Any

import pytest
from certificates import HOST, UNCLOSED_ON_3_10, contexts
from peers import (
    PEER_LIMIT_S,
    BufferedRecorder,
    Recorder,
    Wire,
    each_protocol,
    in_thread,
    numbered_bytes,
    recv_exactly,
    turns,
    until_true,
    wire,
)

WRITER_START_TLS = pytest.mark.skipif(
    sys.version_info < (3, 11), reason="StreamWriter.start_tls came with 3.11"
)
pytestmark = pytest.mark.filterwarnings(*UNCLOSED_ON_3_10)


async def upgrade(
    loop: AbstractEventLoop, connection: Wire, *, server_side: bool
) -> asyncio.Transport:
    context = contexts().server if server_side else contexts().client
    name = None if server_side else HOST
    upgraded = await loop.start_tls(
        connection.transport,
        connection.protocol,
        context,
        server_side=server_side,
        server_hostname=name,
    )
    assert upgraded is not None
    connection.protocol.transport = upgraded
    return upgraded


def peer_handshake(peer: socket.socket, *, server_side: bool) -> ssl.SSLSocket:
    context = contexts().server if server_side else contexts().client
    name = None if server_side else HOST
    return context.wrap_socket(peer, server_side=server_side, server_hostname=name)


@each_protocol
@pytest.mark.parametrize("server_side", [True, False], ids=["server", "client"])
async def test_a_connection_is_upgraded_after_clear_text(
    server_side: bool, factory: Any, loop: AbstractEventLoop
) -> None:
    async with wire(factory) as connection:
        connection.transport.write(b"clear")
        assert await in_thread(recv_exactly, connection.peer, 5) == b"clear"
        handshake = in_thread(lambda: peer_handshake(connection.peer, server_side=not server_side))
        transport = await upgrade(loop, connection, server_side=server_side)
        with await handshake as peer:
            await _exchange(transport, connection.protocol, peer)
        await connection.protocol.lost


async def _exchange(transport: asyncio.Transport, protocol: Recorder, peer: ssl.SSLSocket) -> None:
    payload = numbered_bytes(200_000)
    transport.write(payload)
    assert await in_thread(recv_exactly, peer, len(payload)) == payload
    before = len(protocol.data)
    await in_thread(peer.sendall, payload)
    assert (await protocol.received(before + len(payload)))[before:] == payload


def client_hello() -> tuple[ssl.SSLObject, ssl.MemoryBIO, ssl.MemoryBIO, bytes]:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = contexts().client.wrap_bio(incoming, outgoing, server_hostname=HOST)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return client, incoming, outgoing, outgoing.read()


def finish_handshake(
    sock: socket.socket, client: ssl.SSLObject, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO
) -> None:
    """The client's side from the point where the ClientHello is on its way."""
    while True:
        try:
            client.do_handshake()
            break
        except ssl.SSLWantReadError:
            _send_pending(sock, outgoing)
            incoming.write(sock.recv(65536))
    _send_pending(sock, outgoing)


def _send_pending(sock: socket.socket, outgoing: ssl.MemoryBIO) -> None:
    if data := outgoing.read():
        sock.sendall(data)


def send_through(
    sock: socket.socket, client: ssl.SSLObject, outgoing: ssl.MemoryBIO, data: bytes
) -> None:
    client.write(data)
    _send_pending(sock, outgoing)


async def test_a_client_hello_that_waits_while_paused_is_not_lost(
    loop: AbstractEventLoop,
) -> None:
    """Row 36: the kernel may have handed it over before it learned of the pause."""

    class PauseAtOnce(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if data == b"STARTTLS\n":
                self.transport.pause_reading()

    async with wire(PauseAtOnce) as connection:
        client, incoming, outgoing, hello = client_hello()
        await in_thread(connection.peer.sendall, b"STARTTLS\n")
        await connection.protocol.received(9)
        await in_thread(connection.peer.sendall, hello)
        await turns(5)
        await _upgrade_and_exchange(loop, connection, client, incoming, outgoing)


async def _upgrade_and_exchange(
    loop: AbstractEventLoop,
    connection: Wire,
    client: ssl.SSLObject,
    incoming: ssl.MemoryBIO,
    outgoing: ssl.MemoryBIO,
) -> None:
    handshake = in_thread(finish_handshake, connection.peer, client, incoming, outgoing)
    await upgrade(loop, connection, server_side=True)
    await handshake
    received = len(connection.protocol.data)
    await in_thread(send_through, connection.peer, client, outgoing, b"encrypted")
    assert (await connection.protocol.received(received + 9))[received:] == b"encrypted"


async def test_clear_text_and_client_hello_in_one_segment_are_told_apart(
    loop: AbstractEventLoop,
) -> None:
    """Row 36: the protocol takes exactly its line and pauses; the rest of the segment must
    reach TLS although the kernel has given it to the loop in one piece."""

    class LineReader(BufferedRecorder):
        def buffer_updated(self, nbytes: int) -> None:
            super().buffer_updated(nbytes)
            if self.data.endswith(b"\n"):
                self.transport.pause_reading()

    async with wire(lambda: LineReader(1)) as connection:
        client, incoming, outgoing, hello = client_hello()
        await in_thread(connection.peer.sendall, b"STARTTLS\n" + hello)
        assert await connection.protocol.received(9) == b"STARTTLS\n"
        await turns(5)
        connection.protocol.buffer = bytearray(65536)
        assert connection.protocol.data == b"STARTTLS\n"
        await _upgrade_and_exchange(loop, connection, client, incoming, outgoing)


@WRITER_START_TLS
@pytest.mark.difference("start_tls_keeps_buffered")
async def test_a_stream_upgraded_with_the_client_hello_in_its_buffer_goes_on(
    loop: AbstractEventLoop,
) -> None:
    """Row 36: readline() leaves the ClientHello in the StreamReader."""
    client, incoming, outgoing, hello = client_hello()
    lines: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines.append(await reader.readline())
        await writer.start_tls(contexts().server, ssl_handshake_timeout=2)
        lines.append(await reader.readline())
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    with socket.create_connection(address, timeout=PEER_LIMIT_S) as peer:
        peer.sendall(b"STARTTLS\n" + hello)
        await in_thread(finish_handshake, peer, client, incoming, outgoing)
        await in_thread(send_through, peer, client, outgoing, b"encrypted\n")
        await until_true(lambda: len(lines) == 2)
    assert lines == [b"STARTTLS\n", b"encrypted\n"]
    server.close()


@WRITER_START_TLS
@pytest.mark.parametrize("data", [b"one line\n", b"x" * 100_000 + b"\n"])
async def test_streams_upgrade_on_both_sides(data: bytes, loop: AbstractEventLoop) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.readline() == b"STARTTLS\n"
        writer.write(b"go\n")
        await writer.drain()
        await writer.start_tls(contexts().server)
        writer.write(await reader.readline())
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=1 << 20)
    address = server.sockets[0].getsockname()
    reader, writer = await asyncio.open_connection(*address, limit=1 << 20)
    writer.write(b"STARTTLS\n")
    assert await reader.readline() == b"go\n"
    await writer.start_tls(contexts().client, server_hostname=HOST)
    writer.write(data)
    assert await reader.readline() == data
    writer.close()
    await writer.wait_closed()
    server.close()


@pytest.mark.difference("start_tls_while_paused")
async def test_an_upgrade_while_the_writer_is_paused_resumes_the_right_protocol(
    loop: AbstractEventLoop,
) -> None:
    """Row 36: clear text is still queued when TLS takes the transport over."""
    clear = numbered_bytes(1_000_000)
    async with wire(buffer_bytes=4096) as connection:
        connection.transport.write(clear)
        assert connection.protocol.calls == ["made", "pause"]
        peer_side = in_thread(_read_clear_then_handshake, connection.peer, clear)
        transport = await upgrade(loop, connection, server_side=True)
        with await peer_side as peer:
            await _exchange(transport, connection.protocol, peer)
            calls = connection.protocol.calls
            assert calls.count("pause") == calls.count("resume")
        await connection.protocol.lost


def _read_clear_then_handshake(peer: socket.socket, clear: bytes) -> ssl.SSLSocket:
    assert recv_exactly(peer, len(clear)) == clear
    return peer_handshake(peer, server_side=False)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio has TLS in TLS since 3.11")
async def test_tls_can_run_inside_tls(loop: AbstractEventLoop) -> None:
    """As a client does through an encrypted proxy."""
    server = await loop.create_server(_InnerTlsServer, "127.0.0.1", 0, ssl=contexts().server)
    address = server.sockets[0].getsockname()
    transport, protocol = await loop.create_connection(
        Recorder, *address, ssl=contexts().client, server_hostname=HOST
    )
    transport.write(b"STARTTLS\n")
    assert await protocol.received(3) == b"go\n"
    inner = await loop.start_tls(transport, protocol, contexts().client, server_hostname=HOST)
    assert inner is not None
    inner.write(b"twice encrypted")
    assert await protocol.received(18) == b"go\ntwice encrypted"
    inner.close()
    await protocol.lost
    server.close()


class _InnerTlsServer(Recorder):
    """Upgrades on the first message, then echoes the second. That one may come with the end
    of the handshake, before start_tls has returned."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.serving = asyncio.ensure_future(self._serve())

    async def _serve(self) -> None:
        await self.received(9)
        self.transport.write(b"go\n")
        loop = asyncio.get_running_loop()
        context = contexts().server
        upgraded = await loop.start_tls(self.transport, self, context, server_side=True)
        assert upgraded is not None
        upgraded.write((await self.received(24))[9:])


async def test_a_failed_upgrade_is_an_error_and_ends_the_connection(
    loop: AbstractEventLoop,
) -> None:
    async with wire() as connection:
        upgrading = loop.create_task(upgrade(loop, connection, server_side=True))
        await turns(3)
        await in_thread(connection.peer.sendall, b"this is not a handshake")
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await upgrading
        assert connection.transport.is_closing()
        connection.protocol.calls.append("lost")


async def test_an_upgrade_without_an_answer_runs_into_its_limit(loop: AbstractEventLoop) -> None:
    async with wire() as connection:
        with pytest.raises(ConnectionAbortedError, match="SSL handshake is taking longer"):
            await loop.start_tls(
                connection.transport,
                connection.protocol,
                contexts().client,
                server_hostname=HOST,
                ssl_handshake_timeout=0.05,
            )
        connection.protocol.calls.append("lost")


async def test_start_tls_checks_its_arguments(loop: AbstractEventLoop) -> None:
    async with wire() as connection:
        with pytest.raises(TypeError, match="sslcontext is expected to be an instance of"):
            await loop.start_tls(connection.transport, connection.protocol, None)
        with pytest.raises(TypeError, match="is not supported by start_tls"):
            await loop.start_tls(object(), connection.protocol, contexts().client)
