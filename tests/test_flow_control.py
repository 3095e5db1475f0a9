"""Watermarks and pausing: the sender learns to wait, the reader may refuse to listen."""

from __future__ import annotations

import asyncio
import random
import socket
import zlib
from asyncio import AbstractEventLoop
from typing import Any

import pytest
from peers import (
    Recorder,
    Wire,
    each_protocol,
    in_thread,
    numbered_bytes,
    recv_exactly,
    turns,
    until_true,
    wire,
)


async def test_the_default_limits_are_asyncios(loop: AbstractEventLoop) -> None:
    """Row 38."""
    async with wire() as connection:
        assert connection.transport.get_write_buffer_limits() == (16 * 1024, 64 * 1024)


@pytest.mark.parametrize(
    ("arguments", "limits"),
    [
        ({"high": 1000}, (250, 1000)),
        ({"high": 1000, "low": 10}, (10, 1000)),
        ({"low": 100}, (100, 400)),
        ({"high": 0}, (0, 0)),
        ({"high": 5, "low": 5}, (5, 5)),
        ({}, (16 * 1024, 64 * 1024)),
    ],
)
async def test_limits_follow_from_what_is_given(
    arguments: dict[str, int], limits: tuple[int, int], loop: AbstractEventLoop
) -> None:
    """Row 38."""
    async with wire() as connection:
        connection.transport.set_write_buffer_limits(**arguments)
        assert connection.transport.get_write_buffer_limits() == limits


@pytest.mark.parametrize("arguments", [{"high": 10, "low": 11}, {"high": -1}, {"low": -1}])
async def test_senseless_limits_are_refused_and_change_nothing(
    arguments: dict[str, int], loop: AbstractEventLoop
) -> None:
    """Row 38."""
    async with wire() as connection:
        with pytest.raises(ValueError, match=r"high .* must be >= low .* must be >= 0"):
            connection.transport.set_write_buffer_limits(**arguments)
        assert connection.transport.get_write_buffer_limits() == (16 * 1024, 64 * 1024)


async def test_the_protocol_is_paused_above_high_and_resumed_at_low(
    loop: AbstractEventLoop,
) -> None:
    sizes: list[tuple[str, int]] = []

    class Sizes(Recorder):
        def _note(self, call: str) -> None:
            super()._note(call)
            if call in ("pause", "resume"):
                sizes.append((call, self.transport.get_write_buffer_size()))

    async with wire(Sizes, buffer_bytes=4096) as connection:
        connection.transport.set_write_buffer_limits(high=300_000, low=100_000)
        connection.transport.write(bytes(2_000_000))
        assert connection.protocol.calls == ["made", "pause"]
        await in_thread(recv_exactly, connection.peer, 2_000_000)
        await connection.protocol.until_called("resume")
        assert [call for call, _ in sizes] == ["pause", "resume"]
        assert sizes[0][1] > 300_000
        assert sizes[1][1] <= 100_000


