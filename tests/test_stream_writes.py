"""What may be written to a stream, and that exactly this reaches the peer."""

from __future__ import annotations

import array
import asyncio
import contextlib
import itertools
import mmap
import random
import socket
import sys
from asyncio import AbstractEventLoop
from collections.abc import Iterable
from typing import Any

import pytest
from peers import (
    FAMILIES,
    Recorder,
    in_thread,
    limit_buffers,
    numbered_bytes,
    recv_exactly,
    recv_until_eof,
    turns,
    wire,
)

BACKLOG_BYTES = 2_000_000  # more than the small kernel buffers of these tests hold


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
async def test_write_takes_bytes_like_objects(kind: Any, loop: AbstractEventLoop) -> None:
    async with wire() as connection:
        connection.transport.write(kind(b"content"))
        assert await in_thread(recv_exactly, connection.peer, 7) == b"content"


@pytest.mark.parametrize("value", ["text", 42, None, [b"x"], array.array("b", [1])], ids=repr)
async def test_write_refuses_everything_else(value: Any, loop: AbstractEventLoop) -> None:
    async with wire() as connection:
        with pytest.raises(TypeError, match=r"data argument must be a bytes(-like|, .*) object"):
            connection.transport.write(value)
        assert not connection.transport.is_closing()


async def test_write_takes_a_subclass_of_bytes(loop: AbstractEventLoop) -> None:
    class Special(bytes):
        pass

    async with wire() as connection:
        connection.transport.write(Special(b"special"))
        assert await in_thread(recv_exactly, connection.peer, 7) == b"special"


async def test_an_empty_write_sends_nothing(loop: AbstractEventLoop) -> None:
    async with wire() as connection:
        for empty in (b"", bytearray(), memoryview(b"")):
            connection.transport.write(empty)
        connection.transport.write(b"after")
        assert await in_thread(recv_exactly, connection.peer, 5) == b"after"


async def test_a_memoryview_of_wider_items_is_sent_as_its_bytes(loop: AbstractEventLoop) -> None:
    words = array.array("I", range(1000))
    async with wire() as connection:
        connection.transport.write(memoryview(words))
        assert await in_thread(recv_exactly, connection.peer, 4000) == words.tobytes()


@pytest.mark.difference("wide_memoryview")
async def test_a_memoryview_of_wider_items_behind_a_backlog_is_sent_as_its_bytes(
    loop: AbstractEventLoop,
) -> None:
    words = array.array("Q", range(100_000))
    async with wire(buffer_bytes=4096) as connection:
        connection.transport.write(memoryview(words))
        connection.transport.write(memoryview(words).cast("B").cast("Q", [100, 1000]))
        connection.transport.close()
        assert await in_thread(recv_until_eof, connection.peer) == words.tobytes() * 2


@pytest.mark.difference("strided_memoryview")
async def test_a_memoryview_with_gaps_is_sent_without_them(loop: AbstractEventLoop) -> None:
    source = numbered_bytes(10_000)
    async with wire() as connection:
        connection.transport.write(memoryview(source)[::2])
        connection.transport.write(memoryview(source)[::-1])
        connection.transport.writelines([memoryview(source)[::3], b"end"])
        connection.transport.close()
        expected = source[::2] + source[::-1] + source[::3] + b"end"
        assert await in_thread(recv_until_eof, connection.peer) == expected


@pytest.mark.parametrize("size", [10, 3000, 100_000, BACKLOG_BYTES])
@pytest.mark.difference("write_is_a_snapshot")
async def test_what_is_changed_after_write_is_sent_as_it_was(
    size: int, loop: AbstractEventLoop
) -> None:
    """Row 13."""
    async with wire(buffer_bytes=4096) as connection:
        data = bytearray(b"a" * size)
        connection.transport.write(data)
        data[:] = b"b" * size
        connection.transport.write(memoryview(data))
        data[:] = b"c" * size
        connection.transport.writelines([data, memoryview(data)])
        data[:] = b"d" * size
        connection.transport.close()
        expected = b"a" * size + b"b" * size + b"c" * 2 * size
        assert await in_thread(recv_until_eof, connection.peer) == expected


async def test_a_written_bytearray_can_be_resized(loop: AbstractEventLoop) -> None:
    """Row 13: no export of the buffer is kept beyond write() when all was sent."""
    async with wire() as connection:
        data = bytearray(b"x" * 100)
        connection.transport.write(data)
        data.clear()
        assert await in_thread(recv_exactly, connection.peer, 100) == b"x" * 100


@pytest.mark.difference("write_is_a_snapshot")
async def test_a_mapped_file_may_be_unmapped_after_write(loop: AbstractEventLoop) -> None:
    """Row 13."""
    async with wire(buffer_bytes=4096) as connection:
        with mmap.mmap(-1, 1_000_000) as mapped:
            mapped[:] = b"m" * 1_000_000
            with memoryview(mapped) as view:
                connection.transport.write(view)
        connection.transport.close()
        assert await in_thread(recv_until_eof, connection.peer) == b"m" * 1_000_000


