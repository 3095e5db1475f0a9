"""What our servers and transports have beyond asyncio's, as bodies for bench.instructions.

As in bodies.py, but no other loop has these methods, so there is nothing to compare: each comes
with the same body without the method, and what is between the two is its cost.
"""

from __future__ import annotations

import asyncio
import functools
import socket
import time
from typing import Any

import uringloop
from bench.bodies import Body
from bench.errors import MissingError

ANY_PORT = ("127.0.0.1", 0)
FAR_LIMIT = 1_000_000


def our_loop() -> Any:
    """raises   MissingError: on another loop."""
    loop = asyncio.get_running_loop()
    if not isinstance(loop, uringloop.EventLoop):
        raise MissingError("only uringloop has such methods")
    return loop


async def peer_notices(count: int, *, asks: bool) -> float:
    """A transport asks to be told of its peer's end, and takes that back a turn later."""
    loop = our_loop()
    ours, peer = socket.socketpair()
    transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
    started = time.perf_counter()
    for _ in range(count):
        if asks:
            transport.notify_peer_closed(int)
        await asyncio.sleep(0)
        if asks:
            transport.notify_peer_closed(None)
        await asyncio.sleep(0)
    seconds = time.perf_counter() - started
    transport.abort()
    peer.close()
    return seconds


async def pauses_of_accepting(count: int, *, pauses: bool) -> float:
    """A server stops accepting, and goes on a turn later."""
    loop = our_loop()
    server = await loop.create_server(asyncio.Protocol, *ANY_PORT)
    started = time.perf_counter()
    for _ in range(count):
        if pauses:
            server.pause_accepting()
        await asyncio.sleep(0)
        if pauses:
            server.resume_accepting()
        await asyncio.sleep(0)
    seconds = time.perf_counter() - started
    server.close()
    return seconds


class Ended(asyncio.Protocol):
    """Tells a Future when the connection has come and gone."""

    def __init__(self, ended: asyncio.Future[None]) -> None:
        self._ended = ended

    def connection_lost(self, error: Exception | None) -> None:
        self._ended.set_result(None)


async def accepted(count: int, *, limit: int | None = None, is_shared: bool = False) -> float:
    """A connection that is accepted, and closed by its peer; the peer's calls are in it."""
    loop = our_loop()
    ended = loop.create_future()
    if is_shared:
        (sock,) = uringloop.share_port(ANY_PORT, 1)
        server = await loop.create_server(lambda: Ended(ended), sock=sock)
    else:
        server = await loop.create_server(lambda: Ended(ended), *ANY_PORT)
    server.set_connection_limit(limit)
    address = server.sockets[0].getsockname()
    started = time.perf_counter()
    for _ in range(count):
        ended = loop.create_future()
        socket.create_connection(address).close()
        await ended
    seconds = time.perf_counter() - started
    server.close()
    return seconds


EXTRAS: dict[str, Body] = {
    "peer notices": Body(functools.partial(peer_notices, asks=True), "notice", 500),
    "peer notices, none": Body(functools.partial(peer_notices, asks=False), "pair of turns", 500),
    "accept pauses": Body(functools.partial(pauses_of_accepting, pauses=True), "pause", 500),
    "accept pauses, none": Body(
        functools.partial(pauses_of_accepting, pauses=False), "pair of turns", 500
    ),
    "accept, limited": Body(functools.partial(accepted, limit=FAR_LIMIT), "connection", 200),
    "accept, shared port": Body(functools.partial(accepted, is_shared=True), "connection", 200),
    "accept": Body(accepted, "connection", 200),
}
