"""Stream transport: a connected socket's bytes, to and from a protocol.

This is the writing half. What is written in a turn is collected into one SEND, and at most one
SEND is with the kernel. Reading is in receiving.py, the transport's end in stream_base.py.

Compiled by Cython together with stream.pxd.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from asyncio.log import logger
from typing import Any

from uringloop import stream_state
from uringloop.driver import binding
from uringloop.errors import exception_of
from uringloop.stream_state import next_state
from uringloop.transports import flow_control
from uringloop.transports.peer_watch import PeerWatch
from uringloop.transports.receiving import ReceivingStream
from uringloop.transports.stream_base import NO_ZERO_COPY
from uringloop.transports.uncopied_send import UncopiedSend
from uringloop.write_queue import exact_bytes

_SEND = binding.UL_OP_SEND
_VECTORED = binding.UL_VECTORED
_LAZY = binding.UL_LAZY
_ZERO_COPY = binding.UL_ZERO_COPY

_INTERNET = (socket.AF_INET, socket.AF_INET6)

_NO_ZERO_COPY = NO_ZERO_COPY

_OPEN = stream_state.OPEN
_FINISHING = stream_state.FINISHING
_DRAINING = stream_state.DRAINING
_CLOSING = stream_state.CLOSING
_LOST = stream_state.LOST
_EOF_ASKED = stream_state.EOF_ASKED
_QUEUE_EMPTY = stream_state.QUEUE_EMPTY

# A write that would cross the high-water mark is offered to the kernel at once, up to this
# size: the protocol is only asked to pause when the socket really is full, as in asyncio.
_DIRECT_BYTES_MAX = 1024 * 1024

# asyncio's number of writes after a lost connection that pass without a word.
_SILENT_WRITES = 5


class StreamTransport(ReceivingStream):
    """asyncio.Transport over a connected stream socket; see StreamBase for the arguments."""

    # What loop.start_tls and loop.sendfile ask of a transport.
    _start_tls_compatible = True
    _sendfile_compatible = asyncio.constants._SendfileMode.TRY_NATIVE

    def completed(self, rings: Any, opcode: int, result: int, more: bool) -> None:
        if opcode == _SEND:
            self._send_token = 0
            self._send_completed(result)
        else:
            if not more:
                self._recv_token = 0
            self._recv_completed(rings, result)
            if not more and self._relay is not None:
                self._relay.receive_stopped()
        if self._state == _LOST:
            self._close_when_answered()

    def can_write_eof(self) -> bool:
        return True

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high_bytes, self._low_bytes = flow_control.write_limits(high, low)
        self._pause_unless_sent()

    def write(self, data: Any) -> None:
        if type(data) is not bytes:
            data = exact_bytes(data)
        if (self._state != _OPEN or self._is_sending_lent) and not self._may_write():
            return
        size = len(data)
        if size == 0:
            return
        self._queue.append(data)
        if not self._will_flush:
            self._will_flush = True
            self._core._flush_later(self)
        if self._queue.queued_bytes + self._sending_bytes > self._high_bytes:
            self._pause_unless_sent()

    def writelines(self, list_of_data: Any) -> None:
        pieces = [exact_bytes(data) for data in list_of_data]
        if (self._state != _OPEN or self._is_sending_lent) and not self._may_write():
            return
        for piece in pieces:
            if piece:
                self._queue.append(piece)
        if self._queue.queued_bytes and not self._will_flush:
            self._will_flush = True
            self._core._flush_later(self)
        self._pause_unless_sent()

    def _may_write(self) -> bool:
        """Looks closer when writing is not simply open: raises, warns, or lets it be."""
        if self._eof_asked:
            raise RuntimeError("Cannot call write() after write_eof()")
        if self._is_sending_lent and self._relay is not None:
            raise RuntimeError("unable to write; the transport is relayed")
        if self._is_sending_lent:
            raise RuntimeError("unable to write; sendfile is in progress")
        if self._state == _DRAINING:
            return True
        if self._lost_writes >= _SILENT_WRITES:
            logger.warning("socket.send() raised exception.")
        self._lost_writes += 1
        return False

    def write_eof(self) -> None:
        if self._state != _OPEN:
            return
        self._eof_asked = True
        self._state = next_state(self._state, _EOF_ASKED)
        if self._queue.queued_bytes == 0 and self._send_token == 0:
            self._queue_emptied()

    def _pause_unless_sent(self) -> None:
        """Past the high-water mark: asks the protocol to pause, if the socket really is full."""
        if self._protocol_paused or self.get_write_buffer_size() <= self._high_bytes:
            return
        if self._state == _OPEN and self._drained_waiter is None:
            self._send_directly()
        self._pause_protocol_if_full()

    def _send_directly(self) -> None:
        """Offers what is queued to the socket now."""
        queue = self._queue
        if self._send_token or queue.queued_bytes > _DIRECT_BYTES_MAX:
            return
        if queue.queued_bytes >= self._zero_copy_bytes:
            return  # the socket's own send() would copy
        data = queue.take()
        try:
            sent = self._offer(data)
            self._core._bytes_sent_directly += sent
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError as error:
            self._fatal_error(error, f"Fatal write error on {self._kind} transport")
            return
        queue.put_back(data, sent)

    def _offer(self, data: Any) -> int:
        """Sends of `data`, bytes or a list of them, what the kernel takes at once."""
        sent: int = self._sock.send(data) if type(data) is bytes else self._sock.sendmsg(data)
        return sent

    def flush(self) -> None:
        """Stages one SEND for all that is queued; the core calls it before the engine turn."""
        self._will_flush = False
        if self._send_token or self._queue.queued_bytes == 0:
            return
        data = self._queue.take()
        flags = self._io_flags
        if self._nobody_waits():
            flags |= _LAZY
        if type(data) is bytes:
            self._sending = data
            self._sending_bytes = len(data)
            address = self._rings.address_of(data)
            length = self._sending_bytes
        else:
            address, length = self._start_vector(data)
            flags |= _VECTORED
        if self._sending_bytes >= self._zero_copy_bytes:
            flags |= _ZERO_COPY
            self._send_token = self._core._in_flight.add(UncopiedSend(self, self._sending))
        else:
            self._send_token = self._core._in_flight.add(self)
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
        if self._state >= _CLOSING:
            return
        if result < 0:
            error = exception_of("send", result)
            self._fatal_error(error, f"Fatal write error on {self._kind} transport")
            return
        if self._protocol_paused and self._queue.queued_bytes <= self._low_bytes:
            self._context.run(self._resume_protocol)
        if self._queue.queued_bytes:
            if not self._will_flush:
                self._will_flush = True
                self._core._flush_later(self)
        elif self._state != _OPEN or self._drained_waiter is not None:
            try:
                self._queue_emptied()
            except OSError as error:  # shutdown: the answer to our last bytes was a reset
                self._fatal_error(error, f"Fatal write error on {self._kind} transport")

    def _queue_emptied(self) -> None:
        """All is with the kernel: what had to wait for that."""
        if self._drained_waiter is not None and not self._drained_waiter.done():
            self._drained_waiter.set_result(None)
        if self._state == _FINISHING:
            self._state = next_state(self._state, _QUEUE_EMPTY)
            self._sock.shutdown(socket.SHUT_WR)
        elif self._state == _DRAINING:
            self._state = next_state(self._state, _QUEUE_EMPTY)
            self._lose_connection()

    # -- sending without a copy -------------------------------------------------------

    def set_zero_copy(self, threshold_bytes: int | None) -> bool:
        """Has large writes sent out of the memory of what was written, not out of a copy.

        Pays on network cards, for tens of kilobytes at a time. Over the loopback interface the
        kernel copies all the same, and this costs more than it saves. The bytes objects are kept
        until the peer has acknowledged them; bytearray and memoryview are copied by write() as
        ever.

        threshold_bytes   what is sent at once (the writes of a turn) without a copy is at least so
                          much; None, as at first: nothing is
        returns           whether it has an effect: False on the epoll engine, where each send would
                          cost a system call more to learn of its end; for Unix sockets and
                          pipes; and where the kernel is older
        raises            ValueError for less than 1
        kernel            6.1: IORING_OP_SEND_ZC and IORING_OP_SENDMSG_ZC; see io_uring_enter(2)
        """
        if threshold_bytes is not None and threshold_bytes < 1:
            raise ValueError(f"threshold_bytes must be at least 1 or None, not {threshold_bytes!r}")
        is_possible: bool = self._can_send_uncopied()
        if threshold_bytes is None or not is_possible:
            self._zero_copy_bytes = _NO_ZERO_COPY
        else:
            self._zero_copy_bytes = threshold_bytes
        return is_possible

    def _can_send_uncopied(self) -> bool:
        if self._kind != "socket" or self._sock is None or self._sock.family not in _INTERNET:
            return False
        return "zero_copy" in self._core.driver_state().features

    def uncopied_sent(self, result: int) -> None:
        """The first answer to an UncopiedSend: as that to a send of this transport's own."""
        self._send_token = 0
        self._send_completed(result)
        if self._state == _LOST:
            self._close_when_answered()

    # -- the peer's end -------------------------------------------------------------

    def notify_peer_closed(self, callback: Any) -> None:
        """Has callback() called, soon and once, when the peer has shut its sending side or is gone.

        Meant for while reading is paused, with bytes perhaps unread: eof_received() and
        connection_lost() come when these are read, as ever. One that reads may be closed by the
        end of file first. A peer that only half-closed may still read. Under TLS it is the
        transport below that knows.

        callback   takes no arguments, is called in the transport's context, and not after
                   close(); instead of one given before. None: nobody is to be called
        kernel     2.6.17: POLLRDHUP, see poll(2)
        """
        if callback is None:
            if self._peer_watch is not None:
                self._peer_watch.stop()
            return
        if self._state >= _DRAINING:
            return
        if self._peer_watch is None:
            self._peer_watch = PeerWatch(self._core, self, self._context)
        self._peer_watch.start(callback)

    def peer_watch_failed(self, error: OSError) -> None:
        """Nobody will ever say that the peer has gone."""
        self._tell_handler("cannot watch for the end of the peer", error)

    def peer_watch_ended(self) -> None:
        """The kernel has no more to do with it: what had to wait for that."""
        self._peer_watch = None
        if self._state == _LOST:
            self._close_when_answered()

    # -- flow control ---------------------------------------------------------------

    def _pause_protocol_if_full(self) -> None:
        if self._protocol_paused or self.get_write_buffer_size() <= self._high_bytes:
            return
        self._protocol_paused = True
        self._told_to_pause = self._protocol
        flow_control.tell_protocol(self._core, self, self._protocol, "pause_writing")

    def _resume_protocol(self) -> None:
        self._protocol_paused = False
        protocol = flow_control.protocol_to_resume(self._protocol, self._told_to_pause)
        self._told_to_pause = None
        flow_control.tell_protocol(self._core, self, protocol, "resume_writing")

    def _make_empty_waiter(self) -> Any:
        """A Future for the moment when all is with the kernel; no write until it is reset."""
        if self._is_sending_lent:
            raise RuntimeError("Empty waiter is already set")
        self._is_sending_lent = True
        waiter = self._core.create_future()
        self._drained_waiter = waiter
        if self.get_write_buffer_size() == 0:
            waiter.set_result(None)
        return waiter

    def _reset_empty_waiter(self) -> None:
        self._is_sending_lent = False
        self._drained_waiter = None

    # -- files ----------------------------------------------------------------------

    @property
    def _loop(self) -> Any:
        """What asyncio's way to send a file without the kernel's help asks for."""
        return self._core

    def begin_file(self, operation: Any, token: int) -> None:
        """A SENDFILE is this stream's one send, until end_file(); close() stops `operation`.

        Before it, _make_empty_waiter() has seen to it that nothing is queued, nor will be.
        """
        self._sending_file = operation
        self._send_token = token

    def end_file(self) -> None:
        """The kernel has no more to do with the file: what had to wait for that."""
        self._sending_file = None
        self._send_token = 0
        if self._state == _LOST:
            self._close_when_answered()
        elif _OPEN < self._state < _CLOSING:
            self._queue_emptied()

    # -- relay ----------------------------------------------------------------------

    def relay_refusal(self) -> str | None:
        """Why it cannot be relayed, as the rest of a sentence; None: it can, or is closing."""
        if self._relay is not None:
            return "is relayed already"
        if self._eof_asked:
            return "has its sending side shut: relay it before write_eof()"
        if self._is_sending_lent:
            return "sends a file: wait for sendfile() first"
        return None

    def begin_relay(self, relay: Any) -> None:
        """Reads no more, but keeps what still arrives. `relay` is told when that is over
        (receive_stopped), and when this transport fails or is closed (transport_lost)."""
        self._relay = relay
        self._read_wanted = False
        self._stop_receiving()

    def end_relay(self) -> None:
        """The relay wants to be told nothing more."""
        self._relay = None
        self._is_sending_lent = False

    def is_receive_in_flight(self) -> bool:
        return self._recv_token != 0

    def take_received(self) -> list[Any]:
        """What arrived and no protocol has got: bytes, b"" for the end of file, an exception."""
        received = self._backlog or []
        self._backlog = None
        return received

    def lend_sending(self) -> Any:
        """Takes no write from now on.

        returns   a Future for the moment when all is with the kernel; None: it is
        """
        if self.get_write_buffer_size():
            return self._make_empty_waiter()
        self._is_sending_lent = True
        return None

    def lend_receive(self, token: int) -> None:
        """The relay's operation is this stream's receive, and is cancelled as such when the
        transport ends; 0: it is over."""
        self._recv_token = token
        self._recv_cancelled = False
        if token == 0 and self._state == _LOST:
            self._close_when_answered()

    def lend_send(self, token: int) -> None:
        """As lend_receive(), for the stream's one send."""
        self._send_token = token
        if token == 0 and self._state == _LOST:
            self._close_when_answered()

    def drop(self) -> None:
        """The loop was closed under the relay: nobody will ever call us again."""
        self._relay = None
        if self._sock is not None:
            self._close_file()
            self._sock = None
