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
import sys
from typing import Any

from uringloop import stream_state
from uringloop.driver import binding
from uringloop.stream_state import STATE_NAMES, next_state
from uringloop.transports.socket_info import SocketInfo, socket_info
from uringloop.transports.transport_base import TransportBase
from uringloop.write_queue import WriteQueue

_CANCEL = binding.UL_OP_CANCEL

_DRAINING = stream_state.DRAINING
_CLOSING = stream_state.CLOSING
_LOST = stream_state.LOST
_CLOSE_ASKED = stream_state.CLOSE_ASKED
_QUEUE_EMPTY = stream_state.QUEUE_EMPTY
_FAILED = stream_state.FAILED
_LOSS_TOLD = stream_state.LOSS_TOLD
_ANSWERED = stream_state.ANSWERED


# More than any send.
NO_ZERO_COPY = sys.maxsize
_NO_ZERO_COPY = NO_ZERO_COPY

_SERVER_TAKES_TRANSPORT = sys.version_info >= (3, 13)


def _attach(server: Any, transport: Any) -> None:
    """Counts the transport as the server's connection, as the running asyncio wants it."""
    if _SERVER_TAKES_TRANSPORT:
        server._attach(transport)
    else:
        server._attach()


def _detach(server: Any, transport: Any) -> None:
    """The end of _attach()."""
    if _SERVER_TAKES_TRANSPORT:
        server._detach(transport)
    else:
        server._detach()


class TransportFace(asyncio.transports._FlowControlMixin, asyncio.Transport):
    """What a stream transport says it is. asyncio's sendfile wants the mixin."""


class StreamBase(TransportBase):
    """asyncio.Transport over a connected stream socket.

    core       the loop's core, which stages commands and runs callbacks
    sock       non-blocking and connected; the transport closes it
    protocol   an asyncio.Protocol or BufferedProtocol
    context    the contextvars.Context that the protocol is called in
    extra      what get_extra_info() knows: a dict, to which the socket's names are added, or
               its SocketInfo
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
        extra: Any = None,
        server: Any = None,
    ) -> None:
        self._own(core, sock, context)
        self._server = server
        self._lost_writes = 1
        self._eof_asked = False  # remembered beyond close(): write() answers it for ever
        self._read_ended = False

        self._send_token = 0
        self._sending: Any = None
        self._sending_bytes = 0
        self._sending_file: Any = None
        self._zero_copy_bytes = _NO_ZERO_COPY
        self._relay: Any = None
        self._peer_watch: Any = None
        self._queue = WriteQueue()
        self._will_flush = False
        self._is_bulk = False
        self._pieces_against = 0
        self._drained_waiter: Any = None
        self._is_sending_lent = False  # to a file or to a relay: nothing can be written
        self._told_to_pause: Any = None

        self._buffered = False
        self.set_protocol(protocol)
        if server is not None:
            _attach(server, self)
        self._kind = "socket"
        self._io_flags = 0  # of RECV and SEND
        self._introduce(extra)

    def _introduce(self, extra: Any) -> None:
        """What a socket's transport is to the loop and to get_extra_info()."""
        self._extra = extra if type(extra) is SocketInfo else socket_info(self._sock, extra)
        core = self._core
        core._transports[self._sock_fd] = self
        core._streams_open += 1
        if self._server is None:
            core._streams_made += 1
        else:
            core._streams_accepted += 1

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

    # -- asyncio.BaseTransport ------------------------------------------------------

    def set_protocol(self, protocol: Any) -> None:
        self._protocol = protocol
        self._buffered = isinstance(protocol, asyncio.BufferedProtocol)

    def close(self) -> None:
        if self._state >= _DRAINING:
            return
        if self._relay is not None:
            self.abort()  # what the relay holds cannot be sent without it
            return
        self._state = next_state(self._state, _CLOSE_ASKED)
        self._stop_receiving()
        if self._sending_file is not None:
            self._sending_file.stop()
        if self._queue.queued_bytes == 0 and self._send_token == 0:
            self._state = next_state(self._state, _QUEUE_EMPTY)
            self._lose_connection()

    def get_write_buffer_size(self) -> int:
        return self._queue.queued_bytes + self._sending_bytes

    # -- the end ------------------------------------------------------------------------

    def _force_close(self, error: BaseException | None) -> None:
        if self._state >= _CLOSING:
            return
        self._state = next_state(self._state, _FAILED)
        self._loss = error
        self._queue.clear()
        self._sending_bytes = 0
        self._stop_receiving()
        if self._send_token:
            self._rings.stage(_CANCEL, -1, 0, 0, 0, self._send_token, 0)
        self._lose_connection()
        relay = self._relay
        if relay is not None:
            self._relay = None
            relay.transport_lost(self, error)

    def _lose_connection(self) -> None:
        if self._peer_watch is not None:
            self._peer_watch.stop()
        TransportBase._lose_connection(self)

    def _connection_lost(self) -> None:
        waiter = self._drained_waiter
        if waiter is not None and not waiter.done():
            waiter.set_exception(ConnectionError("Connection is closed by peer"))
        try:
            self._protocol.connection_lost(self._loss)
        finally:
            self._state = next_state(self._state, _LOSS_TOLD)
            self._loss = None  # its traceback may lead back to this transport
            self._release()
            self._close_when_answered()

    def _close_when_answered(self) -> None:
        """Closes the socket once nothing of it is with the kernel."""
        if self._recv_token or self._send_token or self._peer_watch is not None:
            return
        self._state = next_state(self._state, _ANSWERED)
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
            self._core._streams_open -= 1
        self._protocol = None
        self._relay = None
        self._told_to_pause = None
        self._backlog = None
        server = self._server
        if server is not None:
            self._server = None
            _detach(server, self)
