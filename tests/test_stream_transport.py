"""Stream transports: the protocol's calls, reading, both ends of a connection's life."""

from __future__ import annotations

import asyncio
import contextvars
import socket
from asyncio import AbstractEventLoop
from typing import Any

import pytest
from peers import (
    FAMILIES,
    Recorder,
    each_protocol,
    in_thread,
    numbered_bytes,
    recv_exactly,
    recv_until_eof,
    reset,
    send_all_or_until_refused,
    turns,
    wire,
)

Reported = list[dict[str, Any]]
each_family = pytest.mark.parametrize("family", FAMILIES)


@each_family
@each_protocol
async def test_data_reaches_the_protocol(
    family: str, factory: Any, loop: AbstractEventLoop
) -> None:
    async with wire(factory, family) as connection:
        await in_thread(connection.peer.sendall, b"hello")
        assert await connection.protocol.received(5) == b"hello"
        assert connection.protocol.calls == ["made", "data"]


@each_family
async def test_data_reaches_the_peer(family: str, loop: AbstractEventLoop) -> None:
    async with wire(family=family) as connection:
        connection.transport.write(b"hello ")
        connection.transport.write(b"peer")
        assert await in_thread(recv_exactly, connection.peer, 10) == b"hello peer"


@each_family
@each_protocol
async def test_much_data_arrives_whole_and_in_order(
    family: str, factory: Any, loop: AbstractEventLoop
) -> None:
    payload = numbered_bytes(3_000_001)
    async with wire(factory, family) as connection:
        sent = in_thread(connection.peer.sendall, payload)
        await asyncio.gather(sent, connection.protocol.received(len(payload)))
        assert connection.protocol.data == payload


@each_family
async def test_connection_made_comes_first_and_lost_last_and_once(
    family: str, loop: AbstractEventLoop
) -> None:
    """Row 37."""
    async with wire(family=family) as connection:
        await in_thread(connection.peer.sendall, b"x")
        await connection.protocol.received(1)
        await in_thread(connection.peer.close)
        assert await connection.protocol.lost is None
        await turns(5)
        assert connection.protocol.calls == ["made", "data", "eof", "lost"]


@each_family
async def test_close_tells_the_peer_at_once_although_a_receive_is_pending(
    family: str, loop: AbstractEventLoop
) -> None:
    """Row 5: the kernel keeps a closed file while an operation is in flight on it."""
    async with wire(family=family) as connection:
        await turns(3)  # the receive is with the kernel
        connection.transport.close()
        assert await in_thread(recv_until_eof, connection.peer) == b""
        assert await connection.protocol.lost is None


@each_family
async def test_close_sends_what_was_written_first(family: str, loop: AbstractEventLoop) -> None:
    payload = numbered_bytes(2_000_000)
    async with wire(family=family) as connection:
        connection.transport.write(payload)
        connection.transport.close()
        assert await in_thread(recv_until_eof, connection.peer) == payload
        assert await connection.protocol.lost is None


@each_family
async def test_abort_drops_what_was_not_sent(family: str, loop: AbstractEventLoop) -> None:
    payload = bytes(20_000_000)
    async with wire(family=family, buffer_bytes=4096) as connection:
        connection.transport.write(payload)
        connection.transport.abort()
        assert await connection.protocol.lost is None
        assert connection.transport.get_write_buffer_size() == 0
        try:
            received = await in_thread(recv_until_eof, connection.peer)
        except ConnectionResetError:
            return  # the kernel also dropped what it held
        assert len(received) < len(payload)


async def test_connection_lost_is_not_called_within_close_or_abort(
    loop: AbstractEventLoop,
) -> None:
    for end in (asyncio.Transport.close, asyncio.Transport.abort):
        async with wire() as connection:
            getattr(connection.transport, end.__name__)()
            assert connection.protocol.calls == ["made"]
            await connection.protocol.lost


async def test_close_and_abort_may_be_mixed_and_repeated(loop: AbstractEventLoop) -> None:
    """Row 37."""
    async with wire() as connection:
        for end in ("close", "close", "abort", "abort", "close"):
            getattr(connection.transport, end)()
        await connection.protocol.lost
        connection.transport.close()
        connection.transport.abort()
        await turns(5)
        assert connection.protocol.calls == ["made", "lost"]


