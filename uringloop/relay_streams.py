"""The relay for what the engine cannot relay: TLS, pipes, transports of other loops.

Two tasks read from one side's StreamReader and write to the other's StreamWriter, waiting in
drain(); so the readers' and writers' own limits bound the memory, and all that asyncio's streams
work with will do. A bare transport is given streams of its own: its protocol is replaced,
and still told of the end.

A side that cannot be half-closed (TLS has no way for it in asyncio) is closed when the end is
carried to it, after all that was sent; the relay then ends.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from uringloop.relay_base import Relay, Verdict, reset_on_close
from uringloop.relay_result import RelayEnd


class Streams:
    """One side: where it is read, where it is written to, and the transports of both."""

    def __init__(self, reader: Any, writer: Any) -> None:
        self.reader = reader
        self.writer = writer
        self.is_lost = False
        # A pair may have two, as a child's stdout and stdin.
        source = getattr(reader, "_transport", None)
        own = writer.transport
        self.transports = [own] if source is None or source is own else [own, source]
        # Asked now: asyncio's TLS cannot tell when it is closed.
        self.is_tls = own.get_extra_info("ssl_object") is not None
        self.is_pipe = own.get_extra_info("pipe") is not None
        self._sockets = [transport.get_extra_info("socket") for transport in self.transports]

    def resume_reading(self) -> None:
        """Undoes a pause of the user's; a StreamReader's own ends when it is read."""
        for transport in self.transports:
            reads = getattr(transport, "is_reading", None)
            if reads is None or transport.is_closing() or getattr(self.reader, "_paused", False):
                continue
            if not reads():
                transport.resume_reading()

    def unsent_bytes(self) -> int:
        size: int = self.writer.transport.get_write_buffer_size()
        return size

    def close(self) -> None:
        for transport in self.transports:
            if not transport.is_closing():  # asyncio's TLS cannot be aborted after two of them
                transport.close()

    def reset(self) -> None:
        for sock in self._sockets:
            if not self.is_lost:
                reset_on_close(sock)
        for transport in self.transports:
            transport.abort()


class _LentProtocol(asyncio.StreamReaderProtocol):
    """The protocol of a bare transport while it is relayed. Its own is told of the end."""

    def __init__(self, reader: asyncio.StreamReader, loop: Any, owner: Any) -> None:
        super().__init__(reader, loop=loop)
        self._owner = owner

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        owner, self._owner = self._owner, None
        if owner is not None:
            owner.connection_lost(exc)


def streams_of(transport: Any, loop: Any, limit: int) -> Streams:
    """Streams over a bare transport, which reads from now on."""
    reader = asyncio.StreamReader(limit=limit, loop=loop)
    protocol = _LentProtocol(reader, loop, transport.get_protocol())
    writer = asyncio.StreamWriter(transport, protocol, reader, loop)
    transport.set_protocol(protocol)
    protocol.connection_made(transport)
    if transport.get_write_buffer_size() > transport.get_write_buffer_limits()[1]:
        protocol.pause_writing()  # the old protocol was told; the new one will be told to go on
    return Streams(reader, writer)


class StreamsRelay(Relay):
    """A relay between two sides of `loop` by their streams.

    limit   bytes that are read at a time, and that a transport may queue before it is waited for
    """

    def __init__(
        self,
        loop: Any,
        idle_timeout_s: float | None,
        sides: tuple[Streams, Streams],
        limit: int,
    ) -> None:
        super().__init__(loop, idle_timeout_s)
        self._sides = sides
        self._limit = limit
        self._written = [0, 0]  # from each side, to the other
        self._has_ended = [False, False]
        self._moved_s = self._begun_s
        self._unsent_seen = 0
        self._pumps: list[asyncio.Task[None]] = []
        self._losses: list[asyncio.Task[None]] = []

    def _begin(self) -> None:
        for index, side in enumerate(self._sides):
            if not side.writer.is_closing():
                side.writer.transport.set_write_buffer_limits(high=self._limit)
            side.resume_reading()
            pump = self._loop.create_task(self._pump(index))
            loss = self._loop.create_task(side.writer.wait_closed())
            pump.add_done_callback(lambda task, index=index: self._pumped(index, task))
            loss.add_done_callback(lambda task, index=index: self._lost(index, task))
            self._pumps.append(pump)
            self._losses.append(loss)

    def _moved_bytes(self, side: int) -> int:
        other = self._sides[1 - side]
        return self._written[side] - (0 if other.is_lost else other.unsent_bytes())

    @property
    def buffers_held(self) -> int:
        return sum(not side.is_lost and side.unsent_bytes() > 0 for side in self._sides)

    def _progressed_s(self) -> float:
        unsent = sum(0 if side.is_lost else side.unsent_bytes() for side in self._sides)
        if unsent != self._unsent_seen:
            self._unsent_seen = unsent
            self._moved_s = time.monotonic()
        return self._moved_s

    # -- moving -------------------------------------------------------------------------

    async def _pump(self, index: int) -> None:
        """Moves bytes from this side to the other, and then the end."""
        reader, other = self._sides[index].reader, self._sides[1 - index]
        while data := await _read(reader, self._limit, index):
            self._moved_s = time.monotonic()
            other.writer.write(data)
            self._written[index] += len(data)
            await _drain(other.writer, 1 - index)
        self._has_ended[index] = True
        if other.writer.can_write_eof():
            other.writer.write_eof()
        else:
            other.close()

    def _pumped(self, index: int, pump: asyncio.Task[None]) -> None:
        error = None if pump.cancelled() else pump.exception()
        if self._verdict is not None:
            return
        if isinstance(error, _SideError):
            self._end(Verdict(RelayEnd.RESET, error.cause, error.side))
        elif error is not None:
            self._end(Verdict(RelayEnd.CLOSED))
            self._loop.call_exception_handler({"message": "a relay failed", "exception": error})
        else:
            self._look_whether_over(index)

    def _lost(self, index: int, loss: asyncio.Task[None]) -> None:
        """connection_lost() was called on this side's writer."""
        self._sides[index].is_lost = True
        error = None if loss.cancelled() else loss.exception()
        if self._verdict is not None:
            self._answer_when_lost()
        elif isinstance(error, OSError):
            self._end(Verdict(RelayEnd.RESET, error, index))
        else:
            self._look_whether_over(index)

    def _look_whether_over(self, index: int) -> None:
        """Something of this side is over: is that the end of the relay?"""
        if all(self._has_ended):
            self._end(Verdict(RelayEnd.EOF))
            return
        for side, streams in enumerate(self._sides):
            if not streams.is_lost or self._has_ended[1 - side] or self._verdict is not None:
                continue  # alive, or closed as it had to be
            if streams.is_pipe:
                self._end(Verdict(RelayEnd.RESET, BrokenPipeError("nobody reads the pipe"), side))
            elif not streams.is_tls:
                self._end(Verdict(RelayEnd.CLOSED))
            elif self._has_ended[side]:
                self._end(Verdict(RelayEnd.EOF))  # TLS is over in both directions at once

    # -- the end ------------------------------------------------------------------------

    def _end(self, verdict: Verdict) -> None:
        was_closing = self._verdict is not None and self._verdict.reason is RelayEnd.EOF
        if self._verdict is not None and not was_closing:
            return
        if self._is_over:
            return
        self._verdict = verdict
        for pump in self._pumps:
            pump.cancel()
        for side in self._sides:
            if verdict.reason is RelayEnd.EOF:
                side.close()
            else:
                side.reset()
        self._answer_when_lost()

    def _answer_when_lost(self) -> None:
        if all(side.is_lost for side in self._sides):
            self._answer()


class _SideError(Exception):
    """A side's transport failed with `cause`."""

    def __init__(self, side: int, cause: OSError) -> None:
        super().__init__(side, cause)
        self.side = side
        self.cause = cause


async def _read(reader: Any, limit: int, side: int) -> bytes:
    try:
        data: bytes = await reader.read(limit)
    except OSError as error:
        raise _SideError(side, error) from None
    return data


async def _drain(writer: Any, side: int) -> None:
    try:
        await writer.drain()
    except OSError as error:
        raise _SideError(side, error) from None
