"""A TCP proxy by uringloop.relay: what bench/proxy.py does in protocols, done by the engine.

    python -m bench.relay_proxy LOOP HOST PORT UPSTREAM_HOST UPSTREAM_PORT

Python accepts, connects and looks at the end of each pair; no byte goes through it.
"""

from __future__ import annotations

import asyncio
import dataclasses
import sys
from typing import cast

import uringloop
from bench import loops
from bench.children import die_with_parent, say
from bench.errors import MissingError
from bench.proxy import BACKLOG
from bench.server import keep_serving, raise_descriptor_limit


class Client(asyncio.Protocol):
    """The accepted connection until the upstream is there and the relay takes both."""

    def __init__(self, upstream_host: str, upstream_port: int) -> None:
        self._upstream = (upstream_host, upstream_port)
        self._relaying: asyncio.Task[None] | None = None  # keeps the task alive

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        client = cast(asyncio.Transport, transport)
        client.pause_reading()
        self._relaying = asyncio.get_running_loop().create_task(self._relay(client))

    async def _relay(self, client: asyncio.Transport) -> None:
        loop = asyncio.get_running_loop()
        try:
            upstream, _ = await loop.create_connection(asyncio.Protocol, *self._upstream)
        except OSError as error:
            print(f"proxy: no upstream at {self._upstream}: {error}", file=sys.stderr)
            client.abort()
            return
        await uringloop.relay(client, upstream)


async def _serve(facts: loops.LoopFacts, host: str, port: int, upstream: tuple[str, int]) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Client(*upstream), host, port, backlog=BACKLOG)
    name = server.sockets[0].getsockname()
    say({"address": ["tcp", name[0], str(name[1])], "loop": dataclasses.asdict(facts)})
    await keep_serving(server)


def main(arguments: list[str]) -> None:
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
    loop.run_until_complete(_serve(loops.facts(name, loop), host, int(port), upstream))


if __name__ == "__main__":
    main(sys.argv[1:])