@pytest.mark.difference("abort_after_lost")
async def test_abort_after_a_close_that_had_to_flush_changes_nothing(
    loop: AbstractEventLoop,
) -> None:
    async with wire(buffer_bytes=4096) as connection:
        connection.transport.write(bytes(1_000_000))
        connection.transport.close()
        await in_thread(recv_until_eof, connection.peer)
        await connection.protocol.lost
        connection.transport.abort()
        await turns(5)
        assert connection.protocol.calls.count("lost") == 1


async def test_abort_after_close_does_not_wait_for_the_peer(loop: AbstractEventLoop) -> None:
    async with wire(buffer_bytes=4096) as connection:
        connection.transport.write(bytes(10_000_000))
        connection.transport.close()
        await turns(5)
        assert not connection.protocol.lost.done()
        connection.transport.abort()
        assert await connection.protocol.lost is None


@pytest.mark.parametrize("end", ["close", "abort"])
@each_protocol
async def test_no_data_is_received_after_close_or_abort(
    factory: Any, end: str, loop: AbstractEventLoop
) -> None:
    """Row 37: what the kernel had already delivered is dropped."""
    async with wire(factory) as connection:
        await in_thread(connection.peer.sendall, b"x" * 100_000)
        await connection.protocol.received(1)
        getattr(connection.transport, end)()
        calls = list(connection.protocol.calls)
        await connection.protocol.lost
        await turns(5)
        assert connection.protocol.calls == [*calls, "lost"]


