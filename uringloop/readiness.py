"""Waiting for a socket in the old way: connecting, and a method called again when it is ready.

Connecting is the engine's CONNECT. The rest is for what no command of the engine is: sockets
that are not Python's own, arguments whose answer only the socket's own method knows, kinds of
addresses that only Python can pack. The method is called in the coroutine that goes on, so
a call that is cancelled has taken nothing.

Compiled by Cython together with readiness.pxd.
"""

from __future__ import annotations

import asyncio
import select
import socket
from typing import Any

from uringloop.driver import binding
from uringloop.driver.in_flight import Operation
from uringloop.errors import connect_error, exception_of
from uringloop.transports.socket_info import told_info

READABLE = select.POLLIN
WRITABLE = select.POLLOUT

_CANCEL = binding.UL_OP_CANCEL
_CONNECT = binding.UL_OP_CONNECT
_POLL = binding.UL_OP_POLL
_NAMES = binding.UL_NAMES


class Wait(Operation):
    """A command that takes nothing from the kernel, and the Future that waits for it."""

    def _wait_on(self, core: Any) -> None:
        """What __init__() begins with."""
        self._core = core
        self._token = 0
        self.future: asyncio.Future[None] = core.create_future()

    def start(self, sock: socket.socket) -> None:
        """Gives the command, to be taken by the next turn."""
        raise NotImplementedError

    def cancel(self) -> None:
        """Stops waiting. The socket is the caller's, whatever the kernel still answers."""
        if self._token:
            self._core._rings.stage(_CANCEL, -1, 0, 0, 0, self._token, 0)

    def error(self, result: int) -> BaseException:
        """The exception for the kernel's -errno."""
        raise NotImplementedError

    def completed(self, rings: Any, opcode: int, result: int, more: bool) -> None:
        self._token = 0
        if self.future.done():
            return
        if result < 0:
            self.future.set_exception(self.error(result))
        else:
            self.future.set_result(None)

    def abandoned(self) -> None:
        self._token = 0


class Connect(Wait):
    """One CONNECT command.

    address       as Python has it, for the error's message
    sockaddr      the same, packed
    info_family   of the socket, where `info` is to be its SocketInfo; 0: it is not wanted
    """

    def __init__(self, core: Any, address: Any, sockaddr: bytes, info_family: int = 0) -> None:
        self._wait_on(core)
        self._address = address
        self._sockaddr = sockaddr
        self._info_family = info_family
        self._sock: Any = None
        self.info: Any = None

    def start(self, sock: socket.socket) -> None:
        core = self._core
        fd = sock.fileno()
        self._token = core._in_flight.add(self)
        where = core._rings.address_of(self._sockaddr)
        flags = _NAMES if self._info_family else 0
        core._rings.stage(_CONNECT, fd, self._token, where, len(self._sockaddr), 0, flags)
        self._sock = sock
        # Connecting begins now, as with asyncio: the caller may block before the turn ends.
        core._turn_now()

    def completed(self, rings: Any, opcode: int, result: int, more: bool) -> None:
        if result == 0 and self._info_family:
            self.info = told_info(self._sock, rings, self._info_family)
        Wait.completed(self, rings, opcode, result, more)

    def error(self, result: int) -> BaseException:
        return connect_error(result, self._address)


class Readiness(Wait):
    """One POLL command."""

    def __init__(self, core: Any, mask: int) -> None:
        self._wait_on(core)
        self._mask = mask

    def start(self, sock: socket.socket) -> None:
        fd = sock.fileno()
        self._token = self._core._in_flight.add(self)
        self._core._rings.stage(_POLL, fd, self._token, 0, 0, self._mask, 0)

    def error(self, result: int) -> BaseException:
        return exception_of("poll", result)


async def _wait(wait: Wait, sock: socket.socket) -> None:
    wait.start(sock)
    try:
        await wait.future
    except asyncio.CancelledError:
        wait.cancel()
        raise
    finally:
        # Needed to break the cycle of future, exception and frame.
        del wait


async def connect(core: Any, sock: socket.socket, address: Any, sockaddr: bytes) -> None:
    """Connects `sock` to `sockaddr`; `address` is the same for the error's message.

    raises   OSError, of the subclass of the kernel's errno
    """
    try:
        await _wait(Connect(core, address, sockaddr), sock)
        return
    except ConnectionAbortedError:
        # Not about this attempt: one before it was cancelled and then failed, and its error
        # was told to nobody. Only after saying so connect(2) begins anew.
        pass
    await _wait(Connect(core, address, sockaddr), sock)


async def connect_by_readiness(core: Any, sock: socket.socket, address: Any) -> None:
    """Connects a socket of a kind that the engine's CONNECT does not take.

    raises   what sock.connect() raises; OSError, of the subclass of the kernel's errno
    """
    try:
        sock.connect(address)
    except (BlockingIOError, InterruptedError):
        await wait_ready(core, sock, WRITABLE)
        error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            raise connect_error(-error, address) from None


async def wait_ready(core: Any, sock: socket.socket, mask: int) -> None:
    """Sleeps until `sock` is READABLE or WRITABLE, or has failed or been hung up.

    raises   RuntimeError when a transport owns the socket; OSError(EBADF) when it is closed
    """
    core._ensure_fd_no_transport(sock)
    await _wait(Readiness(core, mask), sock)


async def call_when_ready(
    core: Any, sock: socket.socket, mask: int, method: str, *args: Any
) -> Any:
    """What the method of `sock` answers as soon as it need not wait."""
    while True:
        try:
            return getattr(sock, method)(*args)
        except (BlockingIOError, InterruptedError):
            await wait_ready(core, sock, mask)


async def send_all(core: Any, sock: socket.socket, data: Any) -> None:
    """Sends the bytes-like `data` to the end; after an error nobody knows how much was sent."""
    sent = await call_when_ready(core, sock, WRITABLE, "send", data)
    with memoryview(data) as view, view.cast("B") as rest:
        while sent < len(rest):
            sent += await call_when_ready(core, sock, WRITABLE, "send", rest[sent:])


async def accept(core: Any, sock: socket.socket) -> tuple[socket.socket, Any]:
    """The next connection of a listening socket, non-blocking, and its peer's address."""
    conn, address = await call_when_ready(core, sock, READABLE, "accept")
    conn.setblocking(False)
    return conn, address
