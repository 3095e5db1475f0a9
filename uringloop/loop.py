"""EventLoop: the asyncio API as a table of contents.

The hot half is core.LoopCore with sockets.SocketCalls, whose methods come first; what
asyncio's own loops have in common (argument checking, look-ups, happy eyeballs, executors,
async generators, the exception handler) is inherited from asyncio.BaseEventLoop and follows
the running Python version. Readiness comes from watches.Watches.
"""

from __future__ import annotations

import asyncio
import socket
import weakref
from contextvars import Context, copy_context
from typing import Any

from uringloop import processes, sendfile, servers, tls, unix_sockets, watches
from uringloop.addresses import is_numeric
from uringloop.driver.driver import DriverState, open_driver
from uringloop.handles import new_handle
from uringloop.metrics import Metrics, RunTimes, metrics_of
from uringloop.plain_connections import connect_plainly, plain_target
from uringloop.signals import Signals
from uringloop.signatures import signature_of
from uringloop.sockets import SocketCalls
from uringloop.transports import datagram
from uringloop.transports.pipes import ReadPipeTransport, WritePipeTransport
from uringloop.transports.stream import StreamTransport

_INTERNET = (int(socket.AF_INET), int(socket.AF_INET6))

# `socket.family` and `socket.type` without the enums that they make.
_bare_socket: Any = socket.socket.__mro__[1]  # _socket.socket
_family_of = _bare_socket.family.__get__
_kind_of = _bare_socket.type.__get__