async def test_many_small_writes_in_one_turn_arrive_in_order(loop: AbstractEventLoop) -> None:
    """Row 11."""
    payload = numbered_bytes(30_000)
    async with wire() as connection:
        for start in range(0, len(payload), 3):
            connection.transport.write(payload[start : start + 3])
        assert await in_thread(recv_exactly, connection.peer, len(payload)) == payload


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("seed", range(3))
async def test_odd_writes_against_a_slow_reader_keep_their_order(
    seed: int, family: str, loop: AbstractEventLoop
) -> None:
    """Rows 11 and 12: small socket buffers force short sends; sizes from 1 to 100 000."""
    chance = random.Random(seed)
    payload = numbered_bytes(1_500_000)
    async with wire(family=family, buffer_bytes=4096) as connection:
        reading = in_thread(_read_slowly, connection.peer, random.Random(seed))
        for piece in _odd_pieces(payload, chance):
            connection.transport.write(piece)
            if chance.random() < 0.2:
                await asyncio.sleep(0)
        connection.transport.close()
        assert await reading == payload


def _odd_pieces(payload: bytes, chance: random.Random) -> Iterable[bytes]:
    start = 0
    while start < len(payload):
        size = chance.choice([1, 7, 100, 1000, 4097, 20_000, 100_000])
        yield payload[start : start + size]
        start += size


def _read_slowly(sock: socket.socket, chance: random.Random) -> bytes:
    data = bytearray()
    while piece := sock.recv(chance.choice([1, 100, 5000, 60_000])):
        data += piece
    return bytes(data)


async def test_writes_and_writelines_mix_in_order(loop: AbstractEventLoop) -> None:
    """Row 11."""
    payload = numbered_bytes(1_000_000)
    pieces = [payload[start : start + 1013] for start in range(0, len(payload), 1013)]
    async with wire(buffer_bytes=4096) as connection:
        for start in range(0, len(pieces), 5):
            connection.transport.write(pieces[start])
            connection.transport.writelines(pieces[start + 1 : start + 5])
        connection.transport.close()
        assert await in_thread(recv_until_eof, connection.peer) == payload


@pytest.mark.parametrize(
    "make",
    [list, tuple, iter, lambda pieces: (piece for piece in pieces)],
    ids=["list", "tuple", "iterator", "generator"],
)
async def test_writelines_takes_any_iterable(make: Any, loop: AbstractEventLoop) -> None:
    """Row 38."""
    pieces = [b"one ", bytearray(b"two "), memoryview(b"three ")]
    async with wire() as connection:
        connection.transport.writelines(make(pieces))
        assert await in_thread(recv_exactly, connection.peer, 14) == b"one two three "


async def test_writelines_of_more_pieces_than_one_system_call_takes(
    loop: AbstractEventLoop,
) -> None:
    """Row 12: IOV_MAX is 1024."""
    payload = numbered_bytes(50_000)
    pieces = [payload[start : start + 5] for start in range(0, len(payload), 5)]
    async with wire() as connection:
        connection.transport.writelines(pieces)
        assert await in_thread(recv_exactly, connection.peer, len(payload)) == payload


async def test_writelines_of_large_pieces_survives_short_sends(loop: AbstractEventLoop) -> None:
    payload = numbered_bytes(4_000_000)
    pieces = [payload[start : start + 333_333] for start in range(0, len(payload), 333_333)]
    async with wire(buffer_bytes=4096) as connection:
        connection.transport.writelines(pieces)
        connection.transport.write_eof()
        assert await in_thread(recv_until_eof, connection.peer) == payload


async def test_writelines_of_nothing_sends_nothing(loop: AbstractEventLoop) -> None:
    async with wire() as connection:
        connection.transport.writelines([])
        connection.transport.write(b"after")
        assert await in_thread(recv_exactly, connection.peer, 5) == b"after"


@pytest.mark.difference("writelines_empty_piece")
async def test_writelines_passes_over_empty_pieces(loop: AbstractEventLoop) -> None:
    async with wire() as connection:
        connection.transport.writelines([b"", b"a", b"", bytearray(), b"b", b""])
        connection.transport.writelines([b""])
        connection.transport.close()
        assert await in_thread(recv_until_eof, connection.peer) == b"ab"


async def test_writelines_refuses_text(loop: AbstractEventLoop) -> None:
    async with wire() as connection:
        with pytest.raises(TypeError):
            connection.transport.writelines(["text"])
        connection.transport.write(b"usable")
        assert await in_thread(recv_exactly, connection.peer, 6) == b"usable"


