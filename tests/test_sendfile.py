"""sendfile and sock_sendfile: what is sent, where the file's position is left, how it ends."""

from __future__ import annotations

import asyncio
import io
import os
import socket
import ssl
import sys
from asyncio import AbstractEventLoop
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest
import trustme
from peers import (
    Pair,
    Recorder,
    in_thread,
    limit_buffers,
    numbered_bytes,
    recv_exactly,
    recv_until_eof,
    reset,
    turns,
    wire,
)

SIZE = 1_000_000
SPARSE_BYTES = 4 * 1024**3 + 4096


@pytest.fixture
def file(tmp_path: Path) -> Iterator[IO[bytes]]:
    """A file of SIZE numbered bytes."""
    path = tmp_path / "file"
    path.write_bytes(numbered_bytes(SIZE))
    with path.open("r+b") as opened:
        yield opened


async def test_a_file_is_sent_whole(file: IO[bytes], pair: Pair, loop: AbstractEventLoop) -> None:
    reading = in_thread(recv_exactly, pair[1], SIZE)
    assert await loop.sock_sendfile(pair[0], file) == SIZE
    assert await reading == numbered_bytes(SIZE)
    assert file.tell() == SIZE


@pytest.mark.parametrize(
    ("offset", "count", "expected"),
    [(1000, 2000, 2000), (SIZE - 10, None, 10), (SIZE - 10, 100, 10), (0, SIZE * 2, SIZE)],
)
async def test_a_part_of_a_file_is_sent(
    offset: int,
    count: int | None,
    expected: int,
    file: IO[bytes],
    pair: Pair,
    loop: AbstractEventLoop,
) -> None:
    reading = in_thread(recv_exactly, pair[1], expected)
    file.seek(7)
    assert await loop.sock_sendfile(pair[0], file, offset, count) == expected
    assert await reading == numbered_bytes(SIZE)[offset : offset + expected]
    assert file.tell() == offset + expected


async def test_beyond_the_end_there_is_nothing_to_send(
    file: IO[bytes], pair: Pair, loop: AbstractEventLoop, tmp_path: Path
) -> None:
    file.seek(7)
    assert await loop.sock_sendfile(pair[0], file, SIZE + 1) == 0
    assert await loop.sock_sendfile(pair[0], file, SIZE, 10) == 0
    with (tmp_path / "empty").open("w+b") as empty:
        assert await loop.sock_sendfile(pair[0], empty) == 0
    # Since 3.14 asyncio sets the position also where nothing was sent.
    assert file.tell() == (7 if sys.version_info < (3, 14) else SIZE)


@pytest.mark.parametrize(
    ("offset", "count", "error"),
    [
        (-1, None, ValueError),
        (0, 0, ValueError),
        (0, -1, ValueError),
        (0, "1", TypeError),
        (0.5, None, TypeError),
    ],
)
async def test_odd_arguments_are_refused(
    offset: Any,
    count: Any,
    error: type,
    file: IO[bytes],
    pair: Pair,
    loop: AbstractEventLoop,
) -> None:
    with pytest.raises(error):
        await loop.sock_sendfile(pair[0], file, offset, count)
    transport, _ = await loop.create_unix_connection(asyncio.Protocol, sock=pair[0])
    with pytest.raises(error):
        await loop.sendfile(transport, file, offset, count)
    transport.write(b"still usable")
    assert await in_thread(recv_exactly, pair[1], 12) == b"still usable"
    transport.close()
    await turns(3)


async def test_files_of_text_and_sockets_of_datagrams_are_refused(
    file: IO[bytes], pair: Pair, loop: AbstractEventLoop
) -> None:
    with io.TextIOWrapper(io.BytesIO()) as text, pytest.raises(ValueError, match="binary mode"):
        text.mode = "r"
        await loop.sock_sendfile(pair[0], text)
    with socket.socket(type=socket.SOCK_DGRAM) as datagrams:
        datagrams.setblocking(False)
        with pytest.raises(ValueError, match="SOCK_STREAM"):
            await loop.sock_sendfile(datagrams, file)


