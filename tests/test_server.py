"""create_server and create_unix_server: their arguments and the Server that they return."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import stat
import sys
from asyncio import AbstractEventLoop
from pathlib import Path
from typing import Any

import pytest
from peers import Recorder, in_thread, recv_exactly, recv_until_eof

CLIENT_CONTROL = pytest.mark.skipif(
    sys.version_info < (3, 13), reason="close_clients and abort_clients came with 3.13"
)


class Greeter(Recorder):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.transport.write(b"hello")


async def connect(address: Any, family: int = socket.AF_INET) -> socket.socket:
    peer = socket.socket(family)
    peer.settimeout(10)
    try:
        await in_thread(peer.connect, address)
    except BaseException:
        peer.close()
        raise
    return peer


async def greeted(address: Any, family: int = socket.AF_INET) -> bool:
    with await connect(address, family) as peer:
        return await in_thread(recv_exactly, peer, 5) == b"hello"


async def test_a_server_accepts_on_a_port_the_kernel_chose(loop: AbstractEventLoop) -> None:
    server = await loop.create_server(Greeter, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    assert (host, port > 0) == ("127.0.0.1", True)
    assert await greeted((host, port))
    server.close()


async def test_a_server_listens_on_each_given_host(loop: AbstractEventLoop) -> None:
    server = await loop.create_server(Greeter, ["127.0.0.1", "127.0.0.2", "::1"], 0)
    assert len(server.sockets) == 3
    for sock in server.sockets:
        assert await greeted(sock.getsockname(), sock.family)
    server.close()


async def test_a_host_given_twice_is_served_once(loop: AbstractEventLoop) -> None:
    server = await loop.create_server(Greeter, ["127.0.0.1", "127.0.0.1"], 0)
    assert len(server.sockets) == 1
    server.close()


@pytest.mark.parametrize("host", [None, ""])
async def test_no_host_means_every_interface_of_both_families(
    host: str | None, loop: AbstractEventLoop
) -> None:
    port = _free_port()
    server = await loop.create_server(Greeter, host, port)
    families = {sock.family for sock in server.sockets}
    assert families == {socket.AF_INET, socket.AF_INET6}
    assert await greeted(("127.0.0.1", port))
    assert await greeted(("::1", port), socket.AF_INET6)
    server.close()


def _free_port() -> int:
    with socket.socket(socket.AF_INET6) as probe:
        probe.bind(("::", 0))
        return int(probe.getsockname()[1])


async def test_an_ipv6_server_does_not_take_ipv4(loop: AbstractEventLoop) -> None:
    server = await loop.create_server(Greeter, "::", 0)
    port = server.sockets[0].getsockname()[1]
    assert await greeted(("::1", port), socket.AF_INET6)
    with pytest.raises(ConnectionRefusedError):
        await greeted(("127.0.0.1", port))
    server.close()


async def test_family_limits_the_interfaces(loop: AbstractEventLoop) -> None:
    server = await loop.create_server(Greeter, None, 0, family=socket.AF_INET)
    assert [sock.family for sock in server.sockets] == [socket.AF_INET]
    server.close()


async def test_two_servers_share_a_port_with_reuse_port(loop: AbstractEventLoop) -> None:
    first = await loop.create_server(Greeter, "127.0.0.1", 0, reuse_port=True)
    port = first.sockets[0].getsockname()[1]
    second = await loop.create_server(Greeter, "127.0.0.1", port, reuse_port=True)
    assert await greeted(("127.0.0.1", port))
    first.close()
    second.close()


async def test_a_port_in_use_is_an_error_that_names_the_address(loop: AbstractEventLoop) -> None:
    first = await loop.create_server(Greeter, "127.0.0.1", 0)
    port = first.sockets[0].getsockname()[1]
    with pytest.raises(
        OSError, match=rf"attempting to bind on address \('127.0.0.1', {port}\)"
    ) as e:
        await loop.create_server(Greeter, "127.0.0.1", port)
    assert e.value.errno == errno.EADDRINUSE
    first.close()


async def test_a_port_in_use_on_the_second_host_leaves_nothing_open(
    loop: AbstractEventLoop,
) -> None:
    """The audit finds the first host's socket if it was forgotten."""
    port = _free_port()
    first = await loop.create_server(Greeter, "127.0.0.2", port)
    with pytest.raises(OSError, match=r"127\.0\.0\.2"):
        await loop.create_server(Greeter, ["127.0.0.1", "127.0.0.2"], port)
    first.close()