@pytest.mark.parametrize("write", ["write", "writelines"])
async def test_writing_after_write_eof_is_an_error(write: str, loop: AbstractEventLoop) -> None:
    async with wire() as connection:
        connection.transport.write_eof()
        argument: Any = b"late" if write == "write" else [b"late"]
        with pytest.raises(RuntimeError, match=r"Cannot call \w+\(\) after write_eof\(\)"):
            getattr(connection.transport, write)(argument)


async def test_writing_after_write_eof_is_an_error_while_closing_too(
    loop: AbstractEventLoop,
) -> None:
    async with wire(buffer_bytes=4096) as connection:
        connection.transport.write(bytes(BACKLOG_BYTES))
        connection.transport.write_eof()
        connection.transport.close()
        with pytest.raises(RuntimeError, match=r"Cannot call write\(\) after write_eof\(\)"):
            connection.transport.write(b"late")


async def test_writes_after_the_connection_was_lost_are_dropped_and_logged(
    loop: AbstractEventLoop, caplog: pytest.LogCaptureFixture
) -> None:
    """asyncio starts to warn at the fifth such write."""
    async with wire() as connection:
        connection.transport.abort()
        await connection.protocol.lost
        for _ in range(10):
            connection.transport.write(b"late")
        assert "socket.send() raised exception." in caplog.text
        assert connection.transport.get_write_buffer_size() == 0


async def test_write_eof_after_close_is_passed_over(loop: AbstractEventLoop) -> None:
    async with wire() as connection:
        connection.transport.close()
        connection.transport.write_eof()
        assert await connection.protocol.lost is None


async def test_writes_in_two_directions_at_once_do_not_block_each_other(
    loop: AbstractEventLoop,
) -> None:
    """Both kernel buffers are full; only concurrent sending and receiving gets on."""

    class Echo(Recorder):
        def data_received(self, data: bytes) -> None:
            self.transport.write(data)

        def eof_received(self) -> bool:
            self.transport.write_eof()
            return True

    payload = numbered_bytes(1_000_000)
    async with wire(Echo, buffer_bytes=8192) as connection:
        received = in_thread(recv_until_eof, connection.peer)
        await in_thread(connection.peer.sendall, payload)
        await in_thread(connection.peer.shutdown, socket.SHUT_WR)
        assert await received == payload


@pytest.mark.parametrize("end", ["close", "abort"])
async def test_write_after_write_eof_is_refused_for_ever(end: str, loop: AbstractEventLoop) -> None:
    async with wire() as connection:
        connection.transport.write_eof()
        for act in (getattr(connection.transport, end), lambda: connection.protocol.lost):
            with pytest.raises(RuntimeError, match=r"write_eof\(\)"):
                connection.transport.write(b"")
            pending = act()
            if pending is not None:
                await pending
        with pytest.raises(RuntimeError, match=r"write_eof\(\)"):
            connection.transport.write(b"late")


async def test_write_eof_to_a_peer_that_answers_by_reset_ends_the_connection_not_the_loop(
    loop: AbstractEventLoop,
) -> None:
    """A reset comes back while the last bytes are sent, and then nothing is left to shut:
    ENOTCONN. asyncio raises it from write_eof(), ours tells connection_lost()."""
    async with wire() as connection:
        connection.protocol.keep_open = True
        connection.peer.close()
        await connection.protocol.ended
        connection.transport.write(b"x")
        with contextlib.suppress(OSError):
            connection.transport.write_eof()
        await turns(5)
        connection.transport.abort()
        lost = await connection.protocol.lost
        assert lost is None or isinstance(lost, OSError)


@pytest.mark.timeout(120)
@pytest.mark.skipif(sys.maxsize < 2**32, reason="needs a 64-bit address space")
@pytest.mark.difference("huge_write")
async def test_one_write_larger_than_any_system_call_takes_is_sent_whole(
    loop: AbstractEventLoop,
) -> None:
    """Row 12: the kernel sends at most 2 GiB less a page per call. Zeros that nobody wrote
    to share one page, so this takes no memory as long as nobody copies them."""
    size = 2**31 + 4096
    async with wire() as connection:
        counting = in_thread(_count_until_eof, connection.peer)
        connection.transport.write(bytes(size))
        connection.transport.close()
        assert await counting == size


def _count_until_eof(sock: socket.socket) -> int:
    limit_buffers(sock, 1 << 22)
    scratch = bytearray(1 << 22)
    return sum(itertools.takewhile(bool, (sock.recv_into(scratch) for _ in itertools.count())))


async def test_a_send_that_fails_at_once_is_told_at_once(
    loop: AbstractEventLoop, pair: tuple[socket.socket, socket.socket]
) -> None:
    """The peer reads no more, and nothing else is going to wake the loop."""
    ours, peer = pair
    transport, recorder = await loop.create_connection(Recorder, sock=ours)
    await turns(3)
    peer.shutdown(socket.SHUT_RD)
    began = loop.time()
    transport.write(b"for nobody")
    assert isinstance(await recorder.lost, BrokenPipeError)
    assert loop.time() - began < 5
