"""TLS over our stream transports: connections, errors, time limits, endings."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import sys
import zlib
from asyncio import AbstractEventLoop
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from certificates import HOST, UNCLOSED_ON_3_10, contexts
from peers import (
    PEER_LIMIT_S,
    Recorder,
    in_thread,
    numbered_bytes,
    recv_exactly,
    recv_until_eof,
)

SHUTDOWN_TIMEOUT = pytest.mark.skipif(
    sys.version_info < (3, 11), reason="ssl_shutdown_timeout came with 3.11"
)
pytestmark = pytest.mark.filterwarnings(*UNCLOSED_ON_3_10)
BULK_BYTES = 5_000_000


class Echo(Recorder):
    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self.transport.write(data)


async def serve_tls(
    loop: AbstractEventLoop, factory: Callable[[], asyncio.BaseProtocol], **options: Any
) -> tuple[asyncio.Server, tuple[str, int]]:
    server = await loop.create_server(factory, "127.0.0.1", 0, ssl=contexts().server, **options)
    return server, server.sockets[0].getsockname()


def tls_peer(address: tuple[str, int]) -> ssl.SSLSocket:
    """A blocking client; use it in a thread."""
    sock = socket.create_connection(address, timeout=PEER_LIMIT_S)
    try:
        return contexts().client.wrap_socket(sock, server_hostname=HOST)
    except BaseException:
        sock.close()
        raise


@contextlib.contextmanager
def tls_listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(PEER_LIMIT_S)
        yield listener


def accept_tls(listener: socket.socket) -> ssl.SSLSocket:
    """A blocking server's side; use it in a thread."""
    sock = listener.accept()[0]
    sock.settimeout(PEER_LIMIT_S)
    return contexts().server.wrap_socket(sock, server_side=True)


async def connect_tls(loop: AbstractEventLoop, address: Any, **options: Any) -> Any:
    options.setdefault("ssl", contexts().client)
    return await loop.create_connection(Recorder, *address, server_hostname=HOST, **options)


async def test_a_tls_server_echoes(loop: AbstractEventLoop) -> None:
    server, address = await serve_tls(loop, Echo)
    with await in_thread(tls_peer, address) as peer:
        await in_thread(peer.sendall, b"secret")
        assert await in_thread(recv_exactly, peer, 6) == b"secret"
    server.close()
    await asyncio.sleep(0)


async def test_a_tls_client_talks_to_a_server(loop: AbstractEventLoop) -> None:
    with tls_listener() as listener:
        accepting = in_thread(accept_tls, listener)
        transport, protocol = await connect_tls(loop, listener.getsockname())
        with await accepting as peer:
            transport.write(b"question")
            assert await in_thread(recv_exactly, peer, 8) == b"question"
            await in_thread(peer.sendall, b"answer")
            assert await protocol.received(6) == b"answer"
        await protocol.lost


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_both_ends_on_the_loop_with_each_version(
    version: ssl.TLSVersion, loop: AbstractEventLoop
) -> None:
    client = ssl.create_default_context()
    client.minimum_version = client.maximum_version = version
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    server, address = await serve_tls(loop, Echo)
    transport, protocol = await connect_tls(loop, address, ssl=client)
    transport.write(b"message")
    assert await protocol.received(7) == b"message"
    assert transport.get_extra_info("ssl_object").version() == version.name.replace("_", ".")
    transport.close()
    assert await protocol.lost is None
    server.close()


async def test_extra_info_tells_about_the_encryption(loop: AbstractEventLoop) -> None:
    server, address = await serve_tls(loop, Echo)
    transport, protocol = await connect_tls(loop, address)
    assert transport.get_extra_info("sslcontext") is contexts().client
    assert transport.get_extra_info("ssl_object").server_side is False
    assert transport.get_extra_info("cipher")
    subject = transport.get_extra_info("peercert")["subjectAltName"]
    assert subject == (("DNS", HOST),)
    assert transport.get_extra_info("peername") == address
    assert transport.get_extra_info("socket").getpeername() == address
    transport.close()
    await protocol.lost
    server.close()


async def test_a_server_that_is_not_trusted_is_an_error(loop: AbstractEventLoop) -> None:
    server, address = await serve_tls(loop, Echo)
    with pytest.raises(ssl.SSLCertVerificationError):
        await connect_tls(loop, address, ssl=contexts().stranger)
    transport, protocol = await connect_tls(loop, address)
    transport.close()
    await protocol.lost
    server.close()


async def test_a_server_of_another_name_is_an_error(loop: AbstractEventLoop) -> None:
    server, address = await serve_tls(loop, Echo)
    with pytest.raises(ssl.SSLCertVerificationError, match=r"[Hh]ostname mismatch"):
        await loop.create_connection(
            Recorder, *address, ssl=contexts().client, server_hostname="other.test"
        )
    server.close()
    await asyncio.sleep(0)


