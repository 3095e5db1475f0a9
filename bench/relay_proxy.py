"""A TCP proxy by uringloop.relay: what bench/proxy.py does in protocols, done by the engine.

    python -m bench.relay_proxy LOOP HOST PORT UPSTREAM_HOST UPSTREAM_PORT

Python accepts, connects and looks at the end of each pair; no byte goes through it. Neither side
is read before the relay has both: what comes early waits in the socket.
"""

from __future__ import annotations

import asyncio
import sys
from typing import cast

import uringloop
from bench import proxy


class Upstream(asyncio.Protocol):
    """The connection that was made for a client."""

    __slots__ = ()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast(asyncio.Transport, transport).pause_reading()


class Client(asyncio.Protocol):
    """The accepted connection until the upstream is there and the relay takes both."""

    __slots__ = ("_loop", "_relaying", "_upstream")

    def __init__(self, loop: asyncio.AbstractEventLoop, upstream: tuple[str, int]) -> None:
        self._loop = loop
        self._upstream = upstream
        self._relaying: asyncio.Task[None] | None = None  # keeps the task alive

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        client = cast(asyncio.Transport, transport)
        client.pause_reading()
        self._relaying = self._loop.create_task(self._relay(client))

    async def _relay(self, client: asyncio.Transport) -> None:
        try:
            upstream, _ = await self._loop.create_connection(Upstream, *self._upstream)
        except OSError as error:
            print(f"proxy: no upstream at {self._upstream}: {error}", file=sys.stderr)
            client.abort()
            return
        await uringloop.relay(client, upstream)


async def start_proxy(
    host: str, port: int, upstream_host: str, upstream_port: int
) -> asyncio.Server:
    """A listening proxy; port 0 lets the kernel choose."""
    loop = asyncio.get_running_loop()
    upstream = (upstream_host, upstream_port)
    return await loop.create_server(
        lambda: Client(loop, upstream), host, port, backlog=proxy.BACKLOG
    )


if __name__ == "__main__":
    proxy.main(sys.argv[1:], start_proxy)