async def test_closing_in_data_received_stops_the_reading(loop: AbstractEventLoop) -> None:
    class CloseAtOnce(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.transport.close()

    async with wire(CloseAtOnce) as connection:
        await in_thread(send_all_or_until_refused, connection.peer, bytes(1_000_000))
        await connection.protocol.lost
        assert connection.protocol.calls == ["made", "data", "lost"]


async def test_closing_in_connection_made_is_allowed(loop: AbstractEventLoop) -> None:
    class CloseAtOnce(Recorder):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            transport.close()

    async with wire(CloseAtOnce) as connection:
        assert await connection.protocol.lost is None
        assert await in_thread(recv_until_eof, connection.peer) == b""


async def test_writing_in_connection_made_and_data_received_is_allowed(
    loop: AbstractEventLoop,
) -> None:
    class Echo(Recorder):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            self.transport.write(b"welcome ")

        def data_received(self, data: bytes) -> None:
            self.transport.write(data)

    async with wire(Echo) as connection:
        await in_thread(connection.peer.sendall, b"echo")
        assert await in_thread(recv_exactly, connection.peer, 12) == b"welcome echo"


async def test_a_reset_by_the_peer_is_reported_to_connection_lost(loop: AbstractEventLoop) -> None:
    async with wire() as connection:
        await turns(3)
        reset(connection.peer)
        assert isinstance(await connection.protocol.lost, ConnectionResetError)
        assert connection.protocol.calls == ["made", "lost"]


async def test_writing_to_a_peer_that_reset_ends_the_connection(loop: AbstractEventLoop) -> None:
    async with wire() as connection:
        connection.transport.pause_reading()
        await turns(2)
        reset(connection.peer)
        while not connection.protocol.lost.done():
            connection.transport.write(b"x" * 1000)
            await asyncio.sleep(0)
        error = await connection.protocol.lost
        assert isinstance(error, (ConnectionResetError, BrokenPipeError))
        assert connection.protocol.calls == ["made", "lost"]


async def test_a_reset_while_writes_wait_is_reported_once(loop: AbstractEventLoop) -> None:
    """Row 37: the receive and the send both fail."""
    async with wire(buffer_bytes=4096) as connection:
        connection.transport.write(bytes(5_000_000))
        await turns(3)
        reset(connection.peer)
        assert isinstance(await connection.protocol.lost, ConnectionError)
        await turns(5)
        assert connection.protocol.calls.count("lost") == 1
        assert connection.transport.get_write_buffer_size() == 0


@pytest.mark.parametrize("family", ["tcp", "unix"])
async def test_half_close_by_us_lets_the_peer_answer(family: str, loop: AbstractEventLoop) -> None:
    async with wire(family=family) as connection:
        assert connection.transport.can_write_eof()
        connection.transport.write(b"question")
        connection.transport.write_eof()
        assert await in_thread(recv_until_eof, connection.peer) == b"question"
        await in_thread(connection.peer.sendall, b"answer")
        assert await connection.protocol.received(6) == b"answer"
        assert not connection.transport.is_closing()
        await in_thread(connection.peer.close)
        assert await connection.protocol.lost is None


@pytest.mark.parametrize("family", ["tcp", "unix"])
async def test_half_close_by_the_peer_lets_us_answer_when_kept_open(
    family: str, loop: AbstractEventLoop
) -> None:
    async with wire(family=family) as connection:
        connection.protocol.keep_open = True
        await in_thread(connection.peer.shutdown, socket.SHUT_WR)
        await connection.protocol.ended
        await turns(5)
        assert not connection.transport.is_closing()
        connection.transport.write(b"late answer")
        connection.transport.close()
        assert await in_thread(recv_until_eof, connection.peer) == b"late answer"
        assert await connection.protocol.lost is None
        assert connection.protocol.calls == ["made", "eof", "lost"]


async def test_write_eof_waits_for_what_was_written(loop: AbstractEventLoop) -> None:
    payload = numbered_bytes(3_000_000)
    async with wire(buffer_bytes=8192) as connection:
        connection.transport.write(payload)
        connection.transport.write_eof()
        assert await in_thread(recv_until_eof, connection.peer) == payload
        assert not connection.transport.is_closing()


async def test_half_close_both_ways_ends_the_connection(loop: AbstractEventLoop) -> None:
    async with wire() as connection:
        connection.transport.write_eof()
        connection.transport.write_eof()
        assert await in_thread(recv_until_eof, connection.peer) == b""
        await in_thread(connection.peer.shutdown, socket.SHUT_WR)
        assert await connection.protocol.lost is None
        assert connection.protocol.calls == ["made", "eof", "lost"]


@pytest.mark.parametrize("answer", [None, False, 0, ""])
async def test_end_of_file_closes_unless_the_protocol_says_otherwise(
    answer: Any, loop: AbstractEventLoop
) -> None:
    async with wire() as connection:
        connection.protocol.keep_open = answer
        connection.transport.write(b"sent before the end")
        await in_thread(connection.peer.shutdown, socket.SHUT_WR)
        assert await connection.protocol.lost is None
        assert await in_thread(recv_until_eof, connection.peer) == b"sent before the end"


async def test_data_before_the_end_of_file_is_delivered_first(loop: AbstractEventLoop) -> None:
    payload = numbered_bytes(500_000)
    async with wire() as connection:
        await asyncio.gather(
            in_thread(connection.peer.sendall, payload), connection.protocol.received(len(payload))
        )
        await in_thread(connection.peer.sendall, b"last")
        await in_thread(connection.peer.close)
        await connection.protocol.lost
        assert connection.protocol.data == payload + b"last"
        assert connection.protocol.calls[-3:] == ["data", "eof", "lost"]


@each_protocol
async def test_data_and_end_of_file_wait_while_reading_is_paused(
    factory: Any, loop: AbstractEventLoop
) -> None:
    """Row 18."""
    payload = numbered_bytes(50_000)
    async with wire(factory) as connection:
        connection.transport.pause_reading()
        await in_thread(connection.peer.sendall, payload)
        await in_thread(connection.peer.close)
        await turns(10)
        assert connection.protocol.calls == ["made"]
        connection.transport.resume_reading()
        await connection.protocol.lost
        assert connection.protocol.data == payload


variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


async def test_protocol_calls_run_in_the_context_that_made_the_transport(
    loop: AbstractEventLoop,
) -> None:
    seen: dict[str, str] = {}

    class Contextual(Recorder):
        def _note(self, call: str) -> None:
            seen[call] = variable.get()
            super()._note(call)

    variable.set("the maker's")
    async with wire(Contextual) as connection:
        variable.set("changed later")
        await in_thread(connection.peer.sendall, b"data")
        await connection.protocol.received(4)
        await in_thread(connection.peer.close)
        await connection.protocol.lost
    assert seen == dict.fromkeys(["made", "data", "eof", "lost"], "the maker's")