async def test_a_client_that_does_not_speak_tls_is_cut_off(loop: AbstractEventLoop) -> None:
    protocols: list[Recorder] = []

    def factory() -> Recorder:
        protocols.append(Recorder())
        return protocols[-1]

    server, address = await serve_tls(loop, factory)
    with socket.create_connection(address, timeout=PEER_LIMIT_S) as peer:
        await in_thread(peer.sendall, b"GET / HTTP/1.1\r\n\r\n")
        with contextlib.suppress(ConnectionResetError):
            await in_thread(recv_until_eof, peer)
    assert protocols[0].calls == []
    server.close()


async def test_debug_mode_tells_of_a_handshake_that_came_to_nothing(
    loop: AbstractEventLoop, reported: list[dict[str, Any]]
) -> None:
    loop.set_debug(True)
    server, address = await serve_tls(loop, Echo)
    with socket.create_connection(address, timeout=PEER_LIMIT_S) as peer:
        await in_thread(peer.sendall, b"this is not TLS\r\n" * 10)
        await in_thread(_read_to_the_end, peer)
    server.close()
    context = reported.pop()
    assert context["message"] == "Error on transport creation for incoming connection"
    assert isinstance(context["exception"], ssl.SSLError)
    assert isinstance(context["protocol"], Echo)
    assert context["transport"].is_closing()


def _read_to_the_end(peer: socket.socket) -> None:
    """An alert, and then the end, however it comes."""
    with contextlib.suppress(ConnectionResetError):
        recv_until_eof(peer)


async def test_a_client_that_leaves_in_the_handshake_leaves_nothing(
    loop: AbstractEventLoop,
) -> None:
    server, address = await serve_tls(loop, Recorder)
    for _ in range(20):
        with socket.create_connection(address) as peer:
            peer.sendall(b"\x16\x03\x01\x02")  # the beginning of a ClientHello
            await asyncio.sleep(0)
    await in_thread(lambda: tls_peer(address).close())
    server.close()


async def test_a_silent_server_runs_into_the_handshake_limit(loop: AbstractEventLoop) -> None:
    expected = pytest.raises(ConnectionAbortedError, match="SSL handshake is taking longer than")
    with tls_listener() as listener, expected:
        await connect_tls(loop, listener.getsockname(), ssl_handshake_timeout=0.05)


async def test_a_silent_client_runs_into_the_servers_handshake_limit(
    loop: AbstractEventLoop,
) -> None:
    server, address = await serve_tls(loop, Recorder, ssl_handshake_timeout=0.05)
    peer = socket.create_connection(address, timeout=PEER_LIMIT_S)
    with peer, contextlib.suppress(ConnectionResetError):
        assert await in_thread(recv_until_eof, peer) == b""
    server.close()


async def test_a_handshake_can_be_cancelled(loop: AbstractEventLoop) -> None:
    """Row 10."""
    with tls_listener() as listener:
        for turns in range(10):
            task = loop.create_task(connect_tls(loop, listener.getsockname()))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            for _ in range(5):
                await asyncio.sleep(0)


@pytest.mark.difference("failed_client_factory")
@pytest.mark.parametrize(
    "argument",
    ["ssl_handshake_timeout", pytest.param("ssl_shutdown_timeout", marks=SHUTDOWN_TIMEOUT)],
)
async def test_a_limit_of_zero_is_refused(argument: str, loop: AbstractEventLoop) -> None:
    server, address = await serve_tls(loop, Echo)
    with pytest.raises(ValueError, match=f"{argument} should be a positive number"):
        await connect_tls(loop, address, **{argument: 0})
    server.close()
    await asyncio.sleep(0)


@SHUTDOWN_TIMEOUT
async def test_a_peer_that_never_says_goodbye_runs_into_the_shutdown_limit(
    loop: AbstractEventLoop,
) -> None:
    with tls_listener() as listener:
        accepting = in_thread(accept_tls, listener)
        transport, protocol = await connect_tls(
            loop, listener.getsockname(), ssl_shutdown_timeout=0.05
        )
        with await accepting:
            transport.close()
            assert isinstance(await protocol.lost, TimeoutError)


async def test_close_says_goodbye(loop: AbstractEventLoop) -> None:
    """Without close_notify the peer would raise SSLEOFError."""
    server, address = await serve_tls(loop, _closing_after(b"last words"))
    with await in_thread(tls_peer, address) as peer:
        peer.suppress_ragged_eofs = False
        assert await in_thread(recv_until_eof, peer) == b"last words"
        await in_thread(peer.unwrap)
    server.close()


def _closing_after(words: bytes) -> type[Recorder]:
    class Closing(Recorder):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            self.transport.write(words)
            self.transport.close()

    return Closing