async def test_reuse_address_can_be_switched_off(loop: AbstractEventLoop) -> None:
    for wanted in (True, False):
        server = await loop.create_server(Greeter, "127.0.0.1", 0, reuse_address=wanted)
        option = server.sockets[0].getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)
        assert bool(option) is wanted
        server.close()


@pytest.mark.skipif(sys.version_info < (3, 13), reason="keep_alive came with 3.13")
async def test_keep_alive_is_set_when_asked_for(loop: AbstractEventLoop) -> None:
    server = await loop.create_server(Greeter, "127.0.0.1", 0, keep_alive=True)
    assert server.sockets[0].getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    server.close()


async def test_a_given_socket_is_served(loop: AbstractEventLoop) -> None:
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    server = await loop.create_server(Greeter, sock=sock)
    assert await greeted(sock.getsockname())
    server.close()
    assert sock.fileno() == -1


async def test_arguments_that_contradict_each_other_are_refused(loop: AbstractEventLoop) -> None:
    with socket.socket() as stream, socket.socket(type=socket.SOCK_DGRAM) as datagram:
        with pytest.raises(ValueError, match="host/port and sock can not be specified"):
            await loop.create_server(Greeter, "127.0.0.1", 0, sock=stream)
        with pytest.raises(ValueError, match="Neither host/port nor sock were specified"):
            await loop.create_server(Greeter)
        with pytest.raises(ValueError, match="A Stream Socket was expected"):
            await loop.create_server(Greeter, sock=datagram)
        with pytest.raises(TypeError, match="ssl argument must be an SSLContext or None"):
            await loop.create_server(Greeter, "127.0.0.1", 0, ssl=True)
        with pytest.raises(ValueError, match="ssl_handshake_timeout is only meaningful with ssl"):
            await loop.create_server(Greeter, "127.0.0.1", 0, ssl_handshake_timeout=1)


async def test_a_host_that_cannot_be_resolved_is_an_error(loop: AbstractEventLoop) -> None:
    with pytest.raises(OSError):
        await loop.create_server(Greeter, "256.1.1.1.invalid", 0)


async def test_a_server_not_started_refuses_until_it_is(loop: AbstractEventLoop) -> None:
    server = await loop.create_server(Greeter, "127.0.0.1", 0, start_serving=False)
    address = server.sockets[0].getsockname()
    assert not server.is_serving()
    with pytest.raises(ConnectionRefusedError):
        await greeted(address)
    await server.start_serving()
    await server.start_serving()
    assert server.is_serving()
    assert await greeted(address)
    server.close()


async def test_the_backlog_holds_connections_that_nobody_accepted(loop: AbstractEventLoop) -> None:
    """The peers connect while the loop is blocked, then all are served."""
    server = await loop.create_server(Greeter, "127.0.0.1", 0, backlog=50)
    peers = [socket.create_connection(server.sockets[0].getsockname()) for _ in range(50)]
    for peer in peers:
        peer.settimeout(10)
        assert await in_thread(recv_exactly, peer, 5) == b"hello"
        peer.close()
    server.close()


