"""create_unix_connection and create_unix_server: what their arguments mean, by version."""

from __future__ import annotations

import asyncio
import errno
import inspect
import logging
import os
import socket
import sys
from asyncio import AbstractEventLoop
from pathlib import Path

import pytest
from audit import open_descriptors
from certificates import contexts
from peers import Recorder, in_thread, recv_until_eof, turns

METHODS = ("create_unix_connection", "create_unix_server")

CLEANUP = pytest.mark.skipif(sys.version_info < (3, 13), reason="cleanup_socket came with 3.13")


class Greeter(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(b"hello")
        transport.close()


def read_all(path: str) -> bytes:
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(10)
        peer.connect(path)
        return recv_until_eof(peer)


@pytest.mark.parametrize("name", METHODS)
def test_the_parameters_are_asyncios_on_this_python(name: str, loop: AbstractEventLoop) -> None:
    own = inspect.signature(getattr(loop, name)).parameters
    asyncios = inspect.signature(getattr(asyncio.SelectorEventLoop, name)).parameters
    assert list(own) == list(asyncios)[1:]
    for parameter in own.values():
        assert parameter.kind == asyncios[parameter.name].kind
        assert parameter.default == asyncios[parameter.name].default
    assert inspect.iscoroutinefunction(getattr(loop, name))


@pytest.mark.parametrize("name", METHODS)
async def test_an_unknown_parameter_is_refused(name: str, loop: AbstractEventLoop) -> None:
    unknown = ["no_such_parameter"]
    if sys.version_info < (3, 11):
        unknown.append("ssl_shutdown_timeout")
    if sys.version_info < (3, 13):
        unknown.append("cleanup_socket")
    for keyword in unknown:
        with pytest.raises(TypeError, match=f"unexpected keyword argument '{keyword}'"):
            await getattr(loop, name)(Recorder, "path", **{keyword: None})


@pytest.mark.parametrize("name", METHODS)
async def test_tls_timeouts_without_tls_are_refused(name: str, loop: AbstractEventLoop) -> None:
    timeouts = ["ssl_handshake_timeout"]
    if sys.version_info >= (3, 11):
        timeouts.append("ssl_shutdown_timeout")
    for keyword in timeouts:
        with pytest.raises(ValueError, match=f"{keyword} is only meaningful with ssl"):
            await getattr(loop, name)(Recorder, "path", **{keyword: 1.0})


async def test_tls_arguments_that_make_no_sense_are_refused(loop: AbstractEventLoop) -> None:
    with pytest.raises(ValueError, match="you have to pass server_hostname when using ssl"):
        await loop.create_unix_connection(Recorder, "path", ssl=contexts().client)
    for flag in (True, False):
        with pytest.raises(TypeError, match="ssl argument must be an SSLContext or None"):
            await loop.create_unix_server(Recorder, "path", ssl=flag)


async def test_what_is_no_path_is_refused_and_leaves_no_socket(loop: AbstractEventLoop) -> None:
    before = open_descriptors()
    for name in METHODS:
        with pytest.raises(TypeError):
            await getattr(loop, name)(Recorder, 5)
    assert open_descriptors() - before == set()


@pytest.mark.parametrize("name", METHODS)
async def test_a_unix_socket_of_datagrams_is_refused(name: str, loop: AbstractEventLoop) -> None:
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock,
        pytest.raises(ValueError, match="A UNIX Domain Stream Socket was expected"),
    ):
        await getattr(loop, name)(Recorder, sock=sock)


async def test_a_socket_that_blocks_is_made_non_blocking(
    tmp_path: Path, loop: AbstractEventLoop
) -> None:
    path = str(tmp_path / "socket")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    server = await loop.create_unix_server(Greeter, sock=listener)
    assert listener.gettimeout() == 0
    ours = socket.socket(socket.AF_UNIX)
    await in_thread(ours.connect, path)
    _, protocol = await loop.create_unix_connection(Recorder, sock=ours)
    assert ours.gettimeout() == 0
    await protocol.lost
    assert protocol.data == b"hello"
    server.close()


async def test_an_abstract_name_may_be_bytes(loop: AbstractEventLoop) -> None:
    name = b"\0uringloop-bytes-%d-%d" % (os.getpid(), id(loop))
    server = await loop.create_unix_server(Greeter, name)
    assert server.sockets[0].getsockname() == name
    _, protocol = await loop.create_unix_connection(Recorder, name)
    await protocol.lost
    assert protocol.data == b"hello"
    server.close()


