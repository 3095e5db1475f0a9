"""What the halves of a stream transport share: its fields, its protocol, its end.

Not a transport by itself: receiving.ReceivingStream adds reading, stream.StreamTransport writing.

Ownership: bytes handed to SEND are kept in `_sending` until its final event. The socket is
closed when nothing of the transport is with the kernel any more: closing a descriptor would
not stop what is in flight, and the peer would see no end of file. So close() cancels; the
protocol is told when asyncio would tell it, and the socket is closed after the last answer.

Compiled by Cython together with stream_base.pxd.
"""

from __future__ import annotations

import asyncio
import socket
import warnings
from asyncio.log import logger
from typing import Any

from uringloop import stream_state
from uringloop.driver import binding
from uringloop.driver.in_flight import Operation
from uringloop.stream_state import STATE_NAMES, next_state
from uringloop.transports import flow_control
from uringloop.transports.socket_info import socket_info
from uringloop.write_queue import WriteQueue

_CANCEL = binding.UL_OP_CANCEL

_OPEN = stream_state.OPEN
_DRAINING = stream_state.DRAINING
_CLOSING = stream_state.CLOSING
_LOST = stream_state.LOST


class TransportFace(asyncio.transports._FlowControlMixin, asyncio.Transport):
    """What a stream transport says it is. asyncio's sendfile wants the mixin."""


class StreamBase(Operation):
    """asyncio.Transport over a connected stream socket.

    core       the loop's core, which stages commands and runs callbacks
    sock       non-blocking and connected; the transport closes it
    protocol   an asyncio.Protocol or BufferedProtocol
    context    the contextvars.Context that the protocol is called in
    extra      what get_extra_info() knows; sockets' names are added
    server     the Server that accepted the connection, told when it ends; may be None
    """

    # An extension type cannot derive from asyncio.Transport; isinstance() is true by this.
    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return TransportFace

    def __init__(
        self,
        core: Any,
        sock: socket.socket,
        protocol: Any,
        context: Any,
        extra: dict[str, Any] | None = None,
        server: Any = None,
    ) -> None:
        self._core = core
        self._rings = core._rings
        self._sock: Any = sock
        self._sock_fd = sock.fileno()
        self._context = context
        self._server = server
        self._state = _OPEN
        self._loss: Any = None
        self._lost_writes = 1
        self._eof_asked = False  # remembered beyond close(): write() answers it for ever

        self._recv_token = 0
        self._recv_cancelled = False
        self._read_wanted = True
        self._read_ended = False
        self._backlog: Any = None

        self._send_token = 0
        self._sending: Any = None
        self._sending_bytes = 0
        self._sending_file: Any = None
        self._queue = WriteQueue()
        self._will_flush = False
        self._drained_waiter: Any = None
        self._protocol_paused = False
        self._told_to_pause: Any = None
        self._high_bytes = flow_control.HIGH_BYTES
        self._low_bytes = flow_control.LOW_BYTES

        self._protocol: Any = None
        self._buffered = False
        self.set_protocol(protocol)
        if server is not None:
            core._attach_to_server(server, self)
        self._kind = "socket"
        self._io_flags = 0  # of RECV and SEND
        self._introduce(extra)

    def _introduce(self, extra: dict[str, Any] | None) -> None:
        """What a socket's transport is to the loop and to get_extra_info()."""
        self._extra = socket_info(self._sock, extra)
        self._core._transports[self._sock_fd] = self

    def __repr__(self) -> str:
        info = [type(self).__name__]
        if self._sock is None:
            info.append("closed")
        else:
            info.append(f"fd={self._sock_fd}")
            info.append(STATE_NAMES[self._state])
        reads = self.is_reading() and not self._read_ended
        info.append(f"read={'reading' if reads else 'idle'}")
        info.append(f"write=<bufsize={self.get_write_buffer_size()}>")
        return f"<{' '.join(info)}>"

    def __del__(self) -> None:
        if self._sock is not None:
            warnings.warn(
                f"unclosed transport {self!r}", ResourceWarning, stacklevel=2, source=self
            )
            self._sock.close()

    # -- asyncio.BaseTransport ------------------------------------------------------

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._extra.get(name, default)

    def set_protocol(self, protocol: Any) -> None:
        self._protocol = protocol
        self._buffered = isinstance(protocol, asyncio.BufferedProtocol)

    def get_protocol(self) -> Any:
        return self._protocol

    def is_closing(self) -> bool:
        return self._state >= _DRAINING

    def close(self) -> None:
        if self._state >= _DRAINING:
            return
        self._state = next_state(self._state, stream_state.CLOSE_ASKED)
        self._stop_receiving()
        if self._sending_file is not None:
            self._sending_file.stop()
        if self._queue.queued_bytes == 0 and self._send_token == 0:
            self._state = next_state(self._state, stream_state.QUEUE_EMPTY)
            self._lose_connection()

    def abort(self) -> None:
        self._force_close(None)

    def _stop_receiving(self) -> None:
        if self._recv_token and not self._recv_cancelled:
            self._recv_cancelled = True
            self._rings.stage(_CANCEL, -1, 0, 0, 0, self._recv_token, 0)

    def is_reading(self) -> bool:
        return self._state < _DRAINING and self._read_wanted

    def get_write_buffer_size(self) -> int:
        return self._queue.queued_bytes + self._sending_bytes

    # -- the end ------------------------------------------------------------------------

    def _fatal_error(self, error: BaseException, message: str) -> None:
        if not isinstance(error, OSError):
            self._core.call_exception_handler(
                {
                    "message": message,
                    "exception": error,
                    "transport": self,
                    "protocol": self._protocol,
                }
            )
        elif self._core.get_debug():
            logger.debug("%r: %s", self, message, exc_info=error)
        self._force_close(error)

    def _force_close(self, error: BaseException | None) -> None:
        if self._state >= _CLOSING:
            return
        self._state = next_state(self._state, stream_state.FAILED)
        self._loss = error
        self._queue.clear()
        self._sending_bytes = 0
        self._stop_receiving()
        if self._send_token:
            self._rings.stage(_CANCEL, -1, 0, 0, 0, self._send_token, 0)
        self._lose_connection()

    def _lose_connection(self) -> None:
        """Has the protocol told soon, as asyncio does, whatever the kernel still holds."""
        self._core.call_soon(self._connection_lost, context=self._context)

    def _connection_lost(self) -> None:
        waiter = self._drained_waiter
        if waiter is not None and not waiter.done():
            waiter.set_exception(ConnectionError("Connection is closed by peer"))
        try:
            self._protocol.connection_lost(self._loss)
        finally:
            self._state = next_state(self._state, stream_state.LOSS_TOLD)
            self._loss = None  # its traceback may lead back to this transport
            self._release()
            self._close_when_answered()

    def _close_when_answered(self) -> None:
        """Closes the socket once nothing of it is with the kernel."""
        if self._recv_token or self._send_token:
            return
        self._state = next_state(self._state, stream_state.ANSWERED)
        self._close_file()
        self._sock = None

    def _close_file(self) -> None:
        self._sock.close()

    def abandoned(self) -> None:
        self._recv_token = 0
        self._send_token = 0
        self._sending = None
        if self._state == _LOST:
            self._close_when_answered()

    def _release(self) -> None:
        """Lets go of everything but the socket."""
        if self._core._transports.get(self._sock_fd) is self:
            del self._core._transports[self._sock_fd]
        self._protocol = None
        self._told_to_pause = None
        self._backlog = None
        server = self._server
        if server is not None:
            self._server = None
            self._core._detach_from_server(server, self)
