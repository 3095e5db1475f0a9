"""Stream transport: a connected socket's bytes, to and from a protocol.

Reading is one RECV command that goes on answering until it is cancelled; writing collects
what is written in a turn into one SEND, and at most one SEND is with the kernel.

Ownership: bytes handed to SEND are kept in `_sending` until its final event. The socket is
closed when nothing of the transport is with the kernel any more: closing a descriptor would
not stop what is in flight, and the peer would see no end of file. So close() cancels, and
connection_lost() follows the last answer.

Pausing is lazy: while paused, what still arrives is kept in `_backlog`, and the first such
piece cancels the RECV. Most pauses end before anything arrives, and so cost nothing.

Compiled by Cython together with stream.pxd; flow control is in flow_control.py.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import warnings
from asyncio.log import logger
from asyncio.trsock import TransportSocket
from typing import Any

from uringloop import stream_state
from uringloop.driver import binding
from uringloop.driver.in_flight import Operation
from uringloop.errors import CANCELED, exception_of
from uringloop.stream_state import STATE_NAMES, next_state
from uringloop.transports import flow_control
from uringloop.write_queue import WriteQueue, exact_bytes

_RECV = binding.UL_OP_RECV
_SEND = binding.UL_OP_SEND
_CANCEL = binding.UL_OP_CANCEL
_VECTORED = binding.UL_VECTORED
_LAZY = binding.UL_LAZY
_CANCELED = CANCELED

_OPEN = stream_state.OPEN
_FINISHING = stream_state.FINISHING
_HALF_CLOSED = stream_state.HALF_CLOSED
_DRAINING = stream_state.DRAINING
_CLOSING = stream_state.CLOSING
_CLOSED = stream_state.CLOSED

# A write that would cross the high-water mark is offered to the kernel at once, up to this
# size: the protocol is only asked to pause when the socket really is full, as in asyncio.
_DIRECT_BYTES_MAX = 1024 * 1024

# asyncio's number of writes after a lost connection that pass without a word.
_SILENT_WRITES = 5


class _Transport(asyncio.transports._FlowControlMixin, asyncio.Transport):
    """What a StreamTransport says it is. asyncio's sendfile wants the mixin."""