async def test_pausing_and_resuming_alternate_under_load(loop: AbstractEventLoop) -> None:
    async with wire(buffer_bytes=4096) as connection:
        protocol = connection.protocol
        connection.transport.set_write_buffer_limits(high=50_000, low=10_000)
        reading = in_thread(recv_exactly, connection.peer, 40 * 100_000)
        for _ in range(40):
            connection.transport.write(bytes(100_000))
            await protocol.until(
                lambda: protocol.calls.count("resume") == protocol.calls.count("pause")
            )
        await reading
        changes = [call for call in protocol.calls if call in ("pause", "resume")]
        assert changes == ["pause", "resume"] * (len(changes) // 2)
        assert len(changes) >= 2


async def test_a_protocol_that_writes_when_it_is_resumed_may_be_paused_again(
    loop: AbstractEventLoop,
) -> None:
    class Refill(Recorder):
        left = 20

        def resume_writing(self) -> None:
            super().resume_writing()
            if self.left:
                self.left -= 1
                self.transport.write(bytes(200_000))

    async with wire(Refill, buffer_bytes=4096) as connection:
        connection.transport.write(bytes(200_000))
        await in_thread(recv_exactly, connection.peer, 21 * 200_000)
        protocol = connection.protocol
        await protocol.until(lambda: protocol.calls.count("resume") == 21)
        assert protocol.calls.count("pause") == 21


async def test_get_write_buffer_size_counts_what_is_not_sent(loop: AbstractEventLoop) -> None:
    async with wire(buffer_bytes=4096) as connection:
        assert connection.transport.get_write_buffer_size() == 0
        connection.transport.write(bytes(1_000_000))
        connection.transport.write(bytes(1_000_000))
        assert 1_500_000 < connection.transport.get_write_buffer_size() <= 2_000_000
        await in_thread(recv_exactly, connection.peer, 2_000_000)
        await connection.protocol.until_called("resume")
        await until_true(lambda: connection.transport.get_write_buffer_size() == 0)


@pytest.mark.difference("writelines_pauses")
async def test_writelines_pauses_the_protocol_as_write_does(loop: AbstractEventLoop) -> None:
    """Row 38."""
    async with wire(buffer_bytes=4096) as connection:
        connection.transport.writelines([bytes(100_000)] * 20)
        assert connection.protocol.calls == ["made", "pause"]
        await in_thread(recv_exactly, connection.peer, 2_000_000)
        await connection.protocol.until_called("resume")
        assert connection.protocol.calls == ["made", "pause", "resume"]


async def test_drain_waits_for_a_slow_reader(loop: AbstractEventLoop) -> None:
    """The stream writer's drain() is what watermarks are for."""
    written = bytearray()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for start in range(0, 3_000_000, 100_000):
            piece = numbered_bytes(100_000, start)
            written.extend(piece)
            writer.write(piece)
            await writer.drain()
            assert writer.transport.get_write_buffer_size() <= 64 * 1024
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    with socket.create_connection(server.sockets[0].getsockname()) as peer:
        peer.settimeout(10)
        assert await in_thread(recv_exactly, peer, 3_000_000) == written
    server.close()


async def test_an_exception_in_pause_writing_is_reported_and_the_data_sent(
    loop: AbstractEventLoop, reported: list[dict[str, Any]]
) -> None:
    class Failing(Recorder):
        def pause_writing(self) -> None:
            raise LookupError("pause_writing")

        def resume_writing(self) -> None:
            super().resume_writing()
            raise LookupError("resume_writing")

    async with wire(Failing, buffer_bytes=4096) as connection:
        connection.transport.write(bytes(1_000_000))
        await in_thread(recv_exactly, connection.peer, 1_000_000)
        await connection.protocol.until_called("resume")
        messages = [context["message"] for context in reported]
        assert messages == ["protocol.pause_writing() failed", "protocol.resume_writing() failed"]
        reported.clear()


async def test_nothing_is_resumed_after_the_connection_was_closed(
    loop: AbstractEventLoop,
) -> None:
    """Row 37."""
    async with wire(buffer_bytes=4096) as connection:
        connection.transport.write(bytes(1_000_000))
        connection.transport.abort()
        await connection.protocol.lost
        await turns(5)
        assert connection.protocol.calls == ["made", "pause", "lost"]


async def test_reading_can_be_paused_and_resumed_at_any_time(loop: AbstractEventLoop) -> None:
    async with wire() as connection:
        transport = connection.transport
        assert transport.is_reading()
        transport.resume_reading()  # reading already: passed over
        transport.pause_reading()
        transport.pause_reading()
        assert not transport.is_reading()
        transport.resume_reading()
        assert transport.is_reading()
        transport.close()
        assert not transport.is_reading()
        transport.pause_reading()
        transport.resume_reading()
        assert not transport.is_reading()


@each_protocol
async def test_a_paused_transport_delivers_nothing(factory: Any, loop: AbstractEventLoop) -> None:
    """Row 18."""
    async with wire(factory) as connection:
        await in_thread(connection.peer.sendall, b"before")
        await connection.protocol.received(6)
        connection.transport.pause_reading()
        await in_thread(connection.peer.sendall, b" paused")
        await turns(20)
        assert connection.protocol.data == b"before"
        connection.transport.resume_reading()
        assert await connection.protocol.received(13) == b"before paused"


async def test_pausing_in_data_received_holds_back_the_next_piece(
    loop: AbstractEventLoop,
) -> None:
    """Row 18: the kernel may have delivered more before it learns of the pause."""

    class PauseAtOnce(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.transport.pause_reading()

    async with wire(PauseAtOnce) as connection:
        payload = numbered_bytes(2_000_000)
        sending = in_thread(connection.peer.sendall, payload)
        pieces = 0
        while len(connection.protocol.data) < len(payload):
            pieces += 1
            await connection.protocol.until_called("data", pieces)
            await turns(2)
            assert connection.protocol.calls.count("data") == pieces
            connection.transport.resume_reading()
        await sending
        assert connection.protocol.data == payload


@pytest.mark.difference("pause_in_connection_made")
async def test_pausing_in_connection_made_delivers_nothing(loop: AbstractEventLoop) -> None:
    class PauseAtOnce(Recorder):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            self.transport.pause_reading()

    async with wire(PauseAtOnce) as connection:
        await in_thread(connection.peer.sendall, b"early")
        await turns(20)
        assert connection.protocol.calls == ["made"]
        connection.transport.resume_reading()
        assert await connection.protocol.received(5) == b"early"


async def test_a_paused_reader_does_not_let_memory_grow(loop: AbstractEventLoop) -> None:
    """Row 18: what is not read stays with the sender, whose send blocks."""
    async with wire(buffer_bytes=4096) as connection:
        connection.transport.pause_reading()
        await turns(3)
        connection.peer.setblocking(False)
        accepted = 0
        for _ in range(300):
            accepted += _send_what_fits(connection.peer)
            await turns(1)
        assert accepted < 4_000_000
        connection.transport.resume_reading()
        await connection.protocol.received(accepted)
        assert len(connection.protocol.data) == accepted


def _send_what_fits(sock: socket.socket) -> int:
    try:
        return sock.send(bytes(100_000))
    except BlockingIOError:
        return 0


@each_protocol
@pytest.mark.parametrize("seed", range(4))
async def test_random_pauses_under_load_lose_and_repeat_nothing(
    seed: int, factory: Any, loop: AbstractEventLoop
) -> None:
    """Row 18."""
    payload = random.Random(seed).randbytes(4_000_000)
    async with wire(factory) as connection:
        sending = in_thread(_send_in_bursts, connection.peer, payload, seed)
        await _pause_at_random(connection, len(payload), random.Random(seed))
        await sending
        assert zlib.crc32(connection.protocol.data) == zlib.crc32(payload)


async def _pause_at_random(connection: Wire, total: int, chance: random.Random) -> None:
    while len(connection.protocol.data) < total:
        if chance.random() < 0.5:
            connection.transport.pause_reading()
            before = len(connection.protocol.data)
            await turns(chance.randrange(4))
            assert len(connection.protocol.data) == before
        connection.transport.resume_reading()
        await turns(chance.randrange(3))


def _send_in_bursts(sock: socket.socket, payload: bytes, seed: int) -> None:
    chance = random.Random(seed)
    start = 0
    while start < len(payload):
        size = chance.choice([10, 1000, 30_000, 300_000])
        sock.sendall(payload[start : start + size])
        start += size


async def test_one_paused_connection_does_not_hold_up_the_others(loop: AbstractEventLoop) -> None:
    """Row 17: what a paused reader holds must not be taken from a pool that others need."""
    async with wire() as paused, wire() as active:
        paused.transport.pause_reading()
        blocked = in_thread(paused.peer.sendall, bytes(6_000_000))
        for round_number in range(200):
            await in_thread(active.peer.sendall, b"x" * 10_000)
            await active.protocol.received(10_000 * (round_number + 1))
        paused.transport.resume_reading()
        await paused.protocol.received(6_000_000)
        await blocked


async def test_is_reading_does_not_change_with_the_end_of_file(loop: AbstractEventLoop) -> None:
    async with wire() as connection:
        connection.protocol.keep_open = True
        await in_thread(connection.peer.shutdown, socket.SHUT_WR)
        await connection.protocol.ended
        assert connection.transport.is_reading()


async def test_a_protocol_is_not_paused_by_several_writes_that_the_socket_takes(
    loop: AbstractEventLoop,
) -> None:
    async with wire(family="unix") as connection:
        for _ in range(2):
            connection.transport.write(bytes(40_000))
        assert await in_thread(recv_exactly, connection.peer, 80_000) == bytes(80_000)
        connection.transport.set_write_buffer_limits(high=0)
        connection.transport.write(bytes(100))
        connection.transport.writelines([bytes(100), bytes(40_000)])
        assert await in_thread(recv_exactly, connection.peer, 40_200) == bytes(40_200)
        assert connection.protocol.calls == ["made"]


async def test_new_limits_do_not_pause_for_what_the_socket_takes(loop: AbstractEventLoop) -> None:
    async with wire() as connection:
        connection.transport.write(b"small")
        connection.transport.set_write_buffer_limits(high=0)
        assert await in_thread(recv_exactly, connection.peer, 5) == b"small"
        assert connection.protocol.calls == ["made"]
