"""What stream, pipe and datagram transports share: whose they are, and how a failure is told.

Not a transport by itself. Who may close the socket, and when, is said by those that derive
from it: stream_base.StreamBase and datagram_receiving.ReceivingDatagrams.

Compiled by Cython together with transport_base.pxd.
"""

from __future__ import annotations

import warnings
from asyncio.log import logger
from typing import Any

from uringloop import stream_state
from uringloop.driver import binding
from uringloop.driver.in_flight import Operation
from uringloop.transports import flow_control

_CANCEL = binding.UL_OP_CANCEL

_HIGH_BYTES = flow_control.HIGH_BYTES
_LOW_BYTES = flow_control.LOW_BYTES

_OPEN = stream_state.OPEN
_DRAINING = stream_state.DRAINING


class TransportBase(Operation):
    """The fields of every transport, and asyncio.BaseTransport as far as it is the same.

    core       the loop's core, which stages commands and runs callbacks
    sock       non-blocking; the transport closes it
    context    the contextvars.Context that the protocol is called in
    """

    def _own(self, core: Any, sock: Any, context: Any) -> None:
        """What __init__() begins with. Not an __init__() itself: a call of that by super()
        costs a new connection more than all of these lines."""
        self._core = core
        self._rings = core._rings
        self._sock: Any = sock
        self._sock_fd = sock.fileno()
        self._context = context
        self._extra: Any = None
        self._protocol: Any = None
        self._state = _OPEN
        self._loss: Any = None

        self._recv_token = 0
        self._recv_cancelled = False
        self._read_wanted = True
        self._backlog: Any = None

        self._protocol_paused = False
        self._high_bytes = _HIGH_BYTES
        self._low_bytes = _LOW_BYTES

    def __del__(self) -> None:
        if self._sock is not None:
            warnings.warn(
                f"unclosed transport {self!r}", ResourceWarning, stacklevel=2, source=self
            )
            self._sock.close()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._extra.get(name, default)

    def get_protocol(self) -> Any:
        return self._protocol

    def is_closing(self) -> bool:
        return self._state >= _DRAINING

    def abort(self) -> None:
        self._force_close(None)

    def is_reading(self) -> bool:
        return self._state < _DRAINING and self._read_wanted

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return (self._low_bytes, self._high_bytes)

    def _stop_receiving(self) -> None:
        if self._recv_token and not self._recv_cancelled:
            self._recv_cancelled = True
            self._rings.stage(_CANCEL, -1, 0, 0, 0, self._recv_token, 0)

    def _tell_handler(self, message: str, error: BaseException) -> None:
        """Gives what the protocol raised, or what nobody expected, to the exception handler."""
        self._core.call_exception_handler(
            {
                "message": message,
                "exception": error,
                "transport": self,
                "protocol": self._protocol,
            }
        )

    def _fatal_error(self, error: BaseException, message: str) -> None:
        if not isinstance(error, OSError):
            self._tell_handler(message, error)
        elif self._core.get_debug():
            logger.debug("%r: %s", self, message, exc_info=error)
        self._force_close(error)

    def _force_close(self, error: BaseException | None) -> None:
        """Ends the transport without waiting for what is queued; `error` is what
        connection_lost() is told."""
        raise NotImplementedError

    def _lose_connection(self) -> None:
        """Has the protocol told soon, as asyncio does, whatever the kernel still holds."""
        self._core.call_soon(self._connection_lost, context=self._context)

    def _connection_lost(self) -> None:
        """Tells the protocol, and lets go of all that the kernel does not hold."""
        raise NotImplementedError
