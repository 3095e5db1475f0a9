"""Programs as the asyncio documentation has them: streams, subprocesses, datagrams, pipes."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from asyncio import AbstractEventLoop
from pathlib import Path

import pytest
from peers import numbered_bytes

BULK_BYTES = 3_000_000


async def echo_until_eof(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1000):
        writer.write(data)
        await writer.drain()
    writer.close()
    await writer.wait_closed()


async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, text: bytes) -> bytes:
    writer.write(text)
    await writer.drain()
    answer = await reader.readexactly(len(text))
    writer.close()
    await writer.wait_closed()
    return answer


async def test_tcp_echo_with_streams(loop: AbstractEventLoop) -> None:
    server = await asyncio.start_server(echo_until_eof, "127.0.0.1", 0)
    async with server:
        streams = await asyncio.open_connection(*server.sockets[0].getsockname())
        assert await say(*streams, b"Hello World!") == b"Hello World!"


async def test_tcp_echo_in_debug_mode(loop: AbstractEventLoop) -> None:
    loop.set_debug(True)
    async with await asyncio.start_server(echo_until_eof, "127.0.0.1", 0) as server:
        streams = await asyncio.open_connection(*server.sockets[0].getsockname())
        assert await say(*streams, b"Hello World!") == b"Hello World!"


async def test_unix_echo_with_streams(tmp_path: Path, loop: AbstractEventLoop) -> None:
    path = str(tmp_path / "socket")
    async with await asyncio.start_unix_server(echo_until_eof, path):
        streams = await asyncio.open_unix_connection(path)
        assert await say(*streams, b"Hello World!") == b"Hello World!"


async def test_bulk_through_streams_keeps_its_order(loop: AbstractEventLoop) -> None:
    payload = numbered_bytes(BULK_BYTES)
    async with await asyncio.start_server(echo_until_eof, "127.0.0.1", 0) as server:
        streams = await asyncio.open_connection(*server.sockets[0].getsockname())
        saying = say(*streams, payload)
        assert await saying == payload


async def test_many_clients_at_once(loop: AbstractEventLoop) -> None:
    async with await asyncio.start_server(echo_until_eof, "127.0.0.1", 0) as server:
        address = server.sockets[0].getsockname()

        async def client(number: int) -> bool:
            text = b"%d" % number * 100
            return await say(*await asyncio.open_connection(*address), text) == text

        assert all(await asyncio.gather(*map(client, range(150))))


async def test_lines_and_separators(loop: AbstractEventLoop) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for number in range(1000):
            writer.write(b"line %d\n" % number)
        writer.writelines([b"until", b"|", b"rest"])
        writer.write_eof()
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        assert [await reader.readline() for _ in range(1000)] == [
            b"line %d\n" % number for number in range(1000)
        ]
        assert await reader.readuntil(b"|") == b"until|"
        assert await reader.read() == b"rest"
        assert reader.at_eof()
        writer.close()
        await writer.wait_closed()


async def test_a_line_over_the_limit_is_an_error_and_the_stream_goes_on(
    loop: AbstractEventLoop,
) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"x" * 5000 + b"\n" + b"short\n")
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        address = server.sockets[0].getsockname()
        reader, writer = await asyncio.open_connection(*address, limit=100)
        with pytest.raises(ValueError, match=r"chunk is longer than limit|Separator is"):
            await reader.readline()
        writer.close()
        await writer.wait_closed()


async def test_a_reader_that_is_cut_off_tells_what_it_has(loop: AbstractEventLoop) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"only this")
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        with pytest.raises(asyncio.IncompleteReadError) as raised:
            await reader.readexactly(100)
        assert raised.value.partial == b"only this"
        writer.close()
        await writer.wait_closed()


async def test_a_proxy_between_client_and_server(loop: AbstractEventLoop) -> None:
    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
        writer.write_eof()

    async with await asyncio.start_server(echo_until_eof, "127.0.0.1", 0) as upstream:
        address = upstream.sockets[0].getsockname()

        async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            up_reader, up_writer = await asyncio.open_connection(*address)
            await asyncio.gather(pump(reader, up_writer), pump(up_reader, writer))
            for each in (writer, up_writer):
                each.close()
                await each.wait_closed()

        async with await asyncio.start_server(proxy, "127.0.0.1", 0) as front:
            streams = await asyncio.open_connection(*front.sockets[0].getsockname())
            payload = numbered_bytes(BULK_BYTES)
            assert await say(*streams, payload) == payload


async def test_producer_and_consumer_over_a_queue(loop: AbstractEventLoop) -> None:
    queue: asyncio.Queue[int] = asyncio.Queue(maxsize=3)

    async def produce() -> None:
        for number in range(200):
            await queue.put(number)

    async def consume() -> list[int]:
        return [await queue.get() for _ in range(200)]

    assert (await asyncio.gather(produce(), consume()))[1] == list(range(200))


@pytest.mark.skipif(sys.version_info < (3, 11), reason="TaskGroup came with 3.11")
async def test_a_task_group_cancels_the_others(loop: AbstractEventLoop) -> None:
    async def fail() -> None:
        await asyncio.sleep(0.001)
        raise LookupError

    cancelled = asyncio.Event()

    async def wait() -> None:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    with pytest.raises(ExceptionGroup):  # noqa: F821
        async with asyncio.TaskGroup() as group:
            group.create_task(wait())
            group.create_task(fail())
    assert cancelled.is_set()


async def test_a_subprocess_is_fed_read_and_waited_for(loop: AbstractEventLoop) -> None:
    code = "import sys; text = sys.stdin.read(); print(text.upper()); sys.exit(3)"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate(b"shout " * 20_000)
    assert out.split() == [b"SHOUT"] * 20_000
    assert process.returncode == 3


async def test_a_shell_command_writes_to_both_outputs(loop: AbstractEventLoop) -> None:
    process = await asyncio.create_subprocess_shell(
        "echo out; echo err >&2", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    assert await process.communicate() == (b"out\n", b"err\n")
    assert process.returncode == 0


async def test_a_subprocess_can_be_killed(loop: AbstractEventLoop) -> None:
    process = await asyncio.create_subprocess_exec("sleep", "3600")
    process.kill()
    assert await process.wait() == -9


class DatagramRecorder(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.queue: asyncio.Queue[tuple[bytes, object]] = asyncio.Queue()
        self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

    def datagram_received(self, data: bytes, addr: object) -> None:
        self.queue.put_nowait((data, addr))

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(exc)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_datagrams_go_there_and_back(host: str, loop: AbstractEventLoop) -> None:
    server, server_protocol = await loop.create_datagram_endpoint(
        DatagramRecorder, local_addr=(host, 0)
    )
    address = server.get_extra_info("sockname")
    client, client_protocol = await loop.create_datagram_endpoint(
        DatagramRecorder, remote_addr=address[:2]
    )
    for message in (b"hello", b"x" * 5000):
        client.sendto(message)
        data, sender = await server_protocol.queue.get()
        assert data == message
        server.sendto(data[::-1], sender)
        assert (await client_protocol.queue.get())[0] == message[::-1]
    for transport, protocol in ((client, client_protocol), (server, server_protocol)):
        transport.close()
        assert await protocol.lost is None


async def test_pipes_are_read_and_written(loop: AbstractEventLoop) -> None:
    reading, writing = os.pipe()
    reader = asyncio.StreamReader()
    read_transport, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(reading, "rb", 0)
    )
    write_transport, _ = await loop.connect_write_pipe(
        asyncio.BaseProtocol, os.fdopen(writing, "wb", 0)
    )
    payload = numbered_bytes(300_000)
    write_transport.write(payload)
    write_transport.close()
    assert await reader.read() == payload
    read_transport.close()


async def test_sendfile_sends_a_file(tmp_path: Path, loop: AbstractEventLoop) -> None:
    payload = numbered_bytes(400_000)
    (tmp_path / "file").write_bytes(payload)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with (tmp_path / "file").open("rb") as file:
            assert await loop.sendfile(writer.transport, file) == len(payload)
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        assert await reader.read() == payload
        writer.close()
        await writer.wait_closed()


async def test_sock_sendfile_sends_a_file(tmp_path: Path, loop: AbstractEventLoop) -> None:
    payload = numbered_bytes(100_000)
    (tmp_path / "file").write_bytes(payload)
    ours, peer = socket.socketpair()
    ours.setblocking(False)
    reader, writer = await asyncio.open_unix_connection(sock=peer)
    with ours, (tmp_path / "file").open("rb") as file:
        sending = loop.create_task(loop.sock_sendfile(ours, file))
        assert await reader.readexactly(len(payload)) == payload
        assert await sending == len(payload)
    writer.close()
    await writer.wait_closed()
