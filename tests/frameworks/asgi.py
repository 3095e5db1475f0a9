"""An ASGI app, and uvicorn serving it inside the loop under test."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

import uvicorn


async def echo_app(scope: Any, receive: Any, send: Any) -> None:
    """Sends the body back, piece by piece as it comes; "Hello, world!" for none."""
    assert scope["type"] == "http"
    headers = [(b"content-type", b"text/plain")]
    event = await receive()
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    while event["more_body"]:
        await send({"type": "http.response.body", "body": event["body"], "more_body": True})
        event = await receive()
    body = event["body"] if scope["method"] == "POST" else b"Hello, world!"
    await send({"type": "http.response.body", "body": body})


@contextlib.asynccontextmanager
async def uvicorn_server(http: str) -> AsyncIterator[tuple[str, int]]:
    """Serves echo_app; answers its address.

    http    which of uvicorn's protocols: "h11" or "httptools"
    """
    options: dict[str, Any] = {"lifespan": "off", "ws": "none", "log_level": "warning"}
    config = uvicorn.Config(echo_app, http=http, access_log=False, **options)
    server = uvicorn.Server(config)
    listener = socket.create_server(("127.0.0.1", 0))
    serving = asyncio.ensure_future(server.serve(sockets=[listener]))
    try:
        yield listener.getsockname()
    finally:
        server.should_exit = True
        await serving
        listener.close()
