"""Streams whose pieces are large: received by recv(2) while their events are dispatched."""

from __future__ import annotations

import asyncio
import socket
from asyncio import AbstractEventLoop
from collections.abc import Callable
from typing import Any

import pytest
from peers import (
    BufferedRecorder,
    Recorder,
    Wire,
    each_protocol,
    in_thread,
    numbered_bytes,
    recv_exactly,
    reset,
    turns,
    until_true,
    wire,
)
from relays import ends

LARGE_BYTES = 100_000  # a Unix socket takes it whole
LARGE_PIECES = 5
SHARE_BYTES = 256 * 1024


async def send_in_pieces(connection: Wire, size: int, count: int) -> None:
    """Each is there as a whole when the loop looks."""
    for _ in range(count):
        total = len(connection.protocol.data) + size
        connection.peer.sendall(bytes(size))
        await connection.protocol.received(total)


def engine_bytes_received(loop: Any) -> int:
    return int(loop.driver_state().counters["bytes_received"])


@pytest.mark.ours
@each_protocol
async def test_large_pieces_leave_the_engines_buffers_alone_until_small_ones_come(
    factory: Any, loop: AbstractEventLoop
) -> None:
    async with wire(factory, "unix") as connection:
        await send_in_pieces(connection, LARGE_BYTES, LARGE_PIECES)
        before = engine_bytes_received(loop)
        await send_in_pieces(connection, LARGE_BYTES, 10)
        assert engine_bytes_received(loop) == before
        await send_in_pieces(connection, 100, 10)
        assert engine_bytes_received(loop) > before
        before = engine_bytes_received(loop)
        await send_in_pieces(connection, 100, 10)
        assert engine_bytes_received(loop) == before + 1000


@each_protocol
@pytest.mark.parametrize("family", ["tcp", "unix"])
async def test_pieces_of_all_sizes_come_whole_and_then_the_end(
    factory: Any, family: str, loop: AbstractEventLoop
) -> None:
    payload = numbered_bytes(8_000_000)
    sizes = [LARGE_BYTES] * 8 + [100] * 6 + [300_000] * 3 + [10, LARGE_BYTES]

    def send(peer: socket.socket) -> None:
        position = 0
        while position < len(payload):
            for size in sizes:
                peer.sendall(payload[position : position + size])
                position += size
        peer.shutdown(socket.SHUT_WR)

    async with wire(factory, family) as connection:
        sending = in_thread(send, connection.peer)
        await connection.protocol.ended
        await sending
        assert connection.protocol.data == payload
        assert connection.protocol.calls.count("eof") == 1


@pytest.mark.parametrize("buffer_bytes", [1, 1000, 65_536, 1 << 20])
async def test_a_buffer_of_any_size_is_filled_by_large_pieces(
    buffer_bytes: int, loop: AbstractEventLoop
) -> None:
    payload = numbered_bytes(min(2_000_000, buffer_bytes * 20_000) * 2)
    async with wire(lambda: BufferedRecorder(buffer_bytes), "unix") as connection:
        sending = in_thread(connection.peer.sendall, payload)
        await connection.protocol.received(len(payload))
        await sending
        assert connection.protocol.data == payload


@pytest.mark.ours
async def test_a_large_piece_is_no_more_than_a_share(loop: AbstractEventLoop) -> None:
    """What one stream has waiting does not hold up the others."""
    sizes: list[int] = []

    class Measuring(Recorder):
        def data_received(self, data: bytes) -> None:
            sizes.append(len(data))
            super().data_received(data)

    async with wire(Measuring, "unix", buffer_bytes=1 << 21) as connection:
        await send_in_pieces(connection, LARGE_BYTES, LARGE_PIECES)
        sizes.clear()
        sent = in_thread(connection.peer.sendall, bytes(4_000_000))
        await connection.protocol.received(LARGE_BYTES * LARGE_PIECES + 4_000_000)
        await sent
        assert max(sizes) <= SHARE_BYTES


@each_protocol
async def test_a_pause_between_large_pieces_holds_back_the_next(
    factory: Any, loop: AbstractEventLoop
) -> None:
    async with wire(factory, "unix") as connection:
        await send_in_pieces(connection, LARGE_BYTES, LARGE_PIECES)
        for _ in range(3):
            before = len(connection.protocol.data)
            connection.transport.pause_reading()
            connection.peer.sendall(bytes(LARGE_BYTES))
            await turns(5)
            assert len(connection.protocol.data) == before
            connection.transport.resume_reading()
            await connection.protocol.received(before + LARGE_BYTES)


async def test_a_pause_in_the_middle_of_a_large_piece_leaves_the_rest(
    loop: AbstractEventLoop,
) -> None:
    class Pausing(BufferedRecorder):
        def buffer_updated(self, nbytes: int) -> None:
            super().buffer_updated(nbytes)
            if len(self.data) > LARGE_BYTES * LARGE_PIECES:
                self.transport.pause_reading()

    async with wire(lambda: Pausing(1000), "unix") as connection:
        await send_in_pieces(connection, LARGE_BYTES, LARGE_PIECES)
        payload = numbered_bytes(3000)
        connection.peer.sendall(payload)
        for part in (1000, 2000, 3000):
            await connection.protocol.received(LARGE_BYTES * LARGE_PIECES + part)
            await turns(5)
            assert len(connection.protocol.data) == LARGE_BYTES * LARGE_PIECES + part
            connection.transport.resume_reading()
        assert connection.protocol.data[-3000:] == payload


