"""The reading half of a stream transport.

Reading is one RECV command that goes on answering until it is cancelled. Pausing is lazy:
while paused, what still arrives is kept in `_backlog`, and the first such piece cancels the
RECV. Most pauses end before anything arrives, and so cost nothing.

Large pieces are received otherwise, in *bulk*: the engine only tells how many bytes there are
(UL_READABLE), and recv(2) brings them while the event is dispatched. So one connection after
the other is received, answered and forgotten, within the cache: an engine that fills its
buffers for all of them first has the first out of the cache before Python copies it. And as
the size is known, the bytes go to where they stay, without a copy. For small pieces the
system call would cost more than the copy.

Compiled by Cython together with receiving.pxd.
"""

from __future__ import annotations

import socket
from typing import Any

from uringloop import stream_state
from uringloop.context_calls import call_method
from uringloop.driver import binding
from uringloop.errors import CANCELED, exception_of
from uringloop.transports import flow_control
from uringloop.transports.stream_base import StreamBase

_RECV = binding.UL_OP_RECV
_READABLE = binding.UL_READABLE
_CANCELED = CANCELED

_DRAINING = stream_state.DRAINING

# So many pieces in a row that are large begin the receiving in bulk; small ones end it.
_PIECES_IN_A_ROW = 3
_LARGE_BYTES = 32 * 1024
_SMALL_BYTES = 8 * 1024

# What one connection may receive of a turn in bulk, before others have their share.
_SHARE_BYTES = 256 * 1024

# Whoever shares the open file may have made it blocking.
_AT_ONCE = socket.MSG_DONTWAIT


class ReceivingStream(StreamBase):
    """A stream that gives its protocol what arrives."""

    def start(self, waiter: Any, kept: Any = None) -> None:
        """Connects the protocol, soon; `waiter` is a Future told of it, or None.

        kept   what was received before: pieces of bytes, perhaps an exception; to be delivered
        """
        if kept:
            self._backlog = kept
        self._core.call_soon(self._start, waiter, context=self._context)

    def _start(self, waiter: Any) -> None:
        """The first callback: connection_made(), then reading, then the waiter."""
        try:
            self._protocol.connection_made(self)
        finally:
            if self._backlog is not None:
                self._deliver_backlog()
            elif self._read_wanted:
                self._start_receiving()
            if waiter is not None and not waiter.cancelled():
                waiter.set_result(None)

    def pause_reading(self) -> None:
        self._read_wanted = False

    def resume_reading(self) -> None:
        if self._read_wanted or self._state >= _DRAINING or self._relay is not None:
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
        flags = self._io_flags
        if self._is_bulk:
            flags |= _READABLE
        self._rings.stage(_RECV, self._sock_fd, self._recv_token, 0, 0, 0, flags)

    def _recv_completed(self, rings: Any, result: int) -> None:
        if self._state >= _DRAINING:
            return  # closing: as in asyncio, what still arrives is dropped
        if not self._read_wanted or self._backlog is not None:
            self._recv_paused(rings, result)
        elif result > 0:
            self._deliver(rings, result)
        elif result == 0:
            self._context.run(self._end_of_file)
        elif result == _CANCELED:
            self._start_receiving()  # cancelled by a pause that is over, or to change the way
        else:
            error = exception_of("recv", result)
            self._fatal_error(error, f"Fatal read error on {self._kind} transport")

    def _recv_paused(self, rings: Any, result: int) -> None:
        """Keeps what came while paused, be it the end: the protocol is told when it reads."""
        if result > 0:
            if rings.address:  # else it is still with the kernel
                self._keep(rings.copy_bytes())
            self._stop_receiving()
        elif result == 0:
            self._keep(b"")
        elif result != _CANCELED:
            self._keep(exception_of("recv", result))

    def _keep(self, item: Any) -> None:
        """Keeps data, an exception, or b'' for the end of file."""
        if self._backlog is None:
            self._backlog = []
        self._backlog.append(item)

    def _deliver_backlog(self) -> None:
        """Gives the protocol what was kept, in order, for as long as it wants to read."""
        while self._backlog and self._read_wanted and self._state < _DRAINING:
            item = self._backlog.pop(0)
            if isinstance(item, BaseException):
                self._fatal_error(item, f"Fatal read error on {self._kind} transport")
            elif item:
                self._deliver_bytes(item)
            else:
                self._end_of_file()
        if not self._backlog:
            self._backlog = None
            if self._read_wanted:
                self._start_receiving()

    def _deliver(self, rings: Any, size: int) -> None:
        """Calls the protocol with the current event's data."""
        if rings.address == 0 or size >= _LARGE_BYTES or self._pieces_against:
            self._weigh(size)
        try:
            if rings.address == 0:
                self._receive_share(size if size < _SHARE_BYTES else _SHARE_BYTES)
            elif self._buffered:
                self._context.run(self._fill_buffers, rings, size)
            else:
                data = rings.copy_bytes()
                call_method(self._context, self._protocol, "data_received", data)
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

    def _weigh(self, size: int) -> None:
        """Counts the pieces in a row that speak against the present way of receiving, and
        changes it: the RECV is cancelled, and started in the other way by its final event."""
        if size >= _SMALL_BYTES if self._is_bulk else size < _LARGE_BYTES:
            self._pieces_against = 0
            return
        self._pieces_against += 1
        if self._pieces_against == _PIECES_IN_A_ROW:
            self._pieces_against = 0
            self._is_bulk = not self._is_bulk
            self._stop_receiving()

    def _receive_share(self, size: int) -> None:
        """Calls the protocol with `size` bytes that the kernel has, or fewer."""
        if self._buffered:
            self._context.run(self._receive_into_buffers, size)
            return
        data = self._receive(None, size)
        if data:
            call_method(self._context, self._protocol, "data_received", data)

    def _receive_into_buffers(self, size: int) -> None:
        """Has the kernel fill the buffers of a BufferedProtocol, with `size` bytes in all."""
        while size > 0 and self._buffered and self._read_wanted and self._state < _DRAINING:
            target = flow_control.buffer_of(self._protocol, size)
            with memoryview(target) as view:
                limit = view.nbytes
            received = self._receive(target, limit if limit < size else size)
            if not received:
                return
            size -= received
            self._protocol.buffer_updated(received)

    def _receive(self, target: Any, size: int) -> Any:
        """One recv(2) of at most `size` bytes.

        target    a buffer, and the answer is how many bytes went there; None, and it is the bytes
        returns   nothing (0, b"", None) when nothing came. An end of file is told by the engine
                  as well, an error is met here
        """
        try:
            if target is None:
                data = self._sock.recv(size, _AT_ONCE)
                self._core._bytes_received_directly += len(data)
                return data
            received = self._sock.recv_into(target, size, _AT_ONCE)
            self._core._bytes_received_directly += received
            return received
        except (BlockingIOError, InterruptedError):
            return None
        except OSError as error:
            self._fatal_error(error, f"Fatal read error on {self._kind} transport")
            return None

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