async def test_abort_does_not_say_goodbye(loop: AbstractEventLoop) -> None:
    protocols: list[Recorder] = []

    def factory() -> Recorder:
        protocols.append(Echo())
        return protocols[-1]

    server, address = await serve_tls(loop, factory)
    with await in_thread(tls_peer, address) as peer:
        peer.suppress_ragged_eofs = False
        await in_thread(peer.sendall, b"hello")
        await in_thread(recv_exactly, peer, 5)
        protocols[0].transport.abort()
        with pytest.raises((ssl.SSLEOFError, ConnectionResetError)):
            await in_thread(recv_exactly, peer, 1)
        assert await protocols[0].lost is None
    server.close()


async def test_a_peer_that_vanishes_ends_the_connection(loop: AbstractEventLoop) -> None:
    with tls_listener() as listener:
        accepting = in_thread(accept_tls, listener)
        _, protocol = await connect_tls(loop, listener.getsockname())
        peer = await accepting
        raw = socket.socket(fileno=peer.detach())
        raw.close()  # FIN without close_notify
        await protocol.lost
        assert protocol.calls[-1] == "lost"


async def test_a_large_transfer_to_a_slow_peer_arrives_whole(loop: AbstractEventLoop) -> None:
    payload = numbered_bytes(BULK_BYTES)
    server, address = await serve_tls(loop, _closing_after(payload))
    with await in_thread(tls_peer, address) as peer:
        received = await in_thread(recv_until_eof, peer)
        assert zlib.crc32(received) == zlib.crc32(payload)
        await in_thread(peer.unwrap)
    server.close()


async def test_a_large_transfer_both_ways_arrives_whole(loop: AbstractEventLoop) -> None:
    payload = numbered_bytes(BULK_BYTES)
    server, address = await serve_tls(loop, Echo)
    transport, protocol = await connect_tls(loop, address)
    for start in range(0, BULK_BYTES, 50_001):
        transport.write(payload[start : start + 50_001])
    received = await protocol.received(BULK_BYTES)
    assert zlib.crc32(received) == zlib.crc32(payload)
    transport.close()
    await protocol.lost
    server.close()


async def test_flow_control_works_through_tls(loop: AbstractEventLoop) -> None:
    with tls_listener() as listener:
        accepting = in_thread(accept_tls, listener)
        transport, protocol = await connect_tls(loop, listener.getsockname())
        with await accepting as peer:
            transport.write(bytes(BULK_BYTES))  # fills the transport below
            transport.write(bytes(BULK_BYTES))
            assert "pause" in protocol.calls
            assert transport.get_write_buffer_size() > 0
            assert len(await in_thread(recv_exactly, peer, 2 * BULK_BYTES)) == 2 * BULK_BYTES
            await protocol.until_called("resume")
        await protocol.lost


async def test_reading_can_be_paused_through_tls(loop: AbstractEventLoop) -> None:
    with tls_listener() as listener:
        accepting = in_thread(accept_tls, listener)
        transport, protocol = await connect_tls(loop, listener.getsockname())
        with await accepting as peer:
            transport.pause_reading()
            await in_thread(peer.sendall, b"held back")
            for _ in range(20):
                await asyncio.sleep(0)
            assert protocol.data == b""
            transport.resume_reading()
            assert await protocol.received(9) == b"held back"
        await protocol.lost


async def test_tls_works_over_unix_sockets(tmp_path: Path, loop: AbstractEventLoop) -> None:
    path = str(tmp_path / "socket")
    server = await loop.create_unix_server(Echo, path, ssl=contexts().server)
    transport, protocol = await loop.create_unix_connection(
        Recorder, path, ssl=contexts().client, server_hostname=HOST
    )
    transport.write(b"local")
    assert await protocol.received(5) == b"local"
    transport.close()
    await protocol.lost
    server.close()


async def test_an_accepted_socket_can_be_served_with_tls(loop: AbstractEventLoop) -> None:
    with tls_listener() as listener:
        connecting = in_thread(tls_peer, listener.getsockname())
        accepted = await in_thread(lambda: listener.accept()[0])
        accepted.setblocking(False)
        _, protocol = await loop.connect_accepted_socket(Echo, accepted, ssl=contexts().server)
        with await connecting as peer:
            await in_thread(peer.sendall, b"hello")
            assert await in_thread(recv_exactly, peer, 5) == b"hello"
            assert await protocol.received(5) == b"hello"
        await protocol.lost


async def test_an_ssl_socket_is_refused_as_a_plain_one(loop: AbstractEventLoop) -> None:
    wrapped = contexts().client.wrap_socket(socket.socket(), server_hostname=HOST)
    with wrapped, pytest.raises(TypeError, match="Socket cannot be of type SSLSocket"):
        await loop.create_connection(Recorder, sock=wrapped)