async def test_the_kind_of_protocol_can_change_between_large_pieces(
    loop: AbstractEventLoop,
) -> None:
    async with wire(Recorder, "unix") as connection:
        await send_in_pieces(connection, LARGE_BYTES, LARGE_PIECES)
        buffered = BufferedRecorder()
        connection.transport.set_protocol(buffered)
        connection.peer.sendall(numbered_bytes(LARGE_BYTES))
        assert await buffered.received(LARGE_BYTES) == numbered_bytes(LARGE_BYTES)
        connection.transport.set_protocol(connection.protocol)


@each_protocol
async def test_a_reset_after_large_pieces_is_told(factory: Any, loop: AbstractEventLoop) -> None:
    async with wire(factory) as connection:
        await send_in_pieces(connection, LARGE_BYTES, LARGE_PIECES)
        reset(connection.peer)
        assert isinstance(await connection.protocol.lost, ConnectionResetError)


def whoever_is_first(one: Wire, other: Wire, act: Callable[[Wire], None]) -> None:
    """Has the protocol that gets data first call act() with the other connection."""
    waiting = [one, other]

    def watch(connection: Wire, rest: Wire) -> None:
        note = connection.protocol._note

        def noting(call: str) -> None:
            note(call)
            if call == "data" and waiting:
                waiting.clear()
                act(rest)

        connection.protocol._note = noting

    watch(one, other)
    watch(other, one)


@pytest.mark.ours
@each_protocol
async def test_a_reset_between_an_event_and_its_dispatch_is_told(
    factory: Any, loop: AbstractEventLoop
) -> None:
    """Both sockets are ready in one turn, and the first to be dispatched resets the other."""
    async with wire(factory) as one, wire(factory) as other:
        for connection in (one, other):
            await send_in_pieces(connection, LARGE_BYTES, LARGE_PIECES)
        whoever_is_first(one, other, lambda connection: reset(connection.peer))
        one.peer.sendall(bytes(LARGE_BYTES))
        other.peer.sendall(bytes(LARGE_BYTES))
        lost = [one.protocol.lost, other.protocol.lost]
        done, _ = await asyncio.wait(lost, return_when=asyncio.FIRST_COMPLETED)
        assert isinstance(done.pop().result(), ConnectionResetError)


@pytest.mark.ours
@each_protocol
async def test_a_piece_that_somebody_else_took_from_a_blocking_socket_is_not_waited_for(
    factory: Any, loop: AbstractEventLoop
) -> None:
    """Likewise: the first takes the other's bytes, by a duplicate that does not mind waiting."""
    async with wire(factory, "unix") as one, wire(factory, "unix") as other:
        for connection in (one, other):
            await send_in_pieces(connection, LARGE_BYTES, LARGE_PIECES)
        took: list[Wire] = []

        def take(connection: Wire) -> None:
            took.append(connection)
            with connection.transport.get_extra_info("socket").dup() as duplicate:
                duplicate.setblocking(True)  # the open file, which both have
                assert len(duplicate.recv(LARGE_BYTES, socket.MSG_WAITALL)) == LARGE_BYTES

        whoever_is_first(one, other, take)
        one.peer.sendall(bytes(LARGE_BYTES))
        other.peer.sendall(bytes(LARGE_BYTES))
        await until_true(lambda: bool(took))
        await turns(5)
        unlucky = took[0]
        assert len(unlucky.protocol.data) == LARGE_BYTES * LARGE_PIECES
        await send_in_pieces(unlucky, LARGE_BYTES, 1)


@each_protocol
async def test_closing_with_a_large_piece_unread_ends_the_connection(
    factory: Any, loop: AbstractEventLoop
) -> None:
    async with wire(factory, "unix") as connection:
        await send_in_pieces(connection, LARGE_BYTES, LARGE_PIECES)
        connection.peer.sendall(bytes(LARGE_BYTES))
        connection.transport.close()
        assert await connection.protocol.lost is None
        assert connection.protocol.calls[-1] == "lost"


async def test_an_exception_for_a_large_piece_is_fatal_to_the_connection(
    loop: AbstractEventLoop,
) -> None:
    """A BlockingIOError too: it is the protocol's, not that of recv(2)."""

    class Failing(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if len(self.data) > LARGE_BYTES * LARGE_PIECES:
                raise BlockingIOError("the protocol's own")

    async with wire(Failing, "unix") as connection:
        await send_in_pieces(connection, LARGE_BYTES, LARGE_PIECES)
        connection.peer.sendall(bytes(LARGE_BYTES))
        assert isinstance(await connection.protocol.lost, BlockingIOError)


@pytest.mark.ours
async def test_a_relay_takes_over_between_large_pieces(loop: AbstractEventLoop) -> None:
    async with ends(family="unix") as each:
        payload = numbered_bytes(LARGE_BYTES)
        for count in range(1, LARGE_PIECES + 1):
            each.peer_a.sendall(payload)
            await each.protocols[0].received(count * LARGE_BYTES)
        each.peer_a.sendall(payload)
        relay = each.relay()
        assert await in_thread(recv_exactly, each.peer_b, LARGE_BYTES) == payload
        each.peer_a.shutdown(socket.SHUT_WR)
        each.peer_b.shutdown(socket.SHUT_WR)
        await relay
