"""The reading half of a datagram transport, with what both halves share: fields, protocol, end.

Not a transport by itself: datagram.DatagramTransport adds sending.

Reading is one RECVMSG command that goes on answering; after an error, of which the protocol
is told, it is given again. Pausing is lazy, as a stream's: see receiving.py.

Ownership: nothing of Python's is with the kernel but the descriptor. The socket is closed after
the kernel's last answer; the protocol hears connection_lost() when asyncio would call it.

Compiled by Cython together with datagram_receiving.pxd.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from typing import Any

from uringloop import stream_state
from uringloop.addresses import unpack_sockaddr
from uringloop.driver import binding
from uringloop.errors import CANCELED, exception_of
from uringloop.stream_state import next_state
from uringloop.transports.socket_info import socket_info
from uringloop.transports.transport_base import TransportBase

_RECVMSG = binding.UL_OP_RECVMSG
_CANCEL = binding.UL_OP_CANCEL
_CANCELED = CANCELED

_DRAINING = stream_state.DRAINING
_CLOSING = stream_state.CLOSING
_LOST = stream_state.LOST

# A busy peer's address is unpacked once. Beyond so many peers all are forgotten.
_ADDRESSES_MAX = 1024


class DatagramFace(asyncio.transports._FlowControlMixin, asyncio.DatagramTransport):
    """What a datagram transport says it is: all that asyncio's own one is an instance of."""