async def test_a_name_in_use_is_an_error_that_names_it(
    tmp_path: Path, loop: AbstractEventLoop
) -> None:
    name = f"\0uringloop-in-use-{os.getpid()}-{id(loop)}"
    server = await loop.create_unix_server(Greeter, name)
    with pytest.raises(OSError, match=r"Address .*uringloop-in-use.* is already in use") as raised:
        await loop.create_unix_server(Greeter, name)
    assert raised.value.errno == errno.EADDRINUSE
    server.close()


async def test_a_path_that_cannot_be_bound_is_an_error_and_leaves_nothing(
    tmp_path: Path, loop: AbstractEventLoop
) -> None:
    before = open_descriptors()
    with pytest.raises(FileNotFoundError):
        await loop.create_unix_server(Greeter, tmp_path / "no folder" / "socket")
    with pytest.raises(OSError, match="AF_UNIX path too long"):
        await loop.create_unix_server(Greeter, "x" * 200)
    assert open_descriptors() - before == set()


async def test_a_server_takes_the_place_of_one_that_still_listens(
    tmp_path: Path, loop: AbstractEventLoop
) -> None:
    """As a restart does: the first keeps its socket, the second has the path."""
    path = str(tmp_path / "socket")
    first = await loop.create_unix_server(Recorder, path)
    second = await loop.create_unix_server(Greeter, path)
    assert await in_thread(read_all, path) == b"hello"
    first.close()
    await first.wait_closed()
    assert await in_thread(read_all, path) == b"hello"
    second.close()


async def test_a_stale_socket_that_cannot_be_looked_at_is_logged(
    tmp_path: Path, loop: AbstractEventLoop, caplog: pytest.LogCaptureFixture
) -> None:
    path = str(tmp_path / "file" / "socket")
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(NotADirectoryError):
        await loop.create_unix_server(Greeter, path)
    assert caplog.records[0].levelno == logging.ERROR
    assert "Unable to check or remove stale UNIX socket" in caplog.text


async def test_a_server_that_shall_not_start_yet_does_not(
    tmp_path: Path, loop: AbstractEventLoop
) -> None:
    path = str(tmp_path / "socket")
    server = await loop.create_unix_server(Greeter, path, start_serving=False)
    assert not server.is_serving()
    with pytest.raises(ConnectionRefusedError):
        await loop.create_unix_connection(Recorder, path)
    await server.start_serving()
    assert await in_thread(read_all, path) == b"hello"
    server.close()


@CLEANUP
async def test_a_socket_that_the_user_bound_is_removed_too(
    tmp_path: Path, loop: AbstractEventLoop
) -> None:
    path = tmp_path / "socket"
    for cleanup in (False, True):
        sock = socket.socket(socket.AF_UNIX)
        path.unlink(missing_ok=True)
        sock.bind(str(path))
        server = await loop.create_unix_server(Greeter, sock=sock, cleanup_socket=cleanup)
        server.close()
        await turns(1)
        assert path.exists() is not cleanup


@CLEANUP
async def test_a_file_that_is_another_servers_by_now_stays(
    tmp_path: Path, loop: AbstractEventLoop
) -> None:
    path = tmp_path / "socket"
    first = await loop.create_unix_server(Greeter, path)
    path.rename(tmp_path / "kept")
    second = await loop.create_unix_server(Greeter, path)
    first.close()
    assert path.exists()
    second.close()
    assert not path.exists()


@CLEANUP
async def test_a_file_that_is_gone_already_is_no_error(
    tmp_path: Path, loop: AbstractEventLoop, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "socket"
    server = await loop.create_unix_server(Greeter, path)
    path.unlink()
    server.close()
    assert caplog.records == []


async def test_a_cancelled_connect_leaves_no_socket(
    tmp_path: Path, loop: AbstractEventLoop
) -> None:
    """Row 10: the listener's queue is full, so that it waits."""
    path = str(tmp_path / "socket")
    before = open_descriptors()
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as first:
        listener.bind(path)
        listener.listen(0)
        first.connect(path)
        task = loop.create_task(loop.create_unix_connection(Recorder, path))
        await turns(2)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await turns(3)
    assert open_descriptors() - before == set()
