"""Programs that people run: aiohttp, uvicorn under load, a gibibyte through one connection."""

from __future__ import annotations

import asyncio
import contextlib
import io
import random
import re
import shutil
import socket
import zlib
from asyncio import AbstractEventLoop
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import aiohttp
import pytest
import uvicorn
from aiohttp import web
from peers import Recorder, in_thread, numbered_bytes, wire

GIBIBYTE = 1 << 30
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


async def hello_app(scope: Any, receive: Any, send: Any) -> None:
    assert scope["type"] == "http"
    headers = [(b"content-type", b"text/plain")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"Hello, world!"})


@contextlib.asynccontextmanager
async def uvicorn_server(http: str) -> AsyncIterator[tuple[str, int]]:
    options: dict[str, Any] = {"lifespan": "off", "ws": "none", "log_level": "warning"}
    config = uvicorn.Config(hello_app, http=http, access_log=False, **options)
    server = uvicorn.Server(config)
    listener = socket.create_server(("127.0.0.1", 0))
    serving = asyncio.ensure_future(server.serve(sockets=[listener]))
    try:
        yield listener.getsockname()
    finally:
        server.should_exit = True
        await serving
        listener.close()


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
    assert int(re.findall(r"(\d+) requests in", out)[0]) > 500


def blocks() -> Iterator[bytes]:
    """A gibibyte, a mebibyte at a time, in an order that repeats late."""
    chance = random.Random(3)
    distinct = [chance.randbytes(MEBIBYTE) for _ in range(16)]
    return (distinct[(number * number + number // 16) % 16] for number in range(1024))


def checksum(pieces: Iterator[bytes]) -> int:
    value = 0
    for piece in pieces:
        value = zlib.crc32(piece, value)
    return value


def receive_and_sum(sock: socket.socket) -> tuple[int, int]:
    value = count = 0
    buffer = bytearray(MEBIBYTE)
    with memoryview(buffer) as view:
        while size := sock.recv_into(buffer):
            value = zlib.crc32(view[:size], value)
            count += size
    return count, value


class Summing(Recorder):
    """Keeps a checksum instead of the data."""

    count = value = 0

    def data_received(self, data: bytes) -> None:
        self.count += len(data)
        self.value = zlib.crc32(data, self.value)


class Sender(Recorder):
    """Sends while it may, as flow control wants it."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.left = blocks()
        self.paused = False
        self.send()

    def send(self) -> None:
        while not self.paused:
            block = next(self.left, None)
            if block is None:
                self.transport.close()
                return
            self.transport.write(block)

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        self.send()


@pytest.mark.ours
@pytest.mark.parametrize("family", ["tcp", "unix"])
async def test_a_gibibyte_is_sent_whole(family: str, loop: AbstractEventLoop) -> None:
    async with wire(Sender, family) as connection:
        count, value = await in_thread(receive_and_sum, connection.peer)
        assert count == GIBIBYTE
        assert value == await in_thread(checksum, blocks())
        assert await connection.protocol.lost is None


@pytest.mark.ours
@pytest.mark.parametrize("family", ["tcp", "unix"])
async def test_a_gibibyte_is_received_whole(family: str, loop: AbstractEventLoop) -> None:
    async with wire(Summing, family) as connection:
        await in_thread(_send_all, connection.peer, blocks)
        assert await connection.protocol.lost is None
        assert connection.protocol.count == GIBIBYTE
        assert connection.protocol.value == await in_thread(checksum, blocks())


def _send_all(sock: socket.socket, pieces: Callable[[], Iterator[bytes]]) -> None:
    for piece in pieces():
        sock.sendall(piece)
    sock.close()
