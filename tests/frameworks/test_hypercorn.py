"""hypercorn as users start it, and HTTP/2 over TLS on the loop under test."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import sys
from asyncio import AbstractEventLoop
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from peers import numbered_bytes

from tests.frameworks.asgi import echo_app
from tests.frameworks.documented import APP, command_lines, write_files
from tests.frameworks.serving import load, serving

pytest.importorskip("hypercorn")

from hypercorn.asyncio import serve
from hypercorn.config import Config

httpx = pytest.importorskip("httpx")

SECTION = "hypercorn"
ANY_PORT = ["--bind", "127.0.0.1:0"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_files(APP, tmp_path)
    write_files(SECTION, tmp_path)
    return tmp_path


@pytest.mark.ours
def test_the_documented_program_serves_on_our_loop(folder: Path, loop_kind: str) -> None:
    command = [sys.executable, "serve.py"]
    with serving(command, folder, URINGLOOP_BACKEND=loop_kind) as served:
        assert load(served.address) == {f"uringloop.loop {loop_kind}"}


@pytest.mark.ours
def test_the_documented_line_serves_on_our_loop(folder: Path, loop_kind: str) -> None:
    (line,) = command_lines(SECTION)
    with serving([*line, *ANY_PORT], folder, URINGLOOP_BACKEND=loop_kind) as served:
        assert load(served.address) == {f"uringloop.loop {loop_kind}"}


@contextlib.asynccontextmanager
async def tls_server(authority: Path) -> AsyncIterator[str]:
    """hypercorn on the running loop; answers its address."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = Config()
    config.bind = [f"fd://{listener.detach()}"]
    config.certfile, config.keyfile = str(authority / "cert.pem"), str(authority / "key.pem")
    sockets = config.create_sockets()
    config.create_sockets = lambda: sockets
    stop = asyncio.Event()
    serving = asyncio.ensure_future(serve(echo_app, config, shutdown_trigger=stop.wait))
    (secure,) = sockets.secure_sockets
    try:
        yield f"https://localhost:{secure.getsockname()[1]}/"
    finally:
        stop.set()
        await serving
        secure.close()


async def test_http2_over_tls_carries_many_requests_at_once(
    authority: Path, loop: AbstractEventLoop
) -> None:
    trust = ssl.create_default_context(cafile=str(authority / "ca.pem"))
    client = httpx.AsyncClient(http2=True, verify=trust)
    async with tls_server(authority) as url, client:
        bodies = [numbered_bytes(1 + 997 * number) for number in range(60)]
        answers = await asyncio.gather(*(client.post(url, content=each) for each in bodies))
    assert [answer.content for answer in answers] == bodies
    assert {answer.http_version for answer in answers} == {"HTTP/2"}
