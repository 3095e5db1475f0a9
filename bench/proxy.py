"""A TCP proxy in plain asyncio: the program that the demo measures, and an example.

    python -m bench.proxy LOOP HOST PORT UPSTREAM_HOST UPSTREAM_PORT

Each client gets a connection of its own to the upstream. Bytes go both ways; a side that
is slow to take them stops the reading on the other side; end of file is carried on as end
of file, so that one direction may end long before the other; a broken side aborts its
partner. Nothing in here knows which loop it runs on.
"""

from __future__ import annotations

import asyncio
import dataclasses
import sys
from collections.abc import Awaitable, Callable
from typing import cast

from bench import loops
from bench.children import die_with_parent, say
from bench.errors import MissingError
from bench.server import keep_serving, raise_descriptor_limit

BACKLOG = 4096

# Listens at a host and port, in front of an upstream's.
StartProxy = Callable[[str, int, str, int], Awaitable[asyncio.Server]]


class Side(asyncio.Protocol):
    """One of the two connections of a proxied pair."""

    partner: Side

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None  # None: not connected yet
        # A loop may still deliver what it has read when reading is paused (uvloop does).
        self._received_early: list[bytes] = []
        self._has_received_eof = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self.partner.transport is None:
            self._received_early.append(data)
        else:
            self.partner.transport.write(data)

    def eof_received(self) -> bool:
        """Carry the end on; close once both directions have ended.

        Answers True: this side stays open for what still comes the other way.
        """
        self._has_received_eof = True
        self._carry_eof()
        return True

    def _carry_eof(self) -> None:
        if self.partner.transport is None or self.partner.transport.is_closing():
            return
        self.partner.transport.write_eof()
        if self.partner._has_received_eof:
            self.close()
            self.partner.close()

    def partner_connected(self) -> None:
        """Go on reading, and hand over what came before there was somebody to take it."""
        assert self.transport is not None and self.partner.transport is not None
        self.transport.resume_reading()  # first: a full partner pauses it again
        for data in self._received_early:
            self.partner.transport.write(data)
        self._received_early.clear()
        if self._has_received_eof:
            self._carry_eof()

    def pause_writing(self) -> None:
        if self.partner.transport is not None:
            self.partner.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.partner.transport is not None:
            self.partner.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is None:
            self.partner.close()
        else:
            self.partner.abort()

    def close(self) -> None:
        """Close once all that was written has been sent."""
        if self.transport is not None:
            self.transport.close()

    def abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()


class ClientSide(Side):
    """The accepted connection; it is not read before the upstream is there."""

    def __init__(self, upstream_host: str, upstream_port: int) -> None:
        super().__init__()
        self.partner = UpstreamSide(self)
        self._upstream = (upstream_host, upstream_port)
        self._connecting: asyncio.Task[None] | None = None  # keeps the task alive

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        assert self.transport is not None
        self.transport.pause_reading()
        self._connecting = asyncio.get_running_loop().create_task(self._connect())

    async def _connect(self) -> None:
        assert self.transport is not None
        host, port = self._upstream
        loop = asyncio.get_running_loop()
        try:
            await loop.create_connection(lambda: self.partner, host, port)
        except OSError as error:
            print(f"proxy: no upstream at {host}:{port}: {error}", file=sys.stderr)
            self.transport.abort()


class UpstreamSide(Side):
    """The connection that was made for a client."""

    def __init__(self, client: ClientSide) -> None:
        super().__init__()
        self.partner = client

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if self.partner.transport is None or self.partner.transport.is_closing():
            self.abort()  # the client left meanwhile
        else:
            self.partner.partner_connected()


async def start_proxy(
    host: str, port: int, upstream_host: str, upstream_port: int
) -> asyncio.Server:
    """A listening proxy; port 0 lets the kernel choose."""
    loop = asyncio.get_running_loop()
    return await loop.create_server(
        lambda: ClientSide(upstream_host, upstream_port), host, port, backlog=BACKLOG
    )


async def _serve(
    start: StartProxy, facts: loops.LoopFacts, host: str, port: int, upstream: tuple[str, int]
) -> None:
    server = await start(host, port, *upstream)
    name = server.sockets[0].getsockname()
    say({"address": ["tcp", name[0], str(name[1])], "loop": dataclasses.asdict(facts)})
    await keep_serving(server)


def main(arguments: list[str], start: StartProxy = start_proxy) -> None:
    """Serves until killed; says on stdout where, and what the loop says of itself."""
    die_with_parent()
    raise_descriptor_limit()
    name, host, port, upstream_host, upstream_port = arguments
    try:
        loop = loops.new_event_loop(name)
    except MissingError as error:
        say({"missing": str(error)})
        return
    upstream = (upstream_host, int(upstream_port))
    asyncio.set_event_loop(loop)
    loop.run_until_complete(_serve(start, loops.facts(name, loop), host, int(port), upstream))


if __name__ == "__main__":
    main(sys.argv[1:])