async def test_what_is_no_file_is_read_and_sent(pair: Pair, loop: AbstractEventLoop) -> None:
    memory = io.BytesIO(numbered_bytes(100_000))
    with pytest.raises(asyncio.SendfileNotAvailableError):
        await loop.sock_sendfile(pair[0], memory, fallback=False)
    reading = in_thread(recv_exactly, pair[1], 99_000)
    assert await loop.sock_sendfile(pair[0], memory, 1000) == 99_000
    assert await reading == numbered_bytes(100_000)[1000:]
    assert memory.tell() == 100_000


@pytest.mark.difference("write_is_a_snapshot")
async def test_what_is_no_file_goes_over_a_transport_too(loop: AbstractEventLoop) -> None:
    async with wire(buffer_bytes=4096) as connection:
        memory = io.BytesIO(numbered_bytes(SIZE))
        with pytest.raises(asyncio.SendfileNotAvailableError):
            await loop.sendfile(connection.transport, memory, fallback=False)
        reading = in_thread(recv_exactly, connection.peer, SIZE)
        assert await loop.sendfile(connection.transport, memory) == SIZE
        assert await reading == numbered_bytes(SIZE)


async def test_a_closed_socket_cannot_be_sent_to(file: IO[bytes], loop: AbstractEventLoop) -> None:
    sock = socket.socket()
    sock.setblocking(False)
    sock.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        await loop.sock_sendfile(sock, file)


async def test_what_was_written_goes_first_and_what_comes_after_goes_last(
    file: IO[bytes], loop: AbstractEventLoop
) -> None:
    async with wire(buffer_bytes=4096) as connection:
        transport = connection.transport
        before, after = b"b" * 100_000, b"a" * 100_000
        reading = in_thread(recv_exactly, connection.peer, SIZE + 200_000)
        transport.write(before)
        sending = loop.create_task(loop.sendfile(transport, file))
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="sendfile is in progress"):
            transport.write(b"between")
        assert await sending == SIZE
        transport.write(after)
        assert await reading == before + numbered_bytes(SIZE) + after
        assert file.tell() == SIZE


async def test_nothing_is_delivered_while_a_file_is_sent_and_all_of_it_afterwards(
    file: IO[bytes], loop: AbstractEventLoop
) -> None:
    async with wire(buffer_bytes=4096) as connection:
        sending = loop.create_task(loop.sendfile(connection.transport, file))
        await turns(2)
        connection.peer.sendall(b"meanwhile")
        await turns(10)
        assert "data" not in connection.protocol.calls
        await in_thread(recv_exactly, connection.peer, SIZE)
        assert await sending == SIZE
        assert await connection.protocol.received(9) == b"meanwhile"


async def test_a_closing_transport_and_a_second_file_are_refused(
    file: IO[bytes], loop: AbstractEventLoop
) -> None:
    async with wire() as connection:
        connection.transport.close()
        with pytest.raises(RuntimeError, match="closing"):
            await loop.sendfile(connection.transport, file)
    assert file.tell() == 0


@pytest.mark.difference("sendfile_while_closing")
@pytest.mark.parametrize("end", ["close", "abort"])
async def test_a_transport_that_is_closed_midway_is_an_error(
    end: str, file: IO[bytes], loop: AbstractEventLoop
) -> None:
    """The file's position tells how much went out; the peer gets that and the end."""
    async with wire(buffer_bytes=4096) as connection:
        sending = loop.create_task(loop.sendfile(connection.transport, file))
        await in_thread(recv_exactly, connection.peer, 10_000)
        getattr(connection.transport, end)()
        with pytest.raises(ConnectionError):
            await sending
        assert 10_000 <= file.tell() < SIZE
        await connection.protocol.lost
        rest = await in_thread(recv_until_eof, connection.peer)
        assert numbered_bytes(SIZE)[10_000:].startswith(rest)
        assert 10_000 + len(rest) == file.tell()


