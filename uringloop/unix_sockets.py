"""create_unix_connection and create_unix_server, in asyncio's contract.

What a path means, what is refused, and who removes which file. Connecting, accepting and
TLS are the loop's, as for any other stream socket.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import stat
import sys
from asyncio.log import logger
from collections.abc import Callable
from typing import Any

from uringloop.servers import Server
from uringloop.signatures import keywords_since

_ProtocolFactory = Callable[[], Any]
_Path = Any  # str, bytes or os.PathLike

# Servers remove their file from 3.13 on.
_CLEANS_UP = sys.version_info >= (3, 13)


@keywords_since(ssl_shutdown_timeout=(3, 11))
async def create_unix_connection(
    loop: Any,
    protocol_factory: _ProtocolFactory,
    path: _Path | None = None,
    *,
    ssl: Any = None,
    sock: socket.socket | None = None,
    server_hostname: str | None = None,
    ssl_handshake_timeout: float | None = None,
    ssl_shutdown_timeout: float | None = None,
) -> tuple[Any, Any]:
    timeouts = _tls_timeouts(ssl_handshake_timeout, ssl_shutdown_timeout)
    _check_client_tls(ssl, server_hostname, timeouts)
    sock = _socket_of(path, sock, "no path and sock were specified")
    sock.setblocking(False)
    if path is not None:
        try:
            await loop.sock_connect(sock, os.fspath(path))
        except BaseException:
            sock.close()
            raise
    connected: tuple[Any, Any] = await loop._create_connection_transport(
        sock, protocol_factory, ssl, server_hostname, **timeouts
    )
    return connected


@keywords_since(ssl_shutdown_timeout=(3, 11), cleanup_socket=(3, 13))
async def create_unix_server(
    loop: Any,
    protocol_factory: _ProtocolFactory,
    path: _Path | None = None,
    *,
    sock: socket.socket | None = None,
    backlog: int = 100,
    ssl: Any = None,
    ssl_handshake_timeout: float | None = None,
    ssl_shutdown_timeout: float | None = None,
    start_serving: bool = True,
    cleanup_socket: bool = _CLEANS_UP,
) -> Any:
    if isinstance(ssl, bool):
        raise TypeError("ssl argument must be an SSLContext or None")
    timeouts = _tls_timeouts(ssl_handshake_timeout, ssl_shutdown_timeout)
    _check_timeouts_have_tls(ssl, timeouts)
    loop._note_given_listener(sock)
    sock = _socket_of(path, sock, "path was not specified, and no sock specified")
    try:
        if path is not None:
            _bind(sock, os.fspath(path))
        if cleanup_socket:
            loop._socket_files.remember(sock)
        sock.setblocking(False)
        server: Any = Server(loop, [sock], protocol_factory, ssl, backlog, *timeouts.values())
        if start_serving:
            server._start_serving()
            # As asyncio does: a turn, after which the socket accepts.
            await asyncio.sleep(0)
    except BaseException:
        if path is not None:
            loop._stop_serving(sock)
        raise
    return server


def _tls_timeouts(handshake: float | None, shutdown: float | None) -> dict[str, float | None]:
    """Both by name, in the order in which the running asyncio takes them."""
    timeouts = {"ssl_handshake_timeout": handshake}
    if sys.version_info >= (3, 11):
        timeouts["ssl_shutdown_timeout"] = shutdown
    return timeouts


def _check_client_tls(ssl: Any, server_hostname: Any, timeouts: dict[str, float | None]) -> None:
    assert server_hostname is None or isinstance(server_hostname, str)
    if ssl and server_hostname is None:
        raise ValueError("you have to pass server_hostname when using ssl")
    if not ssl and server_hostname is not None:
        raise ValueError("server_hostname is only meaningful with ssl")
    _check_timeouts_have_tls(ssl, timeouts)


def _check_timeouts_have_tls(ssl: Any, timeouts: dict[str, float | None]) -> None:
    for name, timeout_s in timeouts.items():
        if timeout_s is not None and not ssl:
            raise ValueError(f"{name} is only meaningful with ssl")


def _socket_of(path: _Path | None, sock: socket.socket | None, neither: str) -> socket.socket:
    """A new socket for `path`, or the user's own."""
    if path is not None:
        if sock is not None:
            raise ValueError("path and sock can not be specified at the same time")
        os.fspath(path)  # refuses what is no path, before there is a socket
        return socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    if sock is None:
        raise ValueError(neither)
    if sock.family != socket.AF_UNIX or sock.type != socket.SOCK_STREAM:
        raise ValueError(f"A UNIX Domain Stream Socket was expected, got {sock!r}")
    return sock


def _bind(sock: socket.socket, path: str | bytes) -> None:
    if not _is_abstract(path):
        _remove_stale(path)
    try:
        sock.bind(path)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise OSError(errno.EADDRINUSE, f"Address {path!r} is already in use") from None
        raise


def _is_abstract(path: str | bytes) -> bool:
    """Whether it is a name of Linux's abstract namespace, which has no file."""
    return path[:1] in ("\0", b"\0")


def _remove_stale(path: str | bytes) -> None:
    """Removes the socket file that an earlier server left; a file of another kind stays."""
    try:
        if stat.S_ISSOCK(os.stat(path).st_mode):
            os.remove(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        # The folder may allow no more than to make a socket.
        logger.error("Unable to check or remove stale UNIX socket %r: %r", path, error)


class SocketFiles:
    """The files of listening Unix sockets, to be removed when their server stops.

    A file is known by its inode: what stands under its name by then may be another
    server's.
    """

    def __init__(self) -> None:
        self._inodes: dict[socket.socket, int] = {}

    def remember(self, sock: socket.socket) -> None:
        """Notes the file of a bound socket, if it has one."""
        path = sock.getsockname()
        if not _is_abstract(path):
            try:
                self._inodes[sock] = os.stat(path).st_ino
            except FileNotFoundError:
                pass  # somebody else removed it already

    def close(self, sock: socket.socket) -> None:
        """Closes a listening socket of any kind, and removes its file if it was noted."""
        inode = self._inodes.pop(sock, None)
        if inode is None:
            sock.close()
            return
        path = sock.getsockname()
        sock.close()
        try:
            if os.stat(path).st_ino == inode:
                os.unlink(path)
        except FileNotFoundError:
            pass
        except OSError as error:
            logger.error("Unable to clean up listening UNIX socket %r: %r", path, error)
