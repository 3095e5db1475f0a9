"""Datagram transport: whole messages, to and from a protocol.

This is the writing half; reading and the transport's end are in datagram_receiving.py.

Sending is not a command. sendto() offers the datagram to the socket at once, as asyncio does:
then it has left when the program blocks, closes or aborts in the next line, and its error is
told where it was caused. A datagram socket takes a message in the time that a command for it
would need. What a full socket refuses is queued, POLL waits for room, and the queue is offered
again, in order.

Compiled by Cython together with datagram.pxd.
"""

from __future__ import annotations

import select
import socket
import sys
from asyncio import selector_events
from asyncio.log import logger
from contextvars import copy_context
from typing import Any

from uringloop import stream_state
from uringloop.driver import binding
from uringloop.errors import CANCELED, exception_of
from uringloop.transports import flow_control
from uringloop.transports.datagram_receiving import ReceivingDatagrams

# Sockets of other families get asyncio's own transport, over add_reader: what their addresses
# look like is known to Python's sockets alone.
_FAMILIES = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)

_RECVMSG = binding.UL_OP_RECVMSG
_POLL = binding.UL_OP_POLL
_CANCELED = CANCELED
_WRITABLE = select.POLLOUT

_DRAINING = stream_state.DRAINING
_CLOSING = stream_state.CLOSING
_LOST = stream_state.LOST

# From 3.13 on asyncio sends empty datagrams, and counts what a header adds to each that waits.
_EMPTY_IS_SENT = sys.version_info >= (3, 13)
_HEADER_BYTES = 8 if _EMPTY_IS_SENT else 0

# asyncio's number of sends after a lost connection that pass without a word.
_SILENT_SENDS = 5

# An unconnected Unix socket polls as writable while its receiver's queue is full: then room is
# not announced, and has to be looked for, more and more rarely. asyncio looks without rest.
_LOOK_AGAIN_MIN_S = 0.0001
_LOOK_AGAIN_MAX_S = 0.02


def make_transport(
    loop: Any,
    sock: socket.socket,
    protocol: Any,
    address: Any,
    waiter: Any,
    extra: dict[str, Any] | None,
) -> Any:
    """The transport that connects `protocol` with `sock`, soon; see DatagramTransport.

    waiter   a Future told of it, or None
    """
    if sock.family not in _FAMILIES:
        own = selector_events._SelectorDatagramTransport  # type: ignore[attr-defined]
        return own(loop, sock, protocol, address, waiter, extra)
    transport = DatagramTransport(loop, sock, protocol, copy_context(), address, extra)
    transport.start(waiter)
    return transport


