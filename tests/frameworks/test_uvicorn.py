"""uvicorn: inside the loop under test, under load, and as users start it."""

from __future__ import annotations

import asyncio
import re
import shutil
import socket
import sys
from asyncio import AbstractEventLoop
from pathlib import Path

import aiohttp
import pytest

from tests.frameworks.asgi import uvicorn_server
from tests.frameworks.documented import APP, command_lines, shown, write_files
from tests.frameworks.serving import load, serving

SECTION = "uvicorn"
WITH_POLICIES = pytest.mark.skipif(sys.version_info >= (3, 14), reason="install() warns then")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_files(APP, tmp_path)
    write_files(SECTION, tmp_path)
    return tmp_path


@pytest.mark.parametrize("http", ["h11", "httptools"])
async def test_uvicorn_says_hello(http: str, loop: AbstractEventLoop) -> None:
    async with uvicorn_server(http) as (host, port), aiohttp.ClientSession() as session:

        async def hello(_: int) -> bool:
            async with session.get(f"http://{host}:{port}/") as response:
                return await response.text() == "Hello, world!"

        assert all(await asyncio.gather(*map(hello, range(300))))


@pytest.mark.skipif(shutil.which("wrk") is None, reason="needs wrk")
async def test_uvicorn_under_load_answers_every_request(loop: AbstractEventLoop) -> None:
    async with uvicorn_server("httptools") as (host, port):
        wrk = await asyncio.create_subprocess_exec(
            *["wrk", "-t1", "-c50", "-d1s", f"http://{host}:{port}/"],
            stdout=asyncio.subprocess.PIPE,
        )
        out = (await wrk.communicate())[0].decode()
    assert wrk.returncode == 0
    assert "Socket errors" not in out, out
    assert "Non-2xx" not in out, out
    assert int(re.findall(r"(\d+) requests in", out)[0]) > 0


@pytest.mark.ours
@pytest.mark.parametrize("line", command_lines(SECTION), ids=shown)
def test_a_documented_line_serves_on_our_loop(
    line: list[str], folder: Path, loop_kind: str
) -> None:
    """On an inherited socket, as under systemd; uvicorn says of each that it is AF_UNIX."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        command = [*line, "--fd", str(listener.fileno())]
        with serving(command, folder, listener, URINGLOOP_BACKEND=loop_kind) as served:
            assert load(served.address) == {f"uringloop.loop {loop_kind}"}


@pytest.mark.ours
@pytest.mark.parametrize("name", ["serve.py", pytest.param("serve_older.py", marks=WITH_POLICIES)])
def test_a_documented_program_serves_on_our_loop(name: str, folder: Path, loop_kind: str) -> None:
    command = [sys.executable, "-W", "error", name]
    with serving(command, folder, URINGLOOP_BACKEND=loop_kind) as served:
        assert load(served.address) == {f"uringloop.loop {loop_kind}"}
