"""relay(): two connections made one, by the engine where it can be, else by streams.

    result = await uringloop.relay(client, upstream, idle_timeout=300)

Two of this loop's plain stream transports are relayed in the engine (relay_engine), all else by
asyncio's streams (relay_streams). Which one it is cannot be told from the results.
"""

from __future__ import annotations

import asyncio
import time
from asyncio.sslproto import SSLProtocol
from collections.abc import Generator
from typing import Any

from uringloop.relay_engine import EnginePath
from uringloop.relay_path import Path, Verdict
from uringloop.relay_result import RelayEnd, RelayResult
from uringloop.relay_streams import Streams, StreamsPath, streams_of
from uringloop.transports.stream import StreamTransport

# What the engine may hold for a direction whose destination is slow; also what it moves at
# a time, so less costs system calls.
LIMIT_BYTES = 128 * 1024

# The engine's clock of the last byte is the kernel's tick, at most so far behind.
_CLOCK_MONOTONIC_COARSE = 6  # Linux's number, which the time module does not name
_TICK_S = time.clock_getres(_CLOCK_MONOTONIC_COARSE)

_SIDE = "a stream transport or a pair (StreamReader, StreamWriter)"


def relay(a: Any, b: Any, *, idle_timeout: float | None = None, limit: int | None = None) -> Relay:
    """Relays between `a` and `b`, from now on until both have ended or one has failed.

    a, b           stream transports, or pairs (StreamReader, StreamWriter); they are the relay's
                   from now on. What they have received goes first, behind what was written.
    idle_timeout   seconds without a byte in either direction, after which it ends; None: never
    limit          bytes that may be held in each direction while its destination is slow
    returns        the running relay: awaitable, with live counters
    raises         TypeError, ValueError for sides that cannot be relayed; RuntimeError when
                   no event loop is running
    """
    loop = asyncio.get_running_loop()
    limit_bytes = LIMIT_BYTES if limit is None else limit
    if limit_bytes <= 0:
        raise ValueError(f"limit must be a number of bytes above 0, not {limit!r}")
    if idle_timeout is not None and not idle_timeout > 0:
        raise ValueError(f"idle_timeout must be seconds above 0, or None, not {idle_timeout!r}")
    sides = _Side("a", a, loop), _Side("b", b, loop)
    if sides[0].transport is sides[1].transport:
        raise ValueError("a and b are the same transport")
    path: Path
    if all(side.is_engine_able() for side in sides):
        transports = sides[0].transport, sides[1].transport
        received = sides[0].take_buffered(), sides[1].take_buffered()
        path = EnginePath(loop, transports, received, limit_bytes)
    else:
        streams = [side.streams(loop, limit_bytes) for side in sides]
        path = StreamsPath(loop, (streams[0], streams[1]), limit_bytes)
    path.given = (a, b)
    return Relay(path, idle_timeout)


class _Side:
    """What was given as `a` or `b`."""

    def __init__(self, name: str, given: Any, loop: Any) -> None:
        self._reader: Any = None
        self._writer: Any = None
        self.transport = given
        if isinstance(given, tuple):
            if len(given) != 2 or not hasattr(given[0], "read") or not hasattr(given[1], "drain"):
                raise TypeError(f"{name} must be {_SIDE}, not {given!r}")
            self._reader, self._writer = given
            self.transport = self._writer.transport
        elif not hasattr(given, "set_protocol") or not hasattr(given, "write"):
            raise TypeError(f"{name} must be {_SIDE}, not {given!r}")
        if isinstance(self.transport, StreamTransport):
            refusal = _refusal(self.transport, loop)
            if refusal is not None:
                raise ValueError(f"{name} {refusal}")

    def is_engine_able(self) -> bool:
        """A plain socket of ours, read and written by one transport."""
        transport = self.transport
        if type(transport) is not StreamTransport:
            return False
        if self._reader is None:
            return True
        return getattr(self._reader, "_transport", None) is transport

    def take_buffered(self) -> bytes:
        """What the StreamReader had: nobody will read it there."""
        if self._reader is None:
            return b""
        received = bytes(self._reader._buffer)
        self._reader._buffer.clear()
        return received

    def streams(self, loop: Any, limit: int) -> Streams:
        if self._reader is None:
            return streams_of(self.transport, loop, limit)
        return Streams(self._reader, self._writer)


def _refusal(transport: Any, loop: Any) -> str | None:
    """Why a transport of ours cannot be relayed, as the rest of a sentence; or None."""
    if transport._loop is not loop:
        return "belongs to another event loop: relay it there"
    if isinstance(transport.get_protocol(), SSLProtocol):
        return "is used by TLS: relay the transport that start_tls() returned"
    refusal: str | None = transport.relay_refusal()
    return refusal


class Relay:
    """A relay that runs. Awaiting it gives its RelayResult.

    Cancelling the task that awaits it cancels the relay, and so does cancel(): both sides are
    aborted, and when all is given back the one who awaits gets CancelledError.
    """

    def __init__(self, path: Path, idle_timeout_s: float | None) -> None:
        self._path = path
        self._idle_timeout_s = idle_timeout_s
        self._timer: Any = None
        path.begin()
        if idle_timeout_s is not None and not path.ended.done():
            self._timer = path.loop.call_later(idle_timeout_s + _TICK_S, self._look_whether_idle)
            path.ended.add_done_callback(self._stop_timer)

    def __repr__(self) -> str:
        doing = "done" if self.done() else "running"
        return (
            f"<Relay {doing} a->b {self.bytes_a_to_b} bytes b->a {self.bytes_b_to_a} bytes"
            f" by={type(self._path).__name__}>"
        )

    @property
    def bytes_a_to_b(self) -> int:
        """Bytes given to b so far."""
        return self._path.moved_bytes(0)

    @property
    def bytes_b_to_a(self) -> int:
        """Bytes given to a so far."""
        return self._path.moved_bytes(1)

    @property
    def buffers_held(self) -> int:
        """Pieces of memory that hold what a slow side has not taken yet."""
        return self._path.buffers_held()

    @property
    def idle_s(self) -> float:
        """Seconds since the last byte, to about a tick of the kernel's clock."""
        return max(0.0, time.monotonic() - self._path.progressed_s())

    def done(self) -> bool:
        """Whether it has ended, and both sides are closed."""
        return bool(self._path.ended.done())

    def cancel(self) -> None:
        """Ends it at once; both peers see a reset."""
        self._path.end(Verdict(None))

    def __await__(self) -> Generator[Any, None, RelayResult]:
        return self._wait().__await__()

    async def _wait(self) -> RelayResult:
        ended = self._path.ended
        try:
            result: RelayResult = await asyncio.shield(ended)
        except asyncio.CancelledError:
            self.cancel()
            while not ended.done():
                await _settled(ended)
            raise
        return result

    def _look_whether_idle(self) -> None:
        """The one timer: it asks when the last byte was, and waits for the rest of the time."""
        assert self._idle_timeout_s is not None
        left_s = self._idle_timeout_s + _TICK_S - self.idle_s
        if left_s > 0:
            self._timer = self._path.loop.call_later(left_s, self._look_whether_idle)
        else:
            self._path.end(Verdict(RelayEnd.IDLE_TIMEOUT))

    def _stop_timer(self, _: Any) -> None:
        self._timer.cancel()


async def _settled(future: Any) -> None:
    """Until the future is done; a further cancel of the waiting task changes nothing."""
    try:
        await asyncio.shield(future)
    except asyncio.CancelledError:
        return