class DatagramTransport(ReceivingDatagrams):
    """asyncio.DatagramTransport; see ReceivingDatagrams for the arguments."""

    def start(self, waiter: Any) -> None:
        """Connects the protocol, soon; `waiter` is a Future told of it, or None."""
        self._core.call_soon(self._start, waiter, context=self._context)

    def _start(self, waiter: Any) -> None:
        """The first callback: connection_made(), then reading, then the waiter."""
        try:
            self._protocol.connection_made(self)
        finally:
            self._start_receiving()
            if waiter is not None and not waiter.cancelled():
                waiter.set_result(None)

    def completed(self, rings: Any, opcode: int, result: int, more: bool) -> None:
        if opcode == _RECVMSG:
            if not more:
                self._recv_token = 0
            self._recv_completed(rings, result)
        else:
            self._poll_token = 0
            self._poll_completed(result)
        if self._state == _LOST:
            self._close_when_answered()

    # -- sending ------------------------------------------------------------------------

    def sendto(self, data: Any, addr: Any = None) -> None:
        if type(data) is not bytes and not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(
                f"data argument must be a bytes-like object, not {type(data).__name__!r}"
            )
        if not data and not _EMPTY_IS_SENT:
            return
        if self._address:
            if addr is not None and addr != self._address:
                raise ValueError(f"Invalid address: must be None or {self._address}")
            addr = self._address
        if self._state >= _CLOSING:
            self._send_late(data, addr)
        elif self._queue or not self._offer(data, addr):
            self._enqueue(bytes(data), addr)

    def _offer(self, data: Any, address: Any) -> bool:
        """Offers one datagram to the socket; False when that is full.

        Python's own socket takes the address, and so judges it as in asyncio.
        """
        try:
            if self._is_connected:
                self._core._bytes_sent_directly += self._sock.send(data)
            else:
                self._core._bytes_sent_directly += self._sock.sendto(data, address)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as error:
            self._protocol.error_received(error)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._fatal_error(error, "Fatal write error on datagram transport")
        return True

    def _send_late(self, data: Any, address: Any) -> None:
        """connection_lost() is scheduled or was called: an unconnected socket still sends until
        then, as in asyncio; the rest is dropped, in the end with a warning."""
        if self._state == _CLOSING and not self._address:
            self._offer(data, address)
            return
        if self._lost_sends >= _SILENT_SENDS:
            logger.warning("socket.send() raised exception.")
        self._lost_sends += 1

    def _enqueue(self, data: bytes, address: Any) -> None:
        self._queue.append((data, address))
        self._queued_bytes += len(data) + _HEADER_BYTES
        self._wait_for_room()
        self._pause_protocol_if_full()

    def _wait_for_room(self) -> None:
        if not self._poll_token and self._look_again is None:
            self._poll_token = self._core._in_flight.add(self)
            self._rings.stage(_POLL, self._sock_fd, self._poll_token, 0, 0, _WRITABLE, 0)

    def _poll_completed(self, result: int) -> None:
        if result >= 0:
            self._send_queued()
        elif result != _CANCELED:
            error = exception_of("poll", result)
            self._fatal_error(error, "Fatal write error on datagram transport")

    def _look_again_now(self) -> None:
        self._look_again = None
        self._send_queued()

    def _send_queued(self) -> None:
        """Sends what the socket takes now, and waits for room for the rest."""
        found_room = False
        while self._queue:
            data, address = self._queue.popleft()
            self._queued_bytes -= len(data) + _HEADER_BYTES
            if not self._offer_queued(data, address):
                self._queue.appendleft((data, address))
                self._queued_bytes += len(data) + _HEADER_BYTES
                break
            found_room = True
        if self._state >= _CLOSING:
            return  # a fatal error, or one that the protocol aborts for
        if self._protocol_paused and self._queued_bytes <= self._low_bytes:
            self._context.run(self._resume_protocol)
        if not self._queue:
            if self._state == _DRAINING:
                self._queue_emptied()
        elif found_room:
            self._look_again_s = 0.0
            self._wait_for_room()
        else:
            self._look_later()

    def _offer_queued(self, data: bytes, address: Any) -> bool:
        """As _offer(), from the loop: what error_received() raises is reported."""
        try:
            return self._context.run(self._offer, data, address)  # type: ignore[no-any-return]
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._callback_failed("error_received", error)
            return True

    def _look_later(self) -> None:
        """POLL announced room, and there is none."""
        if self._look_again is None:
            rest_s = min(max(2 * self._look_again_s, _LOOK_AGAIN_MIN_S), _LOOK_AGAIN_MAX_S)
            self._look_again_s = rest_s
            self._look_again = self._core.call_later(rest_s, self._look_again_now)

    # -- flow control ---------------------------------------------------------------

    def get_write_buffer_size(self) -> int:
        return self._queued_bytes

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high_bytes, self._low_bytes = flow_control.write_limits(high, low)
        self._pause_protocol_if_full()
        if self._look_again is not None:
            # The protocol may be resumed by the new limits, as soon as in asyncio.
            self._look_again.cancel()
            self._look_again = self._core.call_soon(self._look_again_now)

    def _pause_protocol_if_full(self) -> None:
        if not self._protocol_paused and self._queued_bytes > self._high_bytes:
            self._protocol_paused = True
            flow_control.tell_protocol(self._core, self, self._protocol, "pause_writing")

    def _resume_protocol(self) -> None:
        self._protocol_paused = False
        flow_control.tell_protocol(self._core, self, self._protocol, "resume_writing")
