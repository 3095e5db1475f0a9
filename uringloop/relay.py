"""relay(): two connections made one, by the engine where it can be, else by streams.

    result = await uringloop.relay(client, upstream, idle_timeout=300)

Two of this loop's plain stream transports are relayed in the engine (relay_engine), all else by
asyncio's streams (relay_streams). Which one it is cannot be told from the results.

Compiled by Cython together with relay.pxd.
"""

from __future__ import annotations

import asyncio
from asyncio.sslproto import SSLProtocol
from typing import Any

from uringloop.relay_base import Relay
from uringloop.relay_engine import EngineRelay
from uringloop.relay_streams import Streams, StreamsRelay, streams_of
from uringloop.transports.stream import StreamTransport

# What the engine may hold for a direction whose destination is slow; also what it moves at
# a time, so less costs system calls.
LIMIT_BYTES = 128 * 1024

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
    relaying = _between(_Side("a", a, loop), _Side("b", b, loop), loop, idle_timeout, limit_bytes)
    if isinstance(a, tuple) or isinstance(b, tuple):
        relaying._given = a, b
    relaying._start()
    return relaying


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


def _between(a: _Side, b: _Side, loop: Any, idle_timeout: float | None, limit: int) -> Relay:
    """The relay of the right kind, not yet started."""
    if a.transport is b.transport:
        raise ValueError("a and b are the same transport")
    if a.is_engine_able() and b.is_engine_able():
        received = a.take_buffered(), b.take_buffered()
        return EngineRelay(loop, idle_timeout, (a.transport, b.transport), received, limit)
    return StreamsRelay(loop, idle_timeout, (a.streams(loop, limit), b.streams(loop, limit)), limit)


def _refusal(transport: StreamTransport, loop: Any) -> str | None:
    """Why a transport of ours cannot be relayed, as the rest of a sentence; or None."""
    if transport._core is not loop:
        return "belongs to another event loop: relay it there"
    if isinstance(transport.get_protocol(), SSLProtocol):
        return "is used by TLS: relay the transport that start_tls() returned"
    return transport.relay_refusal()