async def test_a_closed_server_stops_listening_at_once(loop: AbstractEventLoop) -> None:
    server = await loop.create_server(Greeter, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    await asyncio.sleep(0)
    server.close()
    server.close()
    assert not server.is_serving()
    assert server.sockets == ()
    await asyncio.sleep(0)
    with pytest.raises(ConnectionRefusedError):
        await greeted(address)


async def test_the_port_of_a_closed_server_can_be_taken_again(loop: AbstractEventLoop) -> None:
    """Row 5: an accept that the kernel still holds would keep the port."""
    server = await loop.create_server(Greeter, "127.0.0.1", 0, reuse_address=False)
    port = server.sockets[0].getsockname()[1]
    for _ in range(20):
        await asyncio.sleep(0)
        server.close()
        await server.wait_closed()
        server = await loop.create_server(Greeter, "127.0.0.1", port, reuse_address=False)
    server.close()


async def test_connections_survive_their_server(loop: AbstractEventLoop) -> None:
    protocols: list[Recorder] = []

    def factory() -> Recorder:
        protocols.append(Greeter())
        return protocols[-1]

    server = await loop.create_server(factory, "127.0.0.1", 0)
    with await connect(server.sockets[0].getsockname()) as peer:
        assert await in_thread(recv_exactly, peer, 5) == b"hello"
        server.close()
        protocols[0].transport.write(b"still here")
        assert await in_thread(recv_exactly, peer, 10) == b"still here"
        await in_thread(peer.sendall, b"you too")
        assert await protocols[0].received(7) == b"you too"
    await protocols[0].lost


async def test_serve_forever_ends_with_its_task(loop: AbstractEventLoop) -> None:
    server = await loop.create_server(Greeter, "127.0.0.1", 0, start_serving=False)
    address = server.sockets[0].getsockname()
    task = loop.create_task(server.serve_forever())
    await asyncio.sleep(0)
    assert server.is_serving()
    assert await greeted(address)
    with pytest.raises(RuntimeError, match="is already being awaited on serve_forever"):
        await server.serve_forever()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not server.is_serving()
    with pytest.raises(RuntimeError, match="is closed"):
        await server.serve_forever()


async def test_close_ends_serve_forever(loop: AbstractEventLoop) -> None:
    server = await loop.create_server(Greeter, "127.0.0.1", 0)
    task = loop.create_task(server.serve_forever())
    await asyncio.sleep(0)
    server.close()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_server_is_an_async_context_manager(loop: AbstractEventLoop) -> None:
    async with await loop.create_server(Greeter, "127.0.0.1", 0) as server:
        assert await greeted(server.sockets[0].getsockname())
        assert isinstance(server, asyncio.AbstractServer)
        assert isinstance(server, asyncio.Server)
        assert server.get_loop() is loop
    assert not server.is_serving()


@pytest.mark.skipif(sys.version_info < (3, 12, 1), reason="wait_closed waits since 3.12.1")
async def test_wait_closed_waits_for_the_connections(loop: AbstractEventLoop) -> None:
    server = await loop.create_server(Greeter, "127.0.0.1", 0)
    with await connect(server.sockets[0].getsockname()) as peer:
        await in_thread(recv_exactly, peer, 5)
        server.close()
        waiting = loop.create_task(server.wait_closed())
        for _ in range(10):
            await asyncio.sleep(0)
        assert not waiting.done()
    await waiting


async def test_wait_closed_of_a_server_without_connections_returns(
    loop: AbstractEventLoop,
) -> None:
    server = await loop.create_server(Greeter, "127.0.0.1", 0)
    server.close()
    await server.wait_closed()


@CLIENT_CONTROL
async def test_close_clients_flushes_and_closes_them(loop: AbstractEventLoop) -> None:
    class Big(Recorder):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            self.transport.write(bytes(2_000_000))

    server = await loop.create_server(Big, "127.0.0.1", 0)
    with await connect(server.sockets[0].getsockname()) as peer:
        await in_thread(recv_exactly, peer, 1)
        server.close()
        server.close_clients()
        assert len(await in_thread(recv_until_eof, peer)) == 1_999_999
        await server.wait_closed()


@CLIENT_CONTROL
async def test_abort_clients_does_not_wait(loop: AbstractEventLoop) -> None:
    class Big(Recorder):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            self.transport.write(bytes(20_000_000))

    server = await loop.create_server(Big, "127.0.0.1", 0)
    with await connect(server.sockets[0].getsockname()) as peer:
        await in_thread(recv_exactly, peer, 1)
        server.close()
        server.abort_clients()
        await server.wait_closed()


@pytest.mark.difference("failed_factory")
async def test_a_protocol_factory_that_fails_costs_only_its_connection(
    loop: AbstractEventLoop, reported: list[dict[str, Any]]
) -> None:
    """Row 10. As in asyncio the exception is reported in debug mode only."""
    made: list[int] = []

    def factory() -> Recorder:
        made.append(1)
        if len(made) == 1:
            raise LookupError("factory")
        return Greeter()

    server = await loop.create_server(factory, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    with await connect(address) as peer:
        assert await in_thread(recv_until_eof, peer) == b""
    assert await greeted(address)
    server.close()
    assert all(isinstance(context["exception"], LookupError) for context in reported)
    reported.clear()


@pytest.mark.parametrize("convert", [str, Path, os.fsencode], ids=["str", "Path", "bytes"])
async def test_a_unix_server_takes_any_kind_of_path(
    convert: Any, tmp_path: Path, loop: AbstractEventLoop
) -> None:
    path = tmp_path / "socket"
    server = await loop.create_unix_server(Greeter, convert(path))
    assert stat.S_ISSOCK(path.stat().st_mode)
    assert await greeted(str(path), socket.AF_UNIX)
    server.close()


async def test_a_unix_server_takes_an_abstract_name(loop: AbstractEventLoop) -> None:
    name = f"\0uringloop-test-{os.getpid()}-{id(loop)}"
    server = await loop.create_unix_server(Greeter, name)
    assert await greeted(name, socket.AF_UNIX)
    server.close()


async def test_a_unix_server_replaces_a_stale_socket(
    tmp_path: Path, loop: AbstractEventLoop
) -> None:
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(path)
    server = await loop.create_unix_server(Greeter, path)
    assert await greeted(path, socket.AF_UNIX)
    server.close()


async def test_a_unix_server_does_not_replace_a_file(
    tmp_path: Path, loop: AbstractEventLoop
) -> None:
    path = tmp_path / "file"
    path.write_text("content")
    with pytest.raises(OSError, match="is already in use") as raised:
        await loop.create_unix_server(Greeter, path)
    assert raised.value.errno == errno.EADDRINUSE
    assert path.read_text() == "content"


@pytest.mark.skipif(sys.version_info < (3, 13), reason="cleanup_socket came with 3.13")
@pytest.mark.parametrize("cleanup", [True, False])
async def test_cleanup_socket_removes_the_path_with_the_server(
    cleanup: bool, tmp_path: Path, loop: AbstractEventLoop
) -> None:
    path = tmp_path / "socket"
    server = await loop.create_unix_server(Greeter, path, cleanup_socket=cleanup)
    server.close()
    await server.wait_closed()
    assert path.exists() is not cleanup


async def test_unix_arguments_that_contradict_each_other_are_refused(
    tmp_path: Path, loop: AbstractEventLoop
) -> None:
    with socket.socket() as inet, socket.socket(socket.AF_UNIX) as unix:
        with pytest.raises(ValueError, match="path and sock can not be specified"):
            await loop.create_unix_server(Greeter, str(tmp_path / "s"), sock=unix)
        with pytest.raises(ValueError, match="path was not specified, and no sock specified"):
            await loop.create_unix_server(Greeter)
        with pytest.raises(ValueError, match="A UNIX Domain Stream Socket was expected"):
            await loop.create_unix_server(Greeter, sock=inet)
