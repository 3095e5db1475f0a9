"""Listening sockets: one ACCEPT command that goes on answering, and what comes of each answer.

Server is asyncio's, which asks the loop to start and stop serving a socket; it can also pause
accepting, and hold to a number of connections.

Compiled by Cython together with servers.pxd.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from asyncio import base_events
from asyncio.log import logger
from asyncio.trsock import TransportSocket
from contextvars import Context, copy_context
from typing import Any

from uringloop.driver import binding
from uringloop.driver.in_flight import Operation
from uringloop.errors import ACCEPT_EXHAUSTED, CANCELED, exception_of
from uringloop.transports.socket_info import SocketInfo, socket_info, told_info
from uringloop.transports.stream import StreamTransport

_CANCELED = CANCELED
_SHARED = binding.UL_SHARED
_Socket = socket.socket

# How long to leave the queue alone when descriptors or memory ran out: asyncio's second.
_RETRY_DELAY_S = asyncio.constants.ACCEPT_RETRY_DELAY

_TLS_TIMEOUT_NAMES = ("ssl_handshake_timeout", "ssl_shutdown_timeout")


# Servers know their transports from 3.13 on; before, how many there are.
_KNOWS_CLIENTS = sys.version_info >= (3, 13)

_detach: Any = base_events.Server._detach  # type: ignore[attr-defined]


class Server(base_events.Server):
    """What create_server(), start_server() and their like return: asyncio's Server,
    and a say in how many it serves.

    A connection that is not accepted waits in the listener's queue, in the kernel; when that is
    full (`backlog`), clients wait for it, too. Accepting may be paused by the program, by a limit,
    or by both; close() works at any time. As all of a server, these methods are called in the
    loop's thread.
    """

    # Of the class, as create_server() makes this out of asyncio's own.
    _is_paused = False
    _is_full = False
    _connections_max: int | None = None
    _arriving = 0  # accepted, but no transport yet: TLS

    def pause_accepting(self) -> None:
        """Serves no further connection until resume_accepting(); those that are open go on.

        What the kernel has handed over already is kept, and served first when accepting resumes.
        Pausing twice is pausing once. Has an effect on a server that is not started yet.
        """
        self._is_paused = True
        self._tell_acceptors()

    def resume_accepting(self) -> None:
        """Serves connections again, those that have waited longest first, as far as a limit
        allows."""
        self._is_paused = False
        self._tell_acceptors()

    def set_connection_limit(self, limit: int | None) -> None:
        """Has no more than so many connections open at once; the next waits until one is closed.

        A connection counts from its accept to its connection_lost(), those in a TLS handshake
        included. Lowering the limit closes nothing.

        limit    connections of this server, over all its sockets; at least 1. None, as at first:
                 no limit but that of open files
        raises   ValueError for less than 1
        """
        if limit is not None and limit < 1:
            raise ValueError(f"limit must be at least 1 or None, not {limit!r}")
        self._connections_max = limit
        self._hold_back()

    def _is_held_back(self) -> bool:
        return self._is_paused or self._is_full

    def _hold_back(self) -> None:
        """A connection came or went, or the limit is another."""
        limit = self._connections_max
        is_full = limit is not None and self._count() >= limit
        if is_full != self._is_full:
            self._is_full = is_full
            self._tell_acceptors()

    def _count(self) -> int:
        open_count: int = len(self._clients) if _KNOWS_CLIENTS else self._active_count  # type: ignore[attr-defined]
        return open_count + self._arriving

    def _tell_acceptors(self) -> None:
        acceptors = self.get_loop()._acceptors  # type: ignore[attr-defined]
        for sock in self.sockets:
            acceptor = acceptors.get(sock.fileno())
            if acceptor is None:
                continue
            # Looked at each time: what the one before had held may have made the server full.
            if self._is_held_back():
                acceptor.pause()
            else:
                acceptor.resume()

    def _arrived(self) -> None:
        """A connection has its transport now, which counts instead, or will not get one."""
        self._arriving -= 1
        self._hold_back()

    def _detach(self, *transport: Any) -> None:
        _detach(self, *transport)
        if self._is_full:
            # Not from within the end of another connection, whose socket is still open.
            self.get_loop().call_soon(self._hold_back)


class Acceptor(Operation):
    """Takes connections off one listening socket and gives each a protocol and transport.

    loop           the EventLoop
    sock           the listening socket; stays the server's
    factory        called for each connection's protocol
    sslcontext     for TLS, else None
    server         asyncio's Server
    tls_timeouts   handshake and, from 3.11 on, shutdown timeout, in seconds or None
    context        each connection gets a copy; None, before 3.15, is the caller's
    shared         whether other processes or loops may accept on the socket as well
    """

    def __init__(
        self,
        loop: Any,
        sock: socket.socket,
        factory: Any,
        sslcontext: Any,
        server: Any,
        tls_timeouts: tuple[Any, ...],
        context: Context | None,
        shared: bool,
    ) -> None:
        self._loop = loop
        self._sock = sock
        self._flags = _SHARED if shared else 0
        self._kind = (sock.family, sock.type | socket.SOCK_NONBLOCK, sock.proto)
        self._factory = factory
        self._sslcontext = sslcontext
        self._server = server
        self._tls_timeouts = dict(zip(_TLS_TIMEOUT_NAMES, tls_timeouts, strict=False))
        self._context = copy_context() if context is None else context
        self._token = 0
        self._stopped = False
        # None for asyncio's own, which somebody made without the loop.
        self._own_server: Any = server if isinstance(server, Server) else None
        self._paused = self._own_server is not None and self._own_server._is_held_back()
        # Connections that came after pause(): a command that goes on answering may have taken
        # some more by the time its cancel arrives.
        self._held: list[socket.socket] = []
        self._exhausted = False

    def start(self) -> None:
        """Gives the ACCEPT command, unless it is given, or none is wanted."""
        if self._stopped or self._paused or self._token:
            return
        self._token = self._loop._in_flight.add(self)
        fd = self._sock.fileno()
        self._loop._rings.stage(binding.UL_OP_ACCEPT, fd, self._token, 0, 0, 0, self._flags)

    def take_over(self, connection: tuple[socket.socket, Any]) -> None:
        """Serves a connection that a cancelled sock_accept() had taken."""
        sock = connection[0]
        self._accepted(sock.detach(), None)

    def pause(self) -> None:
        """No connection is served until resume(); see Server.pause_accepting()."""
        if self._paused or self._stopped:
            return
        self._paused = True
        if self._token:
            self._cancel()

    def resume(self) -> None:
        """Serves what was held, until paused again; then takes further connections."""
        if not self._paused or self._stopped:
            return
        self._paused = False
        while self._held and not self._paused:
            self._accepted(self._held.pop(0).detach(), None)
        self.start()  # or later: if the command is still being cancelled, its end starts anew

    def _cancel(self) -> None:
        self._loop._rings.stage(binding.UL_OP_CANCEL, -1, 0, 0, 0, self._token, 0)

    def stop(self) -> None:
        """No connection is served from now on; one that is still answered is closed."""
        self._stopped = True
        while self._held:
            self._held.pop().close()
        if self._token:
            self._loop._stopping_acceptors.add(self)
            self._cancel()
            # The kernel listens until it took the cancel, whatever is closed: have it now.
            self._loop._turn_now()

    def abandoned(self) -> None:
        self._token = 0

    def completed(self, rings: Any, opcode: int, result: int, more: bool) -> None:
        if not more:
            self._token = 0
            self._loop._stopping_acceptors.discard(self)
        if result >= 0:
            self._accepted(result, rings)
        elif not self._stopped:
            self._failed(result)

    def _failed(self, result: int) -> None:
        if result == _CANCELED:
            self.start()
            return
        if not self._exhausted:
            self._exhausted = True
            resource = -result in ACCEPT_EXHAUSTED
            self._loop.call_exception_handler(
                {
                    "message": "socket.accept() out of system resource"
                    if resource
                    else "socket.accept() failed",
                    "exception": exception_of("accept", result),
                    "socket": TransportSocket(self._sock),
                }
            )
        self._loop.call_later(_RETRY_DELAY_S, self.start)

    def _accepted(self, fd: int, rings: Any) -> None:
        """`rings`: where the connection's event is the current one; None: nowhere."""
        if self._stopped:
            os.close(fd)
            return
        conn = _Socket(self._kind[0], self._kind[1], self._kind[2], fd)
        if self._paused:
            self._held.append(conn)
            return
        self._exhausted = False
        if rings is None:
            info = socket_info(conn, None)
        else:
            info = told_info(conn, rings, self._kind[0])
        if self._loop._debug:
            peer = info.get("peername")
            logger.debug("%r got a new connection from %r: %r", self._server, peer, conn)
        if self._sslcontext is not None:
            self._context.copy().run(self._accept_tls, conn, info)
        else:
            self._accept_plain(conn, info)
        own_server = self._own_server
        if own_server is not None and own_server._connections_max is not None:
            own_server._hold_back()

    def _accept_tls(self, conn: socket.socket, info: SocketInfo) -> None:
        if self._own_server is not None:
            self._own_server._arriving += 1
        self._loop.create_task(self._serve_tls(conn, info))

    async def _serve_tls(self, conn: socket.socket, info: SocketInfo) -> None:
        """Sees the handshake through; of a failure only debug mode speaks, as with asyncio."""
        made: dict[str, Any] = {}
        try:
            await self._shake_hands(conn, info, made)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._report(error, made)
        finally:
            self._loop._close_unowned(conn)

    async def _shake_hands(
        self, conn: socket.socket, info: SocketInfo, made: dict[str, Any]
    ) -> None:
        """Puts protocol and transport into `made` as soon as there are any."""
        waiter = self._loop.create_future()
        try:
            if self._stopped:  # since it was accepted, a turn ago
                return
            made["protocol"] = self._factory()
            made["transport"] = self._loop._make_ssl_transport(
                conn,
                made["protocol"],
                self._sslcontext,
                waiter,
                server_side=True,
                extra=info,
                server=self._server,
                **self._tls_timeouts,
            )
        finally:
            if self._own_server is not None:
                self._own_server._arrived()
        try:
            await waiter
        except BaseException:
            made["transport"].close()
            raise
        finally:
            # Its exception holds this frame: a cycle, if the frame held it too.
            del waiter

    def _accept_plain(self, conn: socket.socket, info: SocketInfo) -> None:
        context = self._context.copy()
        made: dict[str, Any] = {}
        try:
            made["protocol"] = context.run(self._factory)
            transport = StreamTransport(
                self._loop, conn, made["protocol"], context, info, self._server
            )
            transport.start(None)
        except (SystemExit, KeyboardInterrupt):
            conn.close()
            raise
        except BaseException as error:
            conn.close()
            self._report(error, made)

    def _report(self, error: BaseException, made: dict[str, Any]) -> None:
        """A connection came to nothing; asyncio speaks of it in debug mode only."""
        if self._loop._debug:
            message = "Error on transport creation for incoming connection"
            self._loop.call_exception_handler({"message": message, "exception": error, **made})
