"""Notice of a peer that has gone, for a stream that may not be reading: POLLRDHUP.

A stream that reads learns of the end by reading. One that is paused does not look, and a proxy
whose client has left would go on working for nobody. poll(2) tells of the end whatever is unread.

One POLL at a time, and the transport keeps its socket open until that is answered.
"""

from __future__ import annotations

import select
from collections.abc import Callable
from contextvars import Context
from typing import Any

from uringloop.driver import binding
from uringloop.driver.in_flight import Operation
from uringloop.errors import CANCELED, exception_of


class PeerWatch(Operation):
    """One transport's wait for the end of its peer.

    core       the loop's core
    transport  the StreamTransport; told peer_watch_ended() when the kernel has let go
    context    what callbacks are called in
    """

    def __init__(self, core: Any, transport: Any, context: Context) -> None:
        self._core = core
        self._transport = transport
        self._context = context
        self._callback: Callable[[], object] | None = None
        self._token = 0

    def start(self, callback: Callable[[], object]) -> None:
        """Waits on behalf of `callback`, instead of the one before."""
        self._callback = callback
        if self._token == 0:
            self._poll()

    def _poll(self) -> None:
        self._token = self._core._in_flight.add(self)
        self._core._rings.stage(
            binding.UL_OP_POLL, self._transport._sock_fd, self._token, 0, 0, select.POLLRDHUP, 0
        )

    def stop(self) -> None:
        """Calls nobody any more."""
        if self._callback is not None:
            self._callback = None
            self._core._rings.stage(binding.UL_OP_CANCEL, -1, 0, 0, 0, self._token, 0)

    def completed(self, rings: Any, opcode: int, result: int, more: bool) -> None:
        self._token = 0
        callback, self._callback = self._callback, None
        if callback is not None and result == CANCELED:
            self.start(callback)  # stopped, and started again before the kernel said so
            return
        if callback is not None and result < 0:
            error = exception_of("poll", result)
            self._transport.peer_watch_failed(error)
        elif callback is not None:
            self._core.call_soon(callback, context=self._context)
        self._transport.peer_watch_ended()

    def abandoned(self) -> None:
        self._token = 0
        self._callback = None
        self._transport.peer_watch_ended()
