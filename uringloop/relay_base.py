"""What the two ways to relay have in common: what is told of a relay, its idle timeout, its end.

A relay moves bytes between side 0 ("a") and side 1 ("b"), and ends once: by a verdict, after
which it closes both sides. It is over when nothing of them is with the kernel any more. The ways
are relay_engine.EngineRelay and relay_streams.StreamsRelay.

Compiled by Cython together with relay_base.pxd: an idle pair is to cost little more than its two
transports, so there is one small object for a relay, and what only some need is made when they
ask for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
import time
from asyncio.trsock import TransportSocket
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, Literal

from uringloop.relay_result import RelayEnd, RelayResult, new_result

# The engine's clock of the last byte is the kernel's tick, at most so far behind.
_CLOCK_MONOTONIC_COARSE = 6  # Linux's number, which the time module does not name
_TICK_S = time.clock_getres(_CLOCK_MONOTONIC_COARSE)

_NAMES: tuple[Literal["a", "b"], ...] = ("a", "b")
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


@dataclass(frozen=True)
class Verdict:
    """Why a relay ends. `reason` is None for a cancel; failed_side: an index, or None."""

    reason: RelayEnd | None
    error: OSError | None = None
    failed_side: int | None = None


class Ended(asyncio.Future[RelayResult]):
    """What those who await a relay wait for.

    A task that is cancelled asks the Future that it waits for to be cancelled. This one then
    cancels the relay, and is answered when all is given back.
    """

    __slots__ = ("_cancel_message", "_is_cancel_asked", "_relay")

    def __init__(self, relay: Relay, loop: Any) -> None:
        asyncio.Future.__init__(self, loop=loop)
        self._relay: Relay | None = relay
        self._is_cancel_asked = False
        self._cancel_message: Any = None

    def cancel(self, msg: Any = None) -> bool:
        """Asks the relay to end; False when it is over."""
        relay = self._relay
        if relay is None:
            return False
        self._is_cancel_asked = True
        self._cancel_message = msg
        relay.cancel()
        return True

    def answer(self, result: RelayResult | None) -> None:
        """Tells who waits; None: the relay was cancelled."""
        self._relay = None
        if self._is_cancel_asked or result is None:
            super().cancel(self._cancel_message)
        else:
            self.set_result(result)


class Relay:
    """A relay that runs. Awaiting it gives its RelayResult.

    Cancelling the task that awaits it cancels the relay, and so does cancel(): both sides are
    aborted, and when all is given back the one who awaits gets CancelledError.
    """

    def __init__(self, loop: Any, idle_timeout_s: float | None) -> None:
        self._loop = loop
        self._idle_timeout_s = idle_timeout_s
        self._timer: Any = None
        self._verdict: Verdict | None = None
        self._is_over = False
        self._ended: Ended | None = None  # made when somebody awaits it
        self._begun_s = time.monotonic()
        # The pairs that the user gave, until the end: a StreamWriter that nobody holds closes
        # its transport (CPython 3.11 and newer).
        self._given: tuple[Any, Any] | None = None

    def __repr__(self) -> str:
        doing = "done" if self._is_over else "running"
        return (
            f"<Relay {doing} a->b {self.bytes_a_to_b} bytes b->a {self.bytes_b_to_a} bytes"
            f" by={type(self).__name__}>"
        )

    @property
    def bytes_a_to_b(self) -> int:
        """Bytes given to b so far."""
        return self._moved_bytes(0)

    @property
    def bytes_b_to_a(self) -> int:
        """Bytes given to a so far."""
        return self._moved_bytes(1)

    @property
    def buffers_held(self) -> int:
        """Pieces of memory that hold what a slow side has not taken yet."""
        raise NotImplementedError

    @property
    def idle_s(self) -> float:
        """Seconds since the last byte, to about a tick of the kernel's clock."""
        return max(0.0, time.monotonic() - self._progressed_s())

    def done(self) -> bool:
        """Whether it has ended, and both sides are closed."""
        return bool(self._is_over)

    def cancel(self) -> None:
        """Ends it at once; both peers see a reset."""
        self._end(Verdict(None))

    def __await__(self) -> Generator[Any, None, RelayResult]:
        ended = self._ended
        if ended is None:
            ended = self._ended = Ended(self, self._loop)
            if self._is_over:
                ended.answer(self._result())
        return ended.__await__()

    # -- what each way says -------------------------------------------------------------

    def _begin(self) -> None:
        raise NotImplementedError

    def _moved_bytes(self, side: int) -> int:
        """How many bytes from this side were given to the other."""
        raise NotImplementedError

    def _progressed_s(self) -> float:
        """When the last byte moved, by time.monotonic(); before the first, the beginning."""
        raise NotImplementedError

    def _end(self, verdict: Verdict) -> None:
        """Ends it, unless it has a verdict already."""
        raise NotImplementedError

    # -- what is the same ---------------------------------------------------------------

    def _start(self) -> None:
        """The sides are the relay's from here on."""
        self._begin()
        if self._idle_timeout_s is not None and not self._is_over:
            self._look_after(self._idle_timeout_s + _TICK_S)

    def _look_after(self, delay_s: float) -> None:
        self._timer = self._loop.call_later(delay_s, self._look_whether_idle)

    def _look_whether_idle(self) -> None:
        """The one timer: it asks when the last byte was, and waits for the rest of the time."""
        assert self._idle_timeout_s is not None
        left_s = self._idle_timeout_s + _TICK_S - self.idle_s
        if left_s > 0:
            self._look_after(left_s)
        else:
            self._end(Verdict(RelayEnd.IDLE_TIMEOUT))

    def _answer(self) -> None:
        """Both sides are closed: tells who waits."""
        if self._is_over or self._verdict is None:
            return
        self._is_over = True
        self._given = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._ended is not None:
            self._ended.answer(self._result())

    def _result(self) -> RelayResult | None:
        """None for a relay that was cancelled."""
        verdict = self._verdict
        if verdict is None or verdict.reason is None:
            return None
        there, back = self._moved_bytes(0), self._moved_bytes(1)
        failed = None if verdict.failed_side is None else _NAMES[verdict.failed_side]
        return new_result(there, back, verdict.reason, verdict.error, failed)


def reset_on_close(sock: Any) -> None:
    """Has the peer of a TCP connection see RST, not FIN: what it sent or waits for is lost.

    sock   what a transport calls its "socket"; None is a pipe
    """
    if sock is None or sock.fileno() < 0:
        return
    if isinstance(sock, (socket.socket, TransportSocket)):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        return
    # Another loop's object, which may not take options. Without a descriptor to spare it is
    # closed by FIN after all.
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(sock.fileno())) as twin:
        twin.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