# The type stubs give call_soon and its like another type for `*args`.
class EventLoop(SocketCalls, asyncio.BaseEventLoop):  # type: ignore[misc]
    """An asyncio event loop on io_uring, or on epoll where io_uring cannot be had.

    backend   "io_uring", "epoll" or "auto"; None asks the environment's URINGLOOP_BACKEND
    driver    an open engine to use instead, for tests: a driver.Driver, or what looks like one
    raises    RuntimeError when io_uring is demanded and cannot be had
    """

    # asyncio's own, which its type stubs do not show; asyncio_names lists them.
    _check_closed: Any
    _check_running: Any
    _debug: Any
    _ensure_resolved: Any

    def __init__(self, backend: str | None = None, *, driver: Any = None) -> None:
        # Closed until all is there, so that a failure here leaves no half of a loop.
        self._closed = True
        if driver is None:
            driver = open_driver(backend)
        asyncio.BaseEventLoop.__init__(self)
        self._ready = []
        self._start_core(driver)
        self._start_sockets()
        self._run_times = RunTimes(driver.monotonic)
        self._watches = watches.Watches(self)
        self._exits = processes.Exits(self)
        self._acceptors: dict[int, servers.Acceptor] = {}
        self._stopping_acceptors: set[servers.Acceptor] = set()
        self._given_listeners: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self._signals = Signals(self)
        self._socket_files = unix_sockets.SocketFiles()
        # What asyncio's own transports ask about themselves.
        self._selector: watches.Watches | None = self._watches

    # -- what kind of loop this is ------------------------------------------------------

    @property
    def backend(self) -> str:
        """The engine in use: "io_uring" or "epoll"."""
        backend: str = self._driver.choice.backend
        return backend

    @property
    def backend_reason(self) -> str:
        """Why this engine, in a sentence."""
        reason: str = self._driver.choice.reason
        return reason

    def driver_state(self) -> DriverState:
        """What the engine holds at the moment and what it counted; for tests."""
        state: DriverState = self._driver.state()
        return state

    def metrics(self) -> Metrics:
        """What the loop holds at the moment and what it has counted since it was made.

        May be called from any thread, also while the loop runs: figures that change meanwhile
        may then be a turn apart from each other. Costs some ten microseconds.

        returns   a Metrics record, which says what each figure means; of a closed loop the last
                  counts, and no figures of the moment
        """
        return metrics_of(self)

    # -- running and closing --------------------------------------------------------

    def run_forever(self) -> None:
        self._check_closed()
        self._check_running()
        if self._driver.belongs_elsewhere():
            self._move_to_this_thread()
        self._watches.arm_again()
        self._exits.arm_again()
        self._rings.rest()
        self._run_times.begin()
        try:
            with self._signals.heard():
                super().run_forever()
        finally:
            self._run_times.end()

    def _run_once(self) -> None:
        SocketCalls._run_once(self)
        # What the last callbacks wrote goes out, even if the loop is never run again.
        # Answers stay for the next run.
        if not self._rings.has_events():
            self._flush_streams()
            self._engine_turn(0)

    def _move_to_this_thread(self) -> None:
        """A fresh engine for the running thread; only waits for readiness can move along."""
        operations = self._in_flight.operations()
        movable = (watches.Watches, processes.Exit)
        if not all(isinstance(operation, movable) for operation in operations):
            raise RuntimeError(
                f"this event loop has {len(operations)} operations with the io_uring of the "
                "thread that ran it before; close them before it runs in another thread, or "
                "set URINGLOOP_DISABLE=single_issuer"
            )
        self._in_flight.forget_all()
        self._driver.open_again()
        self._watches.arm()

    def close(self) -> None:
        if self.is_running():
            raise RuntimeError("Cannot close a running event loop")
        if self.is_closed():
            return
        super().close()
        self._transports.clear()
        self._acceptors.clear()
        self._selector = None
        self._drop_queues()
        self._exits.close()
        self._driver.close()
        self._in_flight = self._driver.in_flight  # empty: keeps nothing alive
        self._watches.close()
        self._close_channels()
        self._signals.close()

    # -- readiness ----------------------------------------------------------------------

    def add_reader(self, fd: Any, callback: Any, *args: Any) -> None:  # type: ignore[override]
        self._ensure_fd_no_transport(fd)
        self._add_reader(fd, callback, *args)

    def remove_reader(self, fd: Any) -> bool:
        self._ensure_fd_no_transport(fd)
        return self._remove_reader(fd)

    def add_writer(self, fd: Any, callback: Any, *args: Any) -> None:  # type: ignore[override]
        self._ensure_fd_no_transport(fd)
        self._add_writer(fd, callback, *args)

    def remove_writer(self, fd: Any) -> bool:
        self._ensure_fd_no_transport(fd)
        return self._remove_writer(fd)

    def _add_reader(
        self, fd: Any, callback: Any, *args: Any, context: Context | None = None
    ) -> Any:
        self._check_closed()
        handle = self._make_handle(callback, args, context)
        self._watches.add(fd, watches.READ, handle)
        return handle

    def _add_writer(
        self, fd: Any, callback: Any, *args: Any, context: Context | None = None
    ) -> Any:
        self._check_closed()
        handle = self._make_handle(callback, args, context)
        self._watches.add(fd, watches.WRITE, handle)
        return handle

    def _make_handle(self, callback: Any, args: Any, context: Context | None) -> Any:
        handle = new_handle(callback, args, self, context)
        if self._debug:
            self._remember_origin(handle)
        return handle

    def _remove_reader(self, fd: int) -> bool:
        if self.is_closed():
            return False
        return self._watches.remove(fd, watches.READ)

    def _remove_writer(self, fd: int) -> bool:
        if self.is_closed():
            return False
        return self._watches.remove(fd, watches.WRITE)

    def _ensure_fd_no_transport(self, fd: Any) -> None:
        transport = self._transports.get(watches.fileno_of(fd, may_be_closed=True))
        if transport is not None and not transport.is_closing():
            raise RuntimeError(f"File descriptor {fd!r} is used by transport {transport!r}")

    # -- transports -----------------------------------------------------------------

    def _make_socket_transport(
        self,
        sock: socket.socket,
        protocol: Any,
        waiter: Any = None,
        *,
        extra: dict[str, Any] | None = None,
        server: Any = None,
        context: Context | None = None,
    ) -> StreamTransport:
        if sock.fileno() in self._transports:
            self._ensure_fd_no_transport(sock)
        _disable_nagle(sock)
        if context is None:  # asyncio hands one over since 3.15
            context = copy_context()
        kept = self._take_kept(sock) if self._channels else None
        transport = StreamTransport(self, sock, protocol, context, extra, server)
        transport.start(waiter, kept)
        return transport

    def _make_datagram_transport(
        self,
        sock: socket.socket,
        protocol: Any,
        address: Any = None,
        waiter: Any = None,
        extra: dict[str, Any] | None = None,
    ) -> Any:
        self._ensure_fd_no_transport(sock)
        return datagram.make_transport(self, sock, protocol, address, waiter, extra)

    def _make_ssl_transport(
        self,
        rawsock: socket.socket,
        protocol: Any,
        sslcontext: Any,
        waiter: Any = None,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
        extra: dict[str, Any] | None = None,
        server: Any = None,
        context: Context | None = None,
        **tls_timeouts: Any,
    ) -> Any:
        return tls.make_transport(
            self,
            rawsock,
            protocol,
            sslcontext,
            waiter,
            server_side,
            server_hostname,
            extra,
            server,
            context,
            tls_timeouts,
        )

    def _make_read_pipe_transport(
        self, pipe: Any, protocol: Any, waiter: Any = None, extra: dict[str, Any] | None = None
    ) -> Any:
        transport = ReadPipeTransport(self, pipe, protocol, copy_context(), extra)
        transport.start(waiter)
        return transport

    def _make_write_pipe_transport(
        self, pipe: Any, protocol: Any, waiter: Any = None, extra: dict[str, Any] | None = None
    ) -> Any:
        transport = WritePipeTransport(self, pipe, protocol, copy_context(), extra)
        transport.start(waiter)
        return transport

    @signature_of(asyncio.BaseEventLoop.create_connection)
    async def create_connection(
        self, protocol_factory: Any, host: Any = None, port: Any = None, **options: Any
    ) -> Any:
        is_plain = not options and not self._debug and self._is_own(self.sock_connect)
        target = plain_target(host, port) if is_plain else None
        if target is None:
            return await super().create_connection(protocol_factory, host, port, **options)
        return await connect_plainly(self, protocol_factory, *target)

    @staticmethod
    def _is_own(sock_connect: Any) -> bool:
        """Whether it is not one that a subclass or a user put in its place."""
        return getattr(sock_connect, "__func__", None) is SocketCalls.sock_connect

    async def _create_connection_transport(
        self, sock: socket.socket, *args: Any, **kwargs: Any
    ) -> Any:
        await self._settle_socket(sock)
        try:
            return await super()._create_connection_transport(sock, *args, **kwargs)  # type: ignore[misc]
        except BaseException:
            self._close_unowned(sock)
            raise

    def _close_unowned(self, sock: socket.socket) -> None:
        """Closes a socket that no transport took over: its protocol could not be made.

        A transport closes its own, and if it was lost already, after the kernel's last answer.
        """
        transport = self._transports.get(sock.fileno())
        if transport is not None and transport._sock is sock:
            return
        if any(getattr(each, "_sock", None) is sock for each in self._in_flight.operations()):
            return
        sock.close()

    @signature_of(asyncio.BaseEventLoop.start_tls)
    async def start_tls(
        self, transport: Any, protocol: Any, sslcontext: Any, **arguments: Any
    ) -> Any:
        tls.return_buffered(transport, protocol, sslcontext)
        return await super().start_tls(transport, protocol, sslcontext, **arguments)

    async def _make_subprocess_transport(
        self,
        protocol: Any,
        args: Any,
        shell: bool,
        stdin: Any,
        stdout: Any,
        stderr: Any,
        bufsize: int,
        extra: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Any:
        return await processes.start(
            self, protocol, args, shell, stdin, stdout, stderr, bufsize, extra=extra, **kwargs
        )

    # -- servers ----------------------------------------------------------------------

    def _start_serving(
        self,
        protocol_factory: Any,
        sock: socket.socket,
        sslcontext: Any = None,
        server: Any = None,
        backlog: int = 100,
        *tls_timeouts: Any,
        context: Context | None = None,
    ) -> None:
        # Connections inherit the listening socket's options.
        _disable_nagle(sock)
        shared = sock in self._given_listeners
        acceptor = servers.Acceptor(
            self, sock, protocol_factory, sslcontext, server, tls_timeouts, context, shared
        )
        self._acceptors[sock.fileno()] = acceptor
        acceptor.start()
        self._take_kept_connections(sock, acceptor.take_over)

    def _stop_serving(self, sock: socket.socket) -> None:
        acceptor = self._acceptors.pop(sock.fileno(), None)
        if acceptor is not None:
            acceptor.stop()
        self._socket_files.close(sock)

    @signature_of(asyncio.BaseEventLoop.create_server)
    async def create_server(self, *args: Any, start_serving: bool = True, **kwargs: Any) -> Any:
        # A socket that stopped listening in this turn keeps its port until the kernel answered.
        while self._stopping_acceptors:  # noqa: ASYNC110 - one turn, hardly ever two
            await asyncio.sleep(0)
        self._note_given_listener(kwargs.get("sock"))
        server: Any = await super().create_server(*args, start_serving=False, **kwargs)
        server.__class__ = servers.Server  # asyncio's create_server() names its own
        if start_serving:
            server._start_serving()
            # As asyncio does: a turn, after which the sockets accept.
            await asyncio.sleep(0)
        return server

    def _note_given_listener(self, sock: Any) -> None:
        """The user's own, which other processes may accept on too, as workers do."""
        if isinstance(sock, socket.socket):
            self._given_listeners.add(sock)

    create_unix_connection = unix_sockets.create_unix_connection
    create_unix_server = unix_sockets.create_unix_server

    # -- sockets and names ----------------------------------------------------------

    async def _sock_sendfile_native(
        self, sock: socket.socket, file: Any, offset: int, count: int | None
    ) -> int:
        return await sendfile.send_to_socket(self, sock, file, offset, count)

    async def _sendfile_native(self, transp: Any, file: Any, offset: int, count: int | None) -> int:
        return await sendfile.send_to_transport(self, transp, file, offset, count)

    async def getaddrinfo(
        self,
        host: Any,
        port: Any,
        *,
        family: int = 0,
        type: int = 0,  # noqa: A002 - asyncio's name
        proto: int = 0,
        flags: int = 0,
    ) -> Any:
        if not self._debug and is_numeric(host, port):
            # Needs no look-up and so cannot block.
            numeric = flags | socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
            return socket.getaddrinfo(host, port, family, type, proto, numeric)
        return await super().getaddrinfo(
            host, port, family=family, type=type, proto=proto, flags=flags
        )

    # -- signals ------------------------------------------------------------------------

    def add_signal_handler(self, sig: int, callback: Any, *args: Any) -> None:  # type: ignore[override]
        self._signals.add(sig, callback, args)

    def remove_signal_handler(self, sig: int) -> bool:
        return self._signals.remove(sig)


def _disable_nagle(sock: socket.socket) -> None:
    """TCP_NODELAY on TCP whatever `sock.proto` says: 0 is the common case."""
    is_pythons = isinstance(sock, socket.socket)
    family = _family_of(sock) if is_pythons else sock.family
    kind = _kind_of(sock) if is_pythons else sock.type
    if family in _INTERNET and kind == socket.SOCK_STREAM:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