class ReceivingDatagrams(TransportBase):
    """asyncio.DatagramTransport over a socket of one of _FAMILIES.

    core       the loop's core, which stages commands and runs callbacks
    sock       non-blocking; the transport closes it
    protocol   an asyncio.DatagramProtocol
    context    the contextvars.Context that the protocol is called in
    address    where all datagrams go; None where sendto() says it, or the socket is connected
    extra      what get_extra_info() knows; the socket's names are added
    """

    # An extension type cannot derive from asyncio.DatagramTransport; isinstance() is true by this.
    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return DatagramFace

    def __init__(
        self,
        core: Any,
        sock: socket.socket,
        protocol: Any,
        context: Any,
        address: Any = None,
        extra: dict[str, Any] | None = None,
    ) -> None:
        self._own(core, sock, context)
        self._extra = socket_info(sock, extra)
        self._address = address
        self._is_connected = bool(self._extra.get("peername"))
        self._protocol = protocol
        self._lost_sends = 1
        self._addresses: dict[bytes, Any] = {}

        self._queue: deque[tuple[bytes, Any]] = deque()
        self._queued_bytes = 0
        self._poll_token = 0
        self._look_again: Any = None
        self._look_again_s = 0.0
        core._transports[self._sock_fd] = self

    def __repr__(self) -> str:
        info = [type(self).__name__]
        if self._sock is None:
            info.append("closed")
        elif self._state >= _DRAINING:
            info.append("closing")
        info.append(f"fd={self._sock_fd}")
        info.append(f"read={'polling' if self.is_reading() else 'idle'}")
        state = "polling" if self._queue else "idle"
        info.append(f"write=<{state}, bufsize={self._queued_bytes}>")
        return f"<{' '.join(info)}>"

    # -- asyncio.BaseTransport ------------------------------------------------------

    def set_protocol(self, protocol: Any) -> None:
        self._protocol = protocol

    def close(self) -> None:
        if self._state >= _DRAINING:
            return
        self._state = next_state(self._state, stream_state.CLOSE_ASKED)
        self._stop_receiving()
        if not self._queue:
            self._queue_emptied()

    # -- reading ------------------------------------------------------------------------

    def pause_reading(self) -> None:
        self._read_wanted = False

    def resume_reading(self) -> None:
        if self._read_wanted or self._state >= _DRAINING:
            return
        self._read_wanted = True
        if self._backlog is not None:
            self._core.call_soon(self._deliver_backlog)
        else:
            self._start_receiving()

    def _start_receiving(self) -> None:
        """Has a RECVMSG with the kernel, unless there is one or nothing is wanted."""
        if self._recv_token or not self._read_wanted or self._state >= _DRAINING:
            return
        self._recv_token = self._core._in_flight.add(self)
        self._recv_cancelled = False
        self._rings.stage(_RECVMSG, self._sock_fd, self._recv_token, 0, 0, 0, 0)

    def _recv_completed(self, rings: Any, result: int) -> None:
        if self._state >= _DRAINING:
            return  # closing: as in asyncio, what still arrives is dropped
        if not self._read_wanted or self._backlog is not None:
            self._recv_paused(rings, result)
            return
        if result >= 0:
            self._deliver(rings.copy_bytes(), self._sender(rings))
        elif result != _CANCELED:
            self._report(exception_of("recvmsg", result))
        self._start_receiving()

    def _recv_paused(self, rings: Any, result: int) -> None:
        """Keeps what came while paused, be it an error: the protocol is told when it reads."""
        if self._backlog is None:
            self._backlog = []
        if result >= 0:
            self._backlog.append((rings.copy_bytes(), self._sender(rings)))
            self._stop_receiving()
        elif result != _CANCELED:
            self._backlog.append(exception_of("recvmsg", result))

    def _deliver_backlog(self) -> None:
        """Gives the protocol what was kept, in order, for as long as it wants to read."""
        while self._backlog and self._read_wanted and self._state < _DRAINING:
            item = self._backlog.pop(0)
            if isinstance(item, tuple):
                self._deliver(item[0], item[1])
            else:
                self._report(item)
        if not self._backlog:
            self._backlog = None
            self._start_receiving()

    def _sender(self, rings: Any) -> Any:
        """Who sent the current event's datagram, as socket.recvfrom() says it."""
        name = rings.copy_name()
        address = self._addresses.get(name)
        if address is None:
            address = unpack_sockaddr(name)
            if len(self._addresses) >= _ADDRESSES_MAX:
                self._addresses.clear()
            self._addresses[name] = address
        return address

    def _deliver(self, data: bytes, address: Any) -> None:
        try:
            self._context.run(self._protocol.datagram_received, data, address)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._callback_failed("datagram_received", error)

    def _report(self, error: BaseException) -> None:
        """Tells the protocol of an error that does not end the transport."""
        try:
            self._context.run(self._protocol.error_received, error)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as failure:
            self._callback_failed("error_received", failure)

    def _callback_failed(self, method: str, error: BaseException) -> None:
        name = type(self._protocol).__qualname__
        self._tell_handler(f"Exception in callback {name}.{method}()", error)

    # -- the end ------------------------------------------------------------------------

    def _force_close(self, error: BaseException | None) -> None:
        if self._state >= _CLOSING:
            return
        self._state = next_state(self._state, stream_state.FAILED)
        self._loss = error
        self._queue.clear()
        self._queued_bytes = 0
        self._stop_receiving()
        if self._poll_token:
            self._rings.stage(_CANCEL, -1, 0, 0, 0, self._poll_token, 0)
        if self._look_again is not None:
            self._look_again.cancel()
            self._look_again = None
        self._lose_connection()

    def _queue_emptied(self) -> None:
        """close() was asked, and all has been sent."""
        self._state = next_state(self._state, stream_state.QUEUE_EMPTY)
        self._lose_connection()

    def _connection_lost(self) -> None:
        try:
            self._protocol.connection_lost(self._loss)
        finally:
            self._state = next_state(self._state, stream_state.LOSS_TOLD)
            if self._core._transports.get(self._sock_fd) is self:
                del self._core._transports[self._sock_fd]
            self._protocol = None
            self._loss = None  # its traceback may lead back to this transport
            self._backlog = None
            self._close_when_answered()

    def _close_when_answered(self) -> None:
        """Closes the socket once nothing of it is with the kernel."""
        if self._recv_token or self._poll_token:
            return
        self._state = next_state(self._state, stream_state.ANSWERED)
        self._sock.close()
        self._sock = None

    def abandoned(self) -> None:
        self._recv_token = 0
        self._poll_token = 0
        if self._state == _LOST:
            self._close_when_answered()
