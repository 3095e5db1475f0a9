"""Simulated datagram sockets, whose messages arrive, are lost, come twice, or refuse to leave.

A datagram transport of uringloop sends past the engine, by its socket's own methods: so the
socket is a class of its own, on a descriptor that is never used.
"""

from __future__ import annotations

import errno
import os
import socket
from collections import deque
from typing import TYPE_CHECKING, Any

from uringloop.addresses import pack_sockaddr
from uringloop.errors import ANSWERS

if TYPE_CHECKING:
    from tests.simulator.kernel import Kernel

HOST = "127.0.0.1"
QUEUE_MAX = 32  # messages; what comes then is lost


class DatagramSocket(socket.socket):
    """AF_INET, SOCK_DGRAM, bound to a simulated port.

    inbox        what arrived and was not received: (data, the sender's sockaddr)
    error        an errno that the next receive is told
    full_until   when it takes messages again
    """

    def __init__(self, kernel: Kernel, number: int) -> None:
        super().__init__(socket.AF_INET, socket.SOCK_DGRAM)
        self.setblocking(False)
        self._kernel = kernel
        self.number = number
        self.fd = self.fileno()
        self.address = (HOST, 10_000 + number)
        self.name = pack_sockaddr(socket.AF_INET, self.address) or b""
        self.inbox: deque[tuple[bytes, bytes]] = deque()
        self.error = 0
        self.full_until = 0
        self.closed = self._is_seen_closed = False
        self.refusals: list[int] = []  # errnos that sendto() raised
        self.accepted: list[bytes] = []  # messages that left
        self.delivered: list[tuple[bytes, bytes]] = []  # messages that were received

    def getsockname(self) -> Any:
        return self.address

    def getpeername(self) -> Any:
        raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))

    def sendto(self, data: Any, address: Any) -> int:  # type: ignore[override]
        """As Python's: a full socket raises BlockingIOError."""
        message = bytes(data)
        if self.is_full() or self._becomes_full():
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        if self._kernel.chance.happens(self._kernel.chance.temper.errors):
            error = self._kernel.pick_error("sendmsg", ANSWERS["sendmsg"])
            self.refusals.append(error)
            raise OSError(error, os.strerror(error))
        self.leave(message, pack_sockaddr(socket.AF_INET, address) or b"")
        return len(message)

    def is_full(self) -> bool:
        return self._kernel.now_ns < self.full_until

    def _becomes_full(self) -> bool:
        chance = self._kernel.chance
        if chance.happens(chance.temper.cuts // 4):
            self.full_until = self._kernel.now_ns + chance.delay_ns()
        return self.is_full()

    def leave(self, message: bytes, receiver: bytes) -> None:
        """One message goes its way."""
        self.accepted.append(message)
        self._kernel.route_datagram(self, message, receiver)

    def arrive(self, message: bytes, sender: bytes) -> None:
        if len(self.inbox) < QUEUE_MAX:
            self.inbox.append((message, sender))

    def look(self) -> bool:
        """Whether it was closed since the last look."""
        if self.closed and not self._is_seen_closed:
            self._is_seen_closed = True
            return True
        return False

    def close(self) -> None:
        self.closed = True
        super().close()
