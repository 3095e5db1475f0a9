"""aiohttp, server and client on the loop under test; and as users start it."""

from __future__ import annotations

import asyncio
import contextlib
import io
import sys
import zlib
from asyncio import AbstractEventLoop
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from peers import numbered_bytes

from tests.frameworks.documented import write_files
from tests.frameworks.serving import load, serving

MEBIBYTE = 1 << 20


@contextlib.asynccontextmanager
async def aiohttp_server() -> AsyncIterator[str]:
    app = web.Application(client_max_size=10 * MEBIBYTE)
    app.router.add_post("/echo", _echo_body)
    app.router.add_get("/chunks", _chunks)
    app.router.add_get("/websocket", _echo_messages)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0]
    try:
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()


async def _echo_body(request: web.Request) -> web.Response:
    return web.Response(body=await request.read())


async def _chunks(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    for start in range(0, MEBIBYTE, 10_000):
        await response.write(numbered_bytes(10_000, start))
    await response.write_eof()
    return response


async def _echo_messages(request: web.Request) -> web.WebSocketResponse:
    websocket = web.WebSocketResponse()
    await websocket.prepare(request)
    async for message in websocket:
        await websocket.send_bytes(message.data)
    return websocket


async def test_aiohttp_echoes_many_requests_at_once(loop: AbstractEventLoop) -> None:
    async with aiohttp_server() as url, aiohttp.ClientSession() as session:

        async def echo(number: int) -> bool:
            body = numbered_bytes(1 + number * 997)
            async with session.post(f"{url}/echo", data=body) as response:
                return response.status == 200 and await response.read() == body

        assert all(await asyncio.gather(*map(echo, range(200))))


async def test_aiohttp_streams_a_large_answer(loop: AbstractEventLoop) -> None:
    async with aiohttp_server() as url, aiohttp.ClientSession() as session:
        async with session.get(f"{url}/chunks") as response:
            body = await response.read()
        assert body == b"".join(
            numbered_bytes(10_000, start) for start in range(0, MEBIBYTE, 10_000)
        )


async def test_aiohttp_takes_a_large_body(loop: AbstractEventLoop) -> None:
    body = numbered_bytes(5 * MEBIBYTE)
    async with aiohttp_server() as url, aiohttp.ClientSession() as session:
        response = await session.post(f"{url}/echo", data=io.BytesIO(body))
        assert zlib.crc32(await response.read()) == zlib.crc32(body)


async def test_aiohttp_talks_over_a_websocket(loop: AbstractEventLoop) -> None:
    async with aiohttp_server() as url, aiohttp.ClientSession() as session:
        websocket = await session.ws_connect(f"{url}/websocket")
        for size in (1, 125, 126, 65_535, 65_536, 1_000_000):
            await websocket.send_bytes(numbered_bytes(size))
            assert await websocket.receive_bytes() == numbered_bytes(size)
        await websocket.close()


@pytest.mark.ours
def test_the_documented_program_serves_on_our_loop(tmp_path: Path, loop_kind: str) -> None:
    write_files("aiohttp", tmp_path)
    command = [sys.executable, "serve.py"]
    with serving(command, tmp_path, URINGLOOP_BACKEND=loop_kind) as served:
        assert load(served.address) == {f"uringloop.loop {loop_kind}"}
