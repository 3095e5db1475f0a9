"""pytest-asyncio and pytest-aiohttp: a small suite in a child, configured as documented."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.frameworks.documented import write_files
from tests.frameworks.programs import output_of, without

pytest.importorskip("pytest_asyncio")

pytestmark = pytest.mark.ours

SUITE = """
import asyncio
import pytest
import pytest_asyncio


@pytest_asyncio.fixture
async def address():
    async def serve(reader, writer):
        writer.write(await reader.readline())
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared():
    return asyncio.get_running_loop()


@pytest.mark.asyncio
async def test_echo(address):
    assert asyncio.get_running_loop().backend == BACKEND
    reader, writer = await asyncio.open_connection(*address)
    writer.write(b"line\\n")
    assert await reader.read() == b"line\\n"
    writer.close()
    await writer.wait_closed()


@pytest.mark.asyncio(loop_scope="module")
async def test_shared(shared):
    assert asyncio.get_running_loop() is shared
    assert shared.backend == BACKEND


@pytest.mark.asyncio(loop_scope="module")
async def test_child(shared):
    process = await asyncio.create_subprocess_exec("true")
    assert await process.wait() == 0


def test_without_a_loop():
    with pytest.raises(RuntimeError):
        asyncio.get_running_loop()
"""
AIOHTTP_SUITE = """
import asyncio
from aiohttp import web


async def hello(request):
    return web.Response(text=asyncio.get_running_loop().backend)


async def test_client(aiohttp_client):
    app = web.Application()
    app.router.add_get("/", hello)
    client = await aiohttp_client(app)
    for _ in range(20):
        assert await (await client.get("/")).text() == BACKEND
"""


def run_suite(folder: Path, suite: str, settings: str, loop_kind: str) -> str:
    (folder / "test_suite.py").write_text(suite.replace("BACKEND", repr(loop_kind)))
    settings += "\nasyncio_default_fixture_loop_scope = function\n"  # 1.5 warns without it
    (folder / "pytest.ini").write_text(f"[pytest]\n{settings}")
    command = [sys.executable, "-W", "error", "-m", "pytest", "-q", *without("anyio")]
    return output_of(command, folder, URINGLOOP_BACKEND=loop_kind)


def test_pytest_asyncio_runs_a_suite_on_our_loop(tmp_path: Path, loop_kind: str) -> None:
    write_files("pytest-asyncio", tmp_path)
    assert "4 passed" in run_suite(tmp_path, SUITE, "asyncio_mode = strict", loop_kind)


def test_pytest_aiohttp_runs_a_suite_on_our_loop(tmp_path: Path, loop_kind: str) -> None:
    pytest.importorskip("pytest_aiohttp")
    write_files("pytest-asyncio", tmp_path)
    assert "1 passed" in run_suite(tmp_path, AIOHTTP_SUITE, "asyncio_mode = auto", loop_kind)
