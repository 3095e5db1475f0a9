"""Operations on sockets that are not transports: connecting."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from uringloop.driver import binding
from uringloop.driver.in_flight import Operation
from uringloop.errors import connect_error


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
