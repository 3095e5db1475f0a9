"""EventLoop: the asyncio API as a table of contents.

The hot half is core.LoopCore, whose methods come first; what asyncio's own loops have in
common (argument checking, look-ups, happy eyeballs, executors, async generators, the
exception handler) is inherited from asyncio.SelectorEventLoop and follows the running
Python version. Its selector is never made: readiness comes from watches.Watches, which
also carries the transports that are asyncio's own so far (datagrams, pipes, subprocesses).
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from asyncio import sslproto
from contextvars import Context, copy_context
from typing import Any

from uringloop import servers, sockets, watches
from uringloop.addresses import is_numeric, pack_sockaddr
from uringloop.core import LoopCore
from uringloop.driver.driver import DriverState, open_driver
from uringloop.handles import new_handle
from uringloop.signals import SignalPipe, in_main_thread
from uringloop.transports.stream import StreamTransport


# The type stubs give call_soon and its like another type for `*args`.
class EventLoop(LoopCore, asyncio.SelectorEventLoop):  # type: ignore[misc]
    """An asyncio event loop on io_uring, or on epoll where io_uring cannot be had.

    backend   "io_uring", "epoll" or "auto"; None asks the environment's URINGLOOP_BACKEND
    raises    RuntimeError when io_uring is demanded and cannot be had
    """

    # asyncio's own, which its type stubs do not show; asyncio_names lists them.
    _check_closed: Any
    _check_running: Any
    _debug: Any
    _ensure_fd_no_transport: Any
    _ensure_resolved: Any
    _read_from_self: Any

    def __init__(self, backend: str | None = None) -> None:
        # Closed until all is there, so that a failure here leaves no half of a loop.
        self._closed = True
        driver = open_driver(backend)
        asyncio.BaseEventLoop.__init__(self)
        self._ready = []
        self._start_core(driver)
        self._watches = watches.Watches(self)
        self._acceptors: dict[int, servers.Acceptor] = {}
        self._stopping_acceptors: set[servers.Acceptor] = set()
        self._signal_pipe: SignalPipe | None = None
        # What asyncio's selector loops would have made themselves.
        self._selector = self._watches
        self._transports: dict[int, StreamTransport] = {}
        self._signal_handlers: dict[int, Any] = {}
        self._unix_server_sockets: dict[Any, int] = {}

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
        """What the engine holds at the moment and what it counted; for tests and metrics."""
        state: DriverState = self._driver.state()
        return state

    # -- running and closing --------------------------------------------------------

    def run_forever(self) -> None:
        self._check_closed()
        self._check_running()
        if self._driver.belongs_elsewhere():
            self._move_to_this_thread()
        if not in_main_thread():
            super().run_forever()
            return
        with self._open_signal_pipe().wakes_loop(lambda: self._signal_handlers):
            super().run_forever()

    def _run_once(self) -> None:
        LoopCore._run_once(self)
        # What the last callbacks wrote goes out, even if the loop is never run again.
        # Answers stay for the next run.
        if not self._rings.has_events():
            self._flush_streams()
            self._engine_turn(0)

    def _move_to_this_thread(self) -> None:
        """A fresh engine for the running thread; only waits for readiness can move along."""
        operations = self._in_flight.operations()
        if not all(isinstance(operation, watches.Watch) for operation in operations):
            raise RuntimeError(
                f"this event loop has {len(operations)} operations with the io_uring of the "
                "thread that ran it before; close them before it runs in another thread, or "
                "set URINGLOOP_DISABLE=single_issuer"
            )
        self._in_flight.forget_all()
        self._driver.open_again()
        self._watches.move()

    def close(self) -> None:
        if self.is_running():
            raise RuntimeError("Cannot close a running event loop")
        if self.is_closed():
            return
        super().close()
        self._transports.clear()
        self._acceptors.clear()
        self._drop_queues()
        self._driver.close()

    # -- readiness ----------------------------------------------------------------------

    def _add_reader(
        self, fd: int, callback: Any, *args: Any, context: Context | None = None
    ) -> Any:
        self._check_closed()
        handle = new_handle(callback, args, self, context)
        self._watches.add(_fileno(fd), watches.READ, handle)
        return handle

    def _add_writer(
        self, fd: int, callback: Any, *args: Any, context: Context | None = None
    ) -> Any:
        self._check_closed()
        handle = new_handle(callback, args, self, context)
        self._watches.add(_fileno(fd), watches.WRITE, handle)
        return handle

    def _remove_reader(self, fd: int) -> bool:
        if self.is_closed():
            return False
        return self._watches.remove(_fileno(fd), watches.READ)

    def _remove_writer(self, fd: int) -> bool:
        if self.is_closed():
            return False
        return self._watches.remove(_fileno(fd), watches.WRITE)

    # -- transports -----------------------------------------------------------------

    def _make_socket_transport(
        self,
        sock: socket.socket,
        protocol: Any,
        waiter: Any = None,
        *,
        extra: dict[str, Any] | None = None,
        server: Any = None,
    ) -> StreamTransport:
        self._ensure_fd_no_transport(sock)
        _disable_nagle(sock)
        transport = StreamTransport(self, sock, protocol, copy_context(), extra, server)
        transport.start(waiter)
        return transport

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
        **tls_timeouts: Any,
    ) -> Any:
        tls = sslproto.SSLProtocol(
            self, protocol, sslcontext, waiter, server_side, server_hostname, **tls_timeouts
        )
        self._make_socket_transport(rawsock, tls, extra=extra, server=server)
        return tls._app_transport

    async def _create_connection_transport(
        self, sock: socket.socket, *args: Any, **kwargs: Any
    ) -> Any:
        try:
            return await super()._create_connection_transport(sock, *args, **kwargs)  # type: ignore[misc]
        except BaseException:
            self._close_unowned(sock)
            raise

    def _close_unowned(self, sock: socket.socket) -> None:
        """Closes a socket that no transport took over: its protocol could not be made."""
        transport = self._transports.get(sock.fileno())
        if transport is None or transport._sock is not sock:
            sock.close()

    def _attach_to_server(self, server: Any, transport: Any) -> None:
        servers.attach(server, transport)

    def _detach_from_server(self, server: Any, transport: Any) -> None:
        servers.detach(server, transport)

    async def start_tls(
        self, transport: Any, protocol: Any, sslcontext: Any, **arguments: Any
    ) -> Any:
        reader = getattr(protocol, "_stream_reader", None)
        usable = isinstance(transport, StreamTransport) and isinstance(sslcontext, ssl.SSLContext)
        if usable and reader is not None and reader._buffer:
            # Bytes behind the last plain one are TLS already: they belong to the new protocol.
            transport.pause_reading()
            transport.unread(bytes(reader._buffer))
            reader._buffer.clear()
        return await super().start_tls(transport, protocol, sslcontext, **arguments)

    # -- servers ----------------------------------------------------------------------

    def _start_serving(
        self,
        protocol_factory: Any,
        sock: socket.socket,
        sslcontext: Any = None,
        server: Any = None,
        backlog: int = 100,
        *tls_timeouts: Any,
    ) -> None:
        # Connections inherit the listening socket's options.
        _disable_nagle(sock)
        acceptor = servers.Acceptor(self, sock, protocol_factory, sslcontext, server, tls_timeouts)
        self._acceptors[sock.fileno()] = acceptor
        acceptor.start()

    def _stop_serving(self, sock: socket.socket) -> None:
        acceptor = self._acceptors.pop(sock.fileno(), None)
        if acceptor is not None:
            acceptor.stop()
        super()._stop_serving(sock)  # type: ignore[misc]

    async def create_server(self, *args: Any, **kwargs: Any) -> Any:
        # A socket that stopped listening in this turn keeps its port until the kernel answered.
        while self._stopping_acceptors:  # noqa: ASYNC110 - one turn, hardly ever two
            await asyncio.sleep(0)
        return await super().create_server(*args, **kwargs)

    # -- sockets and names ----------------------------------------------------------

    def _check_socket(self, sock: socket.socket) -> None:
        asyncio.base_events._check_ssl_socket(sock)  # type: ignore[attr-defined]
        if self._debug and sock.gettimeout() != 0:
            raise ValueError("the socket must be non-blocking")

    async def sock_recv(self, sock: socket.socket, nbytes: int) -> bytes:
        self._check_socket(sock)
        data: bytes = await sockets.call_when_ready(self, sock, sockets.READABLE, "recv", nbytes)
        return data

    async def sock_recv_into(self, sock: socket.socket, buf: Any) -> int:
        self._check_socket(sock)
        count: int = await sockets.call_when_ready(self, sock, sockets.READABLE, "recv_into", buf)
        return count

    async def sock_recvfrom(self, sock: socket.socket, bufsize: int) -> tuple[bytes, Any]:
        self._check_socket(sock)
        answer: tuple[bytes, Any] = await sockets.call_when_ready(
            self, sock, sockets.READABLE, "recvfrom", bufsize
        )
        return answer

    async def sock_recvfrom_into(
        self, sock: socket.socket, buf: Any, nbytes: int = 0
    ) -> tuple[int, Any]:
        self._check_socket(sock)
        answer: tuple[int, Any] = await sockets.call_when_ready(
            self, sock, sockets.READABLE, "recvfrom_into", buf, nbytes or len(buf)
        )
        return answer

    async def sock_sendall(self, sock: socket.socket, data: Any) -> None:
        self._check_socket(sock)
        await sockets.send_all(self, sock, data)

    async def sock_sendto(self, sock: socket.socket, data: Any, address: Any) -> int:
        self._check_socket(sock)
        count: int = await sockets.call_when_ready(
            self, sock, sockets.WRITABLE, "sendto", data, address
        )
        return count

    async def sock_accept(self, sock: socket.socket) -> tuple[socket.socket, Any]:
        self._check_socket(sock)
        return await sockets.accept(self, sock)

    async def sock_connect(self, sock: socket.socket, address: Any) -> None:
        self._check_socket(sock)
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            resolved = await self._ensure_resolved(
                address, family=sock.family, type=sock.type, proto=sock.proto, loop=self
            )
            address = resolved[0][4]
        sockaddr = pack_sockaddr(sock.family, address)
        if sockaddr is None or sock.type != socket.SOCK_STREAM:
            await super().sock_connect(sock, address)
        else:
            await sockets.connect(self, sock, address, sockaddr)

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

    @property
    def _ssock(self) -> Any:
        return self._open_signal_pipe().receiver

    @property
    def _csock(self) -> Any:
        return self._open_signal_pipe().sender

    def _open_signal_pipe(self) -> SignalPipe:
        """The pipe that signals are written to; made when it is first needed."""
        if self._signal_pipe is None:
            self._signal_pipe = SignalPipe()
            self._add_reader(self._signal_pipe.receiver.fileno(), self._read_from_self)
        return self._signal_pipe

    def _close_self_pipe(self) -> None:
        if self._signal_pipe is not None:
            self._remove_reader(self._signal_pipe.receiver.fileno())
            self._signal_pipe.close()

    def remove_signal_handler(self, sig: int) -> bool:
        removed = super().remove_signal_handler(sig)
        # Without handlers asyncio resets the wake-up descriptor; a running loop keeps it.
        if removed and self.is_running() and self._signal_pipe is not None:
            self._signal_pipe.activate()
        return removed


def _fileno(fd: Any) -> int:
    """The descriptor of an int or of an object with fileno(), as selectors take it."""
    if isinstance(fd, int):
        number = fd
    else:
        try:
            number = int(fd.fileno())
        except (AttributeError, TypeError, ValueError):
            raise ValueError(f"Invalid file object: {fd!r}") from None
    if number < 0:
        raise ValueError(f"Invalid file descriptor: {number}")
    return number


def _disable_nagle(sock: socket.socket) -> None:
    """TCP_NODELAY on TCP whatever `sock.proto` says: 0 is the common case."""
    if sock.family in (socket.AF_INET, socket.AF_INET6) and sock.type == socket.SOCK_STREAM:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