@pytest.mark.difference("sendfile_while_closing")
async def test_a_transport_that_is_closed_before_the_file_is_begun_is_an_error(
    file: IO[bytes], loop: AbstractEventLoop
) -> None:
    async with wire(buffer_bytes=4096) as connection:
        connection.transport.write(bytes(SIZE))
        sending = loop.create_task(loop.sendfile(connection.transport, file))
        await turns(3)
        connection.transport.close()
        reading = in_thread(recv_until_eof, connection.peer)
        with pytest.raises(ConnectionError):
            await sending
        assert await reading == bytes(SIZE)
        assert file.tell() == 0


async def test_a_peer_that_goes_away_midway_is_an_error(
    file: IO[bytes], loop: AbstractEventLoop
) -> None:
    async with wire(buffer_bytes=4096) as connection:
        sending = loop.create_task(loop.sendfile(connection.transport, file))
        await in_thread(recv_exactly, connection.peer, 10_000)
        reset(connection.peer)
        with pytest.raises(ConnectionError):
            await sending
        assert 10_000 <= file.tell() < SIZE
        await connection.protocol.lost


@pytest.mark.difference("cancelled_sendfile")
async def test_a_transport_is_usable_after_a_cancel_midway(
    file: IO[bytes], loop: AbstractEventLoop
) -> None:
    async with wire(buffer_bytes=4096) as connection:
        sending = loop.create_task(loop.sendfile(connection.transport, file))
        await in_thread(recv_exactly, connection.peer, 10_000)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        sent = file.tell()
        assert 10_000 <= sent < SIZE
        connection.transport.write(b"after")
        expected = numbered_bytes(SIZE)[10_000:sent] + b"after"
        assert await in_thread(recv_exactly, connection.peer, len(expected)) == expected
        connection.peer.sendall(b"answer")
        assert await connection.protocol.received(6) == b"answer"


@pytest.mark.difference("sendfile_while_closing")
async def test_a_transport_is_usable_after_a_cancel_before_the_file_is_begun(
    file: IO[bytes], loop: AbstractEventLoop
) -> None:
    async with wire(buffer_bytes=4096) as connection:
        connection.transport.write(bytes(SIZE))
        sending = loop.create_task(loop.sendfile(connection.transport, file))
        await turns(3)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        connection.transport.write(b"after")
        received = await in_thread(recv_exactly, connection.peer, SIZE + 5)
        assert received == bytes(SIZE) + b"after"
        connection.peer.sendall(b"answer")
        assert await connection.protocol.received(6) == b"answer"


@pytest.mark.difference("cancelled_sendfile")
async def test_a_socket_is_usable_after_a_cancel_midway(
    file: IO[bytes], pair: Pair, loop: AbstractEventLoop
) -> None:
    ours, peer = pair
    limit_buffers(ours, 4096)
    sending = loop.create_task(loop.sock_sendfile(ours, file))
    await in_thread(recv_exactly, peer, 10_000)
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    sent = file.tell()
    assert 10_000 <= sent < SIZE
    expected = numbered_bytes(SIZE)[10_000:sent] + b"after"
    reading = in_thread(recv_exactly, peer, len(expected))
    await loop.sock_sendall(ours, b"after")
    assert await reading == expected


@pytest.mark.difference("overlapping_calls")
async def test_a_file_and_what_is_sent_meanwhile_do_not_mix(
    file: IO[bytes], pair: Pair, loop: AbstractEventLoop
) -> None:
    ours, peer = pair
    limit_buffers(ours, 4096)
    sending = [
        loop.create_task(loop.sock_sendall(ours, b"1" * 100_000)),
        loop.create_task(loop.sock_sendfile(ours, file)),
        loop.create_task(loop.sock_sendall(ours, b"2" * 100_000)),
    ]
    received = await in_thread(recv_exactly, peer, SIZE + 200_000)
    assert received == b"1" * 100_000 + numbered_bytes(SIZE) + b"2" * 100_000
    assert await asyncio.gather(*sending) == [None, SIZE, None]


