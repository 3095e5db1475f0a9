"""The demo's proxy carries bytes, end of file, back-pressure and failure, on each loop."""

from __future__ import annotations

import asyncio
import hashlib
import random
import socket
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any

import pytest

from bench import loops
from bench.errors import MissingError
from bench.proxy import ClientSide, start_proxy

LIMIT_S = 60.0
BULK_BYTES = 24 * 1024 * 1024
CHUNK_BYTES = 256 * 1024
HOST = "127.0.0.1"

Run = Callable[[Coroutine[Any, Any, None]], None]
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture(params=["asyncio", "uringloop", "uringloop-epoll"])
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    """Runs a coroutine on a loop of each kind; skipped, with the reason, where it is missing.

    What the loop's exception handler is given fails the test.
    """
    try:
        loop = loops.new_event_loop(request.param)
    except MissingError as error:
        pytest.skip(str(error))
    complaints: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    yield lambda main: loop.run_until_complete(asyncio.wait_for(main, LIMIT_S))
    loop.close()
    assert complaints == []


async def read_to_end(reader: asyncio.StreamReader) -> bytes:
    return await reader.read(-1)


async def write_all(writer: asyncio.StreamWriter, data: bytes) -> None:
    """In chunks and waiting for each, then end of file."""
    for start in range(0, len(data), CHUNK_BYTES):
        writer.write(data[start : start + CHUNK_BYTES])
        await writer.drain()
    writer.write_eof()


async def through_proxy(upstream: Handler, client: Handler) -> None:
    """Run both handlers to their end, with a proxy between them."""
    accepted: asyncio.Future[Streams] = asyncio.get_running_loop().create_future()
    server = await asyncio.start_server(lambda *streams: accepted.set_result(streams), HOST, 0)
    proxy = await start_proxy(HOST, 0, HOST, port_of(server))

    async def run_upstream() -> None:
        await run_handler(upstream, await accepted)

    streams = await asyncio.open_connection(HOST, port_of(proxy))
    await asyncio.gather(run_upstream(), run_handler(client, streams))
    for each in (proxy, server):
        each.close()
        await each.wait_closed()


async def run_handler(handler: Handler, streams: Streams) -> None:
    reader, writer = streams
    await handler(reader, writer)
    writer.close()
    await writer.wait_closed()


def port_of(server: asyncio.Server) -> int:
    return int(server.sockets[0].getsockname()[1])


def test_half_close_is_carried_both_ways(run: Run) -> None:
    """The upstream answers only after end of file, the client reads its answer to the end:
    both see an end of file while the other direction still works."""

    async def upstream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await read_to_end(reader)
        writer.write(b"answer to " + request)
        writer.write_eof()

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"question")
        writer.write_eof()
        assert await read_to_end(reader) == b"answer to question"

    run(through_proxy(upstream, client))


def test_the_upstream_may_end_first(run: Run) -> None:
    async def upstream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"greeting")
        writer.write_eof()
        assert await read_to_end(reader) == b"late words"

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await read_to_end(reader) == b"greeting"
        writer.write(b"late words")
        writer.write_eof()

    run(through_proxy(upstream, client))


def test_bulk_in_both_directions_at_once_arrives_unchanged(run: Run) -> None:
    """Different random bytes each way, far more than all buffers hold, compared by checksum."""
    numbers = random.Random(2)
    to_upstream, to_client = numbers.randbytes(BULK_BYTES), numbers.randbytes(BULK_BYTES)

    def exchange(sends: bytes, expects: bytes) -> Handler:
        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            received, _ = await asyncio.gather(read_to_end(reader), write_all(writer, sends))
            assert len(received) == len(expects)
            assert hashlib.sha256(received).digest() == hashlib.sha256(expects).digest()

        return handler

    run(through_proxy(exchange(to_client, to_upstream), exchange(to_upstream, to_client)))


def test_a_client_without_upstream_is_closed(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as unused:
        unused.bind((HOST, 0))  # bound, not listening: connecting is refused
        port = unused.getsockname()[1]

        async def main() -> None:
            proxy = await start_proxy(HOST, 0, HOST, port)
            reader, writer = await asyncio.open_connection(HOST, port_of(proxy))
            try:
                assert await reader.read() == b""
            except ConnectionResetError:
                pass  # an abort may arrive as either
            writer.close()
            proxy.close()
            await proxy.wait_closed()

        run(main())
    assert "no upstream" in capsys.readouterr().err


class RecordingTransport(asyncio.Transport):
    """Remembers the calls it got."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[object] = []

    def write(self, data: object) -> None:
        self.calls.append(data)

    def write_eof(self) -> None:
        self.calls.append("write_eof")

    def pause_reading(self) -> None:
        self.calls.append("pause_reading")

    def resume_reading(self) -> None:
        self.calls.append("resume_reading")

    def close(self) -> None:
        self.calls.append("close")

    def abort(self) -> None:
        self.calls.append("abort")

    def is_closing(self) -> bool:
        return "close" in self.calls or "abort" in self.calls


class ConnectedPair:
    """A client side and its upstream side on recording transports, without a loop."""

    def __init__(self) -> None:
        self.client = ClientSide(HOST, 1)
        self.client_transport = RecordingTransport()
        self.client_calls = self.client_transport.calls
        self.client.transport = self.client_transport
        self.upstream_transport = RecordingTransport()
        self.upstream_calls = self.upstream_transport.calls

    def connect(self) -> None:
        self.client.partner.connection_made(self.upstream_transport)


def test_a_side_that_is_slow_to_take_bytes_stops_the_reading_on_the_other_side() -> None:
    pair = ConnectedPair()
    pair.connect()
    pair.client_calls.clear()
    pair.client.partner.pause_writing()
    pair.client.partner.resume_writing()
    pair.client.pause_writing()
    pair.client.resume_writing()
    assert pair.client_calls == ["pause_reading", "resume_reading"]
    assert pair.upstream_calls == ["pause_reading", "resume_reading"]


def test_what_comes_before_the_upstream_is_there_is_handed_over_in_order() -> None:
    """A loop may deliver bytes, and the end, although reading has been paused."""
    pair = ConnectedPair()
    pair.client.data_received(b"one")
    pair.client.data_received(b"two")
    pair.client.eof_received()
    pair.connect()
    pair.client.partner.data_received(b"answer")
    assert pair.upstream_calls == [b"one", b"two", "write_eof"]
    assert pair.client_calls == ["resume_reading", b"answer"]


def test_both_sides_close_when_both_directions_have_ended() -> None:
    pair = ConnectedPair()
    pair.connect()
    pair.client_calls.clear()
    assert pair.client.eof_received() is True
    assert "close" not in [*pair.client_calls, *pair.upstream_calls]
    assert pair.client.partner.eof_received() is True
    assert pair.client_calls == ["write_eof", "close"]
    assert pair.upstream_calls == ["write_eof", "close"]


def test_a_broken_side_aborts_its_partner_and_an_orderly_one_closes_it() -> None:
    broken, orderly = ConnectedPair(), ConnectedPair()
    for pair in (broken, orderly):
        pair.connect()
    broken.client.connection_lost(ConnectionResetError())
    orderly.client.connection_lost(None)
    assert broken.upstream_calls == ["abort"]
    assert orderly.upstream_calls == ["close"]


def test_an_upstream_that_comes_too_late_is_aborted() -> None:
    pair = ConnectedPair()
    pair.client_transport.abort()
    pair.connect()
    assert pair.upstream_calls == ["abort"]
