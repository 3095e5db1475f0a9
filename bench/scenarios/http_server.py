"""The HTTP server under test, as a child process: "Hello, world!" on one loop.

    python -m bench.scenarios.http_server LOOP uvicorn|aiohttp

Says where it listens, or what is missing, and serves until it is killed. Access log off,
everything else as the servers come.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from bench import loops
from bench.children import die_with_parent, say
from bench.errors import BenchError, MissingError
from bench.server import BACKLOG, address_of

BODY = b"Hello, world!"

Serve = Callable[[socket.socket], Awaitable[None]]


async def hello(scope: Any, receive: Any, send: Any) -> None:
    """The least that is an ASGI application."""
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(BODY))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": BODY})


def uvicorn_server() -> Serve:
    import uvicorn

    config = uvicorn.Config(
        hello,
        http="httptools",
        ws="none",
        lifespan="off",
        access_log=False,
        log_level="warning",
        backlog=BACKLOG,
    )
    config.load()  # imports httptools, or says that it is not there

    async def serve(listener: socket.socket) -> None:
        await uvicorn.Server(config).serve(sockets=[listener])

    return serve


def aiohttp_server() -> Serve:
    from aiohttp import web

    async def answer(request: web.Request) -> web.Response:
        return web.Response(body=BODY, content_type="text/plain")

    async def serve(listener: socket.socket) -> None:
        application = web.Application()
        application.router.add_get("/", answer)
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        await web.SockSite(runner, listener, backlog=BACKLOG).start()
        await asyncio.get_running_loop().create_future()

    return serve


SERVERS: dict[str, Callable[[], Serve]] = {"uvicorn": uvicorn_server, "aiohttp": aiohttp_server}


def made(server: str) -> Serve:
    try:
        return SERVERS[server]()
    except ImportError as error:
        raise MissingError(f"{server}: {error} (pip install 'uringloop[dev]')") from error


def listening_socket() -> socket.socket:
    """As create_server() makes one. The protocol is named, for asyncio only sets TCP_NODELAY
    where it is, and an answer in two writes would wait for a delayed ACK."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    listener.listen(BACKLOG)
    listener.setblocking(False)
    return listener


def main(arguments: list[str]) -> None:
    die_with_parent()
    name, server = arguments
    try:
        serve = made(server)
        loop = loops.new_event_loop(name)
    except MissingError as error:
        say({"missing": str(error)})
        return
    with listening_socket() as listener:
        say({"address": address_of(listener)})
        asyncio.set_event_loop(loop)
        loop.run_until_complete(serve(listener))
    raise BenchError(f"{server} ended by itself")


if __name__ == "__main__":
    main(sys.argv[1:])
