"""Operations on sockets that are not transports: connecting, and the sock_* calls.

A sock_* call tries its system call at once. When the socket is not ready it waits for
readiness, and for nothing else: the data or the connection is taken by the coroutine itself
when it goes on. So a task that is cancelled, at whatever moment, has taken nothing that
nobody will see.
"""

from __future__ import annotations

import asyncio
import select
import socket
from typing import Any

from uringloop.driver import binding
from uringloop.driver.in_flight import Operation
from uringloop.errors import connect_error, exception_of

READABLE = select.POLLIN
WRITABLE = select.POLLOUT


class Connect(Operation):
    """One CONNECT command and the Future that waits for it."""

    def __init__(self, core: Any, address: Any, sockaddr: bytes) -> None:
        self._core = core
        self._address = address
        self._sockaddr = sockaddr
        self._token = 0
        self.future: asyncio.Future[None] = core.create_future()

    def start(self, sock: socket.socket) -> None:
        """Gives the command to the kernel."""
        self._token = self._core._in_flight.add(self)
        where = self._core._rings.address_of(self._sockaddr)
        self._core._rings.stage(
            binding.UL_OP_CONNECT, sock.fileno(), self._token, where, len(self._sockaddr), 0, 0
        )
        # Connecting begins now, as with asyncio: the caller may block before the turn ends.
        self._core._turn_now()

    def cancel(self) -> None:
        """Stops waiting. The socket is the caller's, whatever the kernel still answers."""
        if self._token:
            self._core._rings.stage(binding.UL_OP_CANCEL, -1, 0, 0, 0, self._token, 0)

    def completed(self, rings: Any, opcode: int, result: int, more: bool) -> None:
        self._token = 0
        if self.future.done():
            return
        if result < 0:
            self.future.set_exception(connect_error(result, self._address))
        else:
            self.future.set_result(None)

    def abandoned(self) -> None:
        self._token = 0


async def connect(core: Any, sock: socket.socket, address: Any, sockaddr: bytes) -> None:
    """Connects `sock` to `sockaddr`; `address` is the same for the error's message.

    raises   OSError, of the subclass of the kernel's errno
    """
    operation = Connect(core, address, sockaddr)
    operation.start(sock)
    try:
        await operation.future
    except asyncio.CancelledError:
        operation.cancel()
        raise
    finally:
        # Needed to break the cycle of future, exception and frame.
        del operation


class Readiness(Operation):
    """One POLL command and the Future that waits for it."""

    def __init__(self, core: Any) -> None:
        self._core = core
        self._token = 0
        self.future: asyncio.Future[None] = core.create_future()

    def start(self, fd: int, mask: int) -> None:
        """Gives the command, to be taken by the next turn."""
        self._token = self._core._in_flight.add(self)
        self._core._rings.stage(binding.UL_OP_POLL, fd, self._token, 0, 0, mask, 0)

    def cancel(self) -> None:
        """Stops waiting."""
        if self._token:
            self._core._rings.stage(binding.UL_OP_CANCEL, -1, 0, 0, 0, self._token, 0)

    def completed(self, rings: Any, opcode: int, result: int, more: bool) -> None:
        self._token = 0
        if self.future.done():
            return
        if result < 0:
            self.future.set_exception(exception_of("poll", result))
        else:
            self.future.set_result(None)

    def abandoned(self) -> None:
        self._token = 0


async def wait_ready(core: Any, sock: socket.socket, mask: int) -> None:
    """Sleeps until `sock` is READABLE or WRITABLE, or has failed or been hung up.

    raises   RuntimeError when a transport owns the socket; OSError(EBADF) when it is closed
    """
    core._ensure_fd_no_transport(sock)
    readiness = Readiness(core)
    readiness.start(sock.fileno(), mask)
    try:
        await readiness.future
    except asyncio.CancelledError:
        readiness.cancel()
        raise


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
    with memoryview(data) as view, view.cast("B") as rest:
        sent = 0
        while True:
            sent += await call_when_ready(core, sock, WRITABLE, "send", rest[sent:])
            if sent >= len(rest):
                return


async def accept(core: Any, sock: socket.socket) -> tuple[socket.socket, Any]:
    """The next connection of a listening socket, non-blocking, and its peer's address."""
    conn, address = await call_when_ready(core, sock, READABLE, "accept")
    conn.setblocking(False)
    return conn, address
