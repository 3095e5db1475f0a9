"""The reading half of a stream transport.

Reading is one RECV command that goes on answering until it is cancelled. Pausing is lazy:
while paused, what still arrives is kept in `_backlog`, and the first such piece cancels the
RECV. Most pauses end before anything arrives, and so cost nothing.

Compiled by Cython together with receiving.pxd.
"""

from __future__ import annotations

from typing import Any

from uringloop import stream_state
from uringloop.context_calls import call_method
from uringloop.driver import binding
from uringloop.errors import CANCELED, exception_of
from uringloop.transports import flow_control
from uringloop.transports.stream_base import StreamBase

_RECV = binding.UL_OP_RECV
_CANCELED = CANCELED

_DRAINING = stream_state.DRAINING


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
        self._rings.stage(_RECV, self._sock_fd, self._recv_token, 0, 0, 0, self._io_flags)

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
            self._start_receiving()  # cancelled by a pause that is over
        else:
            error = exception_of("recv", result)
            self._fatal_error(error, f"Fatal read error on {self._kind} transport")

    def _recv_paused(self, rings: Any, result: int) -> None:
        """Keeps what came while paused, be it the end: the protocol is told when it reads."""
        if result > 0:
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
        try:
            if self._buffered:
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