class StreamTransport(Operation):
    """asyncio.Transport over a connected stream socket.

    core       the loop's core, which stages commands and runs callbacks
    sock       non-blocking and connected; the transport closes it
    protocol   an asyncio.Protocol or BufferedProtocol
    context    the contextvars.Context that the protocol is called in
    waiter     a Future told when connection_made() has run; may be None
    extra      what get_extra_info() knows; sockets' names are added
    server     the Server that accepted the connection, told when it ends; may be None
    """

    # Public to asyncio: loop.start_tls and loop.sendfile look at these.
    _start_tls_compatible = True
    _sendfile_compatible = asyncio.constants._SendfileMode.TRY_NATIVE

    # An extension type cannot derive from asyncio.Transport; isinstance() is true by this.
    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return _Transport

    def __init__(
        self,
        core: Any,
        sock: socket.socket,
        protocol: Any,
        context: Any,
        waiter: Any = None,
        extra: dict[str, Any] | None = None,
        server: Any = None,
    ) -> None:
        self._core = core
        self._rings = core._rings
        self._sock: Any = sock
        self._sock_fd = sock.fileno()
        self._context = context
        self._extra = _socket_info(sock, extra)
        self._server = server
        self._state = _OPEN
        self._loss: Any = None
        self._lost_writes = 1

        self._recv_token = 0
        self._recv_cancelled = False
        self._read_wanted = True
        self._read_ended = False
        self._backlog: Any = None

        self._send_token = 0
        self._sending: Any = None
        self._sending_bytes = 0
        self._queue = WriteQueue()
        self._will_flush = False
        self._drained_waiter: Any = None
        self._protocol_paused = False
        self._high_bytes = flow_control.HIGH_BYTES
        self._low_bytes = flow_control.LOW_BYTES

        self._protocol: Any = None
        self._buffered = False
        self.set_protocol(protocol)
        if server is not None:
            core._attach_to_server(server, self)
        core._transports[self._sock_fd] = self
        core.call_soon(self._start, waiter, context=context)

    def _start(self, waiter: Any) -> None:
        """The first callback: connection_made(), then reading, then the waiter."""
        try:
            self._protocol.connection_made(self)
        finally:
            if self._read_wanted:
                self._start_receiving()
            if waiter is not None and not waiter.cancelled():
                waiter.set_result(None)

    def __repr__(self) -> str:
        info = [type(self).__name__]
        if self._sock is None:
            info.append("closed")
        else:
            info.append(f"fd={self._sock_fd}")
            info.append(STATE_NAMES[self._state])
        info.append(f"read={'reading' if self.is_reading() else 'idle'}")
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
        if self._queue.queued_bytes == 0 and self._send_token == 0:
            self._state = next_state(self._state, stream_state.QUEUE_EMPTY)
            self._close_when_answered()

    def abort(self) -> None:
        self._force_close(None)

    # -- reading ----------------------------------------------------------------------

    def is_reading(self) -> bool:
        return self._state < _DRAINING and self._read_wanted and not self._read_ended

    def pause_reading(self) -> None:
        self._read_wanted = False

    def resume_reading(self) -> None:
        if self._read_wanted or self._state >= _DRAINING:
            return
        self._read_wanted = True
        if self._backlog is not None:
            self._core.call_soon(self._deliver_backlog, context=self._context)
        else:
            self._start_receiving()

    def unread(self, data: bytes) -> None:
        """Puts `data` before everything that is still to be delivered; reading must be paused.

        For bytes that an old protocol had taken and a new one must see: start_tls.
        """
        assert not self._read_wanted, "unread() needs a paused transport"
        if self._backlog is None:
            self._backlog = []
        self._backlog.insert(0, data)

    def _start_receiving(self) -> None:
        """Has a RECV with the kernel, unless there is one or nothing more can come."""
        if self._recv_token or self._read_ended or self._state >= _DRAINING:
            return
        self._recv_token = self._core._in_flight.add(self)
        self._recv_cancelled = False
        self._rings.stage(_RECV, self._sock_fd, self._recv_token, 0, 0, 0, 0)

    def _stop_receiving(self) -> None:
        if self._recv_token and not self._recv_cancelled:
            self._recv_cancelled = True
            self._rings.stage(_CANCEL, -1, 0, 0, 0, self._recv_token, 0)

    def completed(self, rings: Any, opcode: int, result: int, more: bool) -> None:
        if opcode == _SEND:
            self._send_token = 0
            self._send_completed(result)
            return
        if not more:
            self._recv_token = 0
        self._recv_completed(rings, result)
        if self._state == _CLOSING:
            self._close_when_answered()

    def _recv_completed(self, rings: Any, result: int) -> None:
        if self._state >= _DRAINING:
            return  # closing: as in asyncio, what still arrives is dropped
        if result > 0:
            if self._read_wanted and self._backlog is None:
                self._deliver(rings, result)
            else:
                self._keep(rings.copy_bytes())
                self._stop_receiving()
        elif result == _CANCELED:
            # Cancelled by a pause. The wish may have changed since.
            if self._read_wanted and self._backlog is None:
                self._start_receiving()
        elif result == 0:
            if self._read_wanted and self._backlog is None:
                self._context.run(self._end_of_file)
            else:
                self._keep(b"")
        else:
            error = exception_of("recv", result)
            self._fatal_error(error, "Fatal read error on socket transport")

    def _keep(self, data: bytes) -> None:
        """Keeps what came while paused; b'' is the end of file."""
        if self._backlog is None:
            self._backlog = []
        self._backlog.append(data)

    def _deliver_backlog(self) -> None:
        """Gives the protocol what was kept, in order, for as long as it wants to read."""
        while self._backlog and self._read_wanted and self._state < _DRAINING:
            data = self._backlog.pop(0)
            if data:
                self._deliver_bytes(data)
            else:
                self._end_of_file()
        if not self._backlog:
            self._backlog = None
            if self._read_wanted:
                self._start_receiving()

    def _deliver(self, rings: Any, size: int) -> None:
        """Calls the protocol with the current event's data."""
        try:
            if self._buffered:
                self._context.run(self._fill_buffers, rings, size)
            else:
                self._context.run(self._protocol.data_received, rings.copy_bytes())
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._protocol_failed(error)

    def _fill_buffers(self, rings: Any, size: int) -> None:
        """Copies the current event's data into the buffers of a BufferedProtocol."""
        done = 0
        while done < size and self._state < _DRAINING:
            if not self._read_wanted or not self._buffered:
                # Paused, or another kind of protocol: the rest goes the slow way.
                self._keep(rings.copy_rest(done))
                if self._read_wanted:
                    self._core.call_soon(self._deliver_backlog, context=self._context)
                return
            target = flow_control.buffer_of(self._protocol, size - done)
            copied = rings.copy_into(target, done)
            done += copied
            self._protocol.buffer_updated(copied)

    def _deliver_bytes(self, data: bytes) -> None:
        """Calls the protocol with kept data."""
        try:
            if not self._buffered:
                self._protocol.data_received(data)
                return
            target = memoryview(flow_control.buffer_of(self._protocol, len(data))).cast("B")
            size = min(len(target), len(data))
            target[:size] = data[:size]
            if size < len(data):
                self._backlog.insert(0, data[size:])
            self._protocol.buffer_updated(size)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._protocol_failed(error)

    def _protocol_failed(self, error: BaseException) -> None:
        method = "buffer_updated()" if self._buffered else "data_received()"
        if isinstance(error, flow_control.NoBufferError):
            method = "get_buffer()"
            error = error.cause
        self._fatal_error(error, f"Fatal error: protocol.{method} call failed.")

    def _end_of_file(self) -> None:
        self._read_ended = True
        try:
            keep_open = self._protocol.eof_received()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._fatal_error(error, "Fatal error: protocol.eof_received() call failed.")
            return
        if not keep_open:
            self.close()

    # -- writing ----------------------------------------------------------------------

    def can_write_eof(self) -> bool:
        return True

    def get_write_buffer_size(self) -> int:
        return self._queue.queued_bytes + self._sending_bytes

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return (self._low_bytes, self._high_bytes)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high_bytes, self._low_bytes = flow_control.write_limits(high, low)
        self._pause_protocol_if_full()

    def write(self, data: Any) -> None:
        if type(data) is not bytes:
            data = exact_bytes(data)
        if (self._state != _OPEN or self._drained_waiter is not None) and not self._may_write():
            return
        size = len(data)
        if size == 0:
            return
        self._queue.append(data)
        if not self._will_flush:
            self._will_flush = True
            self._core._flush_later(self)
        if self._queue.queued_bytes + self._sending_bytes > self._high_bytes:
            self._send_directly()
            self._pause_protocol_if_full()

    def writelines(self, list_of_data: Any) -> None:
        pieces = [exact_bytes(data) for data in list_of_data]
        if (self._state != _OPEN or self._drained_waiter is not None) and not self._may_write():
            return
        for piece in pieces:
            if piece:
                self._queue.append(piece)
        if self._queue.queued_bytes and not self._will_flush:
            self._will_flush = True
            self._core._flush_later(self)
        self._pause_protocol_if_full()

    def _may_write(self) -> bool:
        """Looks closer when writing is not simply open: raises, warns, or lets it be."""
        if self._drained_waiter is not None:
            raise RuntimeError("unable to write; sendfile is in progress")
        if self._state in (_FINISHING, _HALF_CLOSED):
            raise RuntimeError("Cannot call write() after write_eof()")
        if self._state == _DRAINING:
            return True
        if self._lost_writes >= _SILENT_WRITES:
            logger.warning("socket.send() raised exception.")
        self._lost_writes += 1
        return False

    def write_eof(self) -> None:
        if self._state != _OPEN:
            return
        self._state = next_state(self._state, stream_state.EOF_ASKED)
        if self._queue.queued_bytes == 0 and self._send_token == 0:
            self._queue_emptied()

    def _send_directly(self) -> None:
        """Offers the queue's only piece to the socket now, before the protocol must pause."""
        queue = self._queue
        if self._send_token or not queue.is_single(_DIRECT_BYTES_MAX):
            return
        data = queue.take()
        try:
            sent = self._sock.send(data)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError as error:
            self._fatal_error(error, "Fatal write error on socket transport")
            return
        if sent < len(data):
            queue.append(data[sent:] if sent else data)

    def flush(self) -> None:
        """Stages one SEND for all that is queued; the core calls it before the engine turn."""
        self._will_flush = False
        if self._send_token or self._queue.queued_bytes == 0:
            return
        data = self._queue.take()
        flags = 0
        if self._nobody_waits():
            flags = _LAZY
        self._send_token = self._core._in_flight.add(self)
        if type(data) is bytes:
            self._sending = data
            self._sending_bytes = len(data)
            address = self._rings.address_of(data)
            length = self._sending_bytes
        else:
            address, length = self._start_vector(data)
            flags |= _VECTORED
        self._rings.stage(_SEND, self._sock_fd, self._send_token, address, length, 0, flags)

    def _nobody_waits(self) -> bool:
        """Whether nothing is to follow the send's answer: no more bytes, no one held up."""
        return (
            self._state == _OPEN
            and not self._protocol_paused
            and self._queue.queued_bytes == 0
            and self._drained_waiter is None
        )

    def _start_vector(self, pieces: list[bytes]) -> tuple[int, int]:
        """Keeps `pieces` and an array of struct iovec for them; its address and count."""
        rings = self._rings
        entries = []
        size = 0
        for piece in pieces:
            entries.append(struct.pack("QQ", rings.address_of(piece), len(piece)))
            size += len(piece)
        vector = b"".join(entries)
        self._sending = (pieces, vector)
        self._sending_bytes = size
        return rings.address_of(vector), len(pieces)

    def _send_completed(self, result: int) -> None:
        self._sending = None
        self._sending_bytes = 0
        if self._state == _CLOSING:
            self._close_when_answered()
            return
        if result < 0:
            error = exception_of("send", result)
            self._fatal_error(error, "Fatal write error on socket transport")
            return
        if self._protocol_paused and self._queue.queued_bytes <= self._low_bytes:
            self._context.run(self._resume_protocol)
        if self._queue.queued_bytes:
            if not self._will_flush:
                self._will_flush = True
                self._core._flush_later(self)
        elif self._state != _OPEN or self._drained_waiter is not None:
            self._queue_emptied()

    def _queue_emptied(self) -> None:
        """All is with the kernel: what had to wait for that."""
        if self._drained_waiter is not None and not self._drained_waiter.done():
            self._drained_waiter.set_result(None)
        if self._state == _FINISHING:
            self._state = next_state(self._state, stream_state.QUEUE_EMPTY)
            self._sock.shutdown(socket.SHUT_WR)
        elif self._state == _DRAINING:
            self._state = next_state(self._state, stream_state.QUEUE_EMPTY)
            self._close_when_answered()

    # -- flow control ---------------------------------------------------------------

    def _pause_protocol_if_full(self) -> None:
        if self._protocol_paused or self.get_write_buffer_size() <= self._high_bytes:
            return
        self._protocol_paused = True
        flow_control.tell_protocol(self._core, self, self._protocol, "pause_writing")

    def _resume_protocol(self) -> None:
        self._protocol_paused = False
        flow_control.tell_protocol(self._core, self, self._protocol, "resume_writing")

    def _make_empty_waiter(self) -> Any:
        """A Future for the moment when all is with the kernel; no write until it is reset."""
        if self._drained_waiter is not None:
            raise RuntimeError("Empty waiter is already set")
        waiter = self._core.create_future()
        self._drained_waiter = waiter
        if self.get_write_buffer_size() == 0:
            waiter.set_result(None)
        return waiter

    def _reset_empty_waiter(self) -> None:
        self._drained_waiter = None

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
        self._stop_receiving()
        if self._send_token:
            self._rings.stage(_CANCEL, -1, 0, 0, 0, self._send_token, 0)
        self._close_when_answered()

    def _close_when_answered(self) -> None:
        """Ends the transport once nothing of it is with the kernel."""
        if self._recv_token or self._send_token:
            return
        self._state = next_state(self._state, stream_state.ANSWERED)
        self._core.call_soon(self._connection_lost, context=self._context)

    def _connection_lost(self) -> None:
        waiter = self._drained_waiter
        if waiter is not None and not waiter.done():
            waiter.set_exception(ConnectionError("Connection is closed by peer"))
        try:
            self._protocol.connection_lost(self._loss)
        finally:
            self._release()

    def abandoned(self) -> None:
        self._recv_token = 0
        self._send_token = 0
        self._sending = None

    def _release(self) -> None:
        """Closes the socket and lets go of everything."""
        if self._core._transports.get(self._sock_fd) is self:
            del self._core._transports[self._sock_fd]
        self._sock.close()
        self._sock = None
        self._protocol = None
        self._backlog = None
        server = self._server
        if server is not None:
            self._server = None
            self._core._detach_from_server(server, self)


def _socket_info(sock: socket.socket, extra: dict[str, Any] | None) -> dict[str, Any]:
    """What get_extra_info() knows of a socket. Names are asked for now: later the peer
    may be gone."""
    info: dict[str, Any] = {"socket": TransportSocket(sock)}
    try:
        info["sockname"] = sock.getsockname()
    except OSError:
        info["sockname"] = None
    if extra is None or "peername" not in extra:
        try:
            info["peername"] = sock.getpeername()
        except OSError:
            info["peername"] = None
    if extra:
        info.update(extra)
    return info