async def test_a_file_that_is_cut_while_it_is_sent_ends_there(
    file: IO[bytes], pair: Pair, loop: AbstractEventLoop
) -> None:
    ours, peer = pair
    limit_buffers(ours, 4096)
    sending = loop.create_task(loop.sock_sendfile(ours, file))
    await in_thread(recv_exactly, peer, 10_000)
    os.truncate(file.name, SIZE // 2)
    sending.add_done_callback(lambda _: ours.shutdown(socket.SHUT_WR))
    rest = await in_thread(recv_until_eof, peer)
    sent = await sending
    assert sent == 10_000 + len(rest) == file.tell()
    assert SIZE // 2 <= sent < SIZE
    assert rest[: SIZE // 2 - 10_000] == numbered_bytes(SIZE)[10_000 : SIZE // 2]


async def test_a_file_goes_over_tls_by_the_fallback(
    file: IO[bytes], loop: AbstractEventLoop
) -> None:
    authority = trustme.CA()
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(server_side)
    client_side = ssl.create_default_context()
    authority.configure_trust(client_side)
    protocols: list[Recorder] = []

    def made() -> Recorder:
        protocols.append(Recorder())
        return protocols[-1]

    server = await loop.create_server(made, "127.0.0.1", 0, ssl=server_side)
    port = server.sockets[0].getsockname()[1]
    transport, client = await loop.create_connection(
        Recorder, "127.0.0.1", port, ssl=client_side, server_hostname="localhost"
    )
    with pytest.raises(RuntimeError, match="fallback is disabled"):
        await loop.sendfile(transport, file, fallback=False)
    assert await loop.sendfile(transport, file, 1000) == SIZE - 1000
    assert await protocols[0].received(SIZE - 1000) == numbered_bytes(SIZE)[1000:]
    assert file.tell() == SIZE
    transport.close()
    await client.lost
    await protocols[0].lost
    server.close()
    await server.wait_closed()


async def test_transports_that_are_no_streams_are_refused(
    file: IO[bytes], loop: AbstractEventLoop
) -> None:
    datagrams, _ = await loop.create_datagram_endpoint(
        asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0)
    )
    reading, writing = os.pipe()
    pipe, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, os.fdopen(writing, "wb", 0))
    for transport in (datagrams, pipe):
        with pytest.raises(RuntimeError, match="not supported"):
            await loop.sendfile(transport, file)
        transport.close()
    os.close(reading)
    await turns(3)


async def test_a_sparse_file_of_four_gibibytes_arrives_in_order(loop: AbstractEventLoop) -> None:
    """Row 12. The file is in memory, where reading a hole costs nearly nothing. Marks stand
    around each power of two that a count of bytes could wrap at; the receiver looks at the marks
    and counts the rest."""
    marks = {0: b"first", 2**31 - 3: b"signed", 2**32 - 3: b"unsigned", SPARSE_BYTES - 4: b"last"}
    with os.fdopen(os.memfd_create("sparse"), "w+b") as file:
        file.truncate(SPARSE_BYTES)
        for where, mark in marks.items():
            os.pwrite(file.fileno(), mark, where)
        async with wire() as connection:
            reading = in_thread(_read_marks, connection.peer, marks)
            assert await loop.sendfile(connection.transport, file) == SPARSE_BYTES
            assert await reading == marks
        assert file.tell() == SPARSE_BYTES


def _read_marks(sock: socket.socket, marks: dict[int, bytes]) -> dict[int, bytes]:
    """What stands where the marks should; the bytes between them are only counted."""
    found = {}
    position = 0
    for where, mark in marks.items():
        _discard(sock, where - position)
        found[where] = recv_exactly(sock, len(mark))
        position = where + len(mark)
    return found


def _discard(sock: socket.socket, count: int) -> None:
    """Has the kernel drop so many bytes of a TCP stream, uncopied."""
    room = bytearray(1 << 22)
    while count:
        dropped = sock.recv_into(room, min(count, len(room)), socket.MSG_TRUNC)
        assert dropped, f"ended {count} bytes too early"
        count -= dropped
