"""BufferedProtocol, set_protocol, and exceptions that protocols raise."""

from __future__ import annotations

import asyncio
from asyncio import AbstractEventLoop
from typing import Any

import pytest
from peers import (
    BufferedRecorder,
    Recorder,
    in_thread,
    numbered_bytes,
    recv_until_eof,
    until_true,
    wire,
)

Reported = list[dict[str, Any]]


@pytest.mark.parametrize("size", [1, 2, 7, 1000, 65536, 1 << 20])
async def test_a_buffer_of_any_size_gets_all_data_in_order(
    size: int, loop: AbstractEventLoop
) -> None:
    payload = numbered_bytes(min(200_000, size * 3000))
    async with wire(lambda: BufferedRecorder(size)) as connection:
        sending = in_thread(connection.peer.sendall, payload)
        await connection.protocol.received(len(payload))
        await sending
        assert connection.protocol.data == payload


async def test_get_buffer_is_asked_with_a_hint_and_before_each_update(
    loop: AbstractEventLoop,
) -> None:
    async with wire(BufferedRecorder) as connection:
        await in_thread(connection.peer.sendall, b"first")
        await connection.protocol.received(5)
        await in_thread(connection.peer.sendall, b"second")
        await connection.protocol.received(11)
        assert len(connection.protocol.hints) >= 2
        assert all(hint == -1 or hint > 0 for hint in connection.protocol.hints)


@pytest.mark.parametrize("make", [bytearray, lambda n: memoryview(bytearray(n))])
async def test_get_buffer_may_return_any_writable_buffer(
    make: Any, loop: AbstractEventLoop
) -> None:
    class Given(BufferedRecorder):
        def get_buffer(self, sizehint: int) -> Any:
            self.buffer = make(100)
            return self.buffer

    async with wire(Given) as connection:
        await in_thread(connection.peer.sendall, b"any buffer")
        assert await connection.protocol.received(10) == b"any buffer"


@pytest.mark.parametrize("answer", [bytearray(), None, b"read only", "text"], ids=repr)
async def test_a_useless_buffer_is_fatal_to_the_connection(
    answer: Any, loop: AbstractEventLoop, reported: Reported
) -> None:
    class Useless(BufferedRecorder):
        def get_buffer(self, sizehint: int) -> Any:
            return answer

    async with wire(Useless) as connection:
        await in_thread(connection.peer.sendall, b"data")
        error = await connection.protocol.lost
        assert isinstance(error, (RuntimeError, TypeError, BufferError))
        assert connection.protocol.calls == ["made", "lost"]
        context = reported.pop()
        assert context["exception"] is error
        assert context["transport"] is connection.transport
        assert context["protocol"] is connection.protocol


async def test_an_empty_buffer_is_named_in_the_error(
    loop: AbstractEventLoop, reported: Reported
) -> None:
    async with wire(lambda: BufferedRecorder(0)) as connection:
        await in_thread(connection.peer.sendall, b"data")
        with pytest.raises(RuntimeError, match=r"get_buffer\(\) returned an empty buffer"):
            raise await connection.protocol.lost
        assert "get_buffer() call failed" in reported.pop()["message"]


@pytest.mark.parametrize("call", ["get_buffer", "buffer_updated"])
async def test_an_exception_in_a_buffered_call_is_fatal_to_the_connection(
    call: str, loop: AbstractEventLoop, reported: Reported
) -> None:
    async with wire(_failing(BufferedRecorder, call)) as connection:
        await in_thread(connection.peer.sendall, b"data")
        error = await connection.protocol.lost
        assert isinstance(error, LookupError)
        assert f"protocol.{call}() call failed" in reported.pop()["message"]


@pytest.mark.parametrize("call", ["data_received", "eof_received"])
async def test_an_exception_in_a_reading_call_is_fatal_to_the_connection(
    call: str, loop: AbstractEventLoop, reported: Reported
) -> None:
    """Row 37: and connection_lost comes once."""
    async with wire(_failing(Recorder, call)) as connection:
        await in_thread(connection.peer.sendall, b"data")
        await in_thread(connection.peer.close)
        error = await connection.protocol.lost
        assert isinstance(error, LookupError)
        context = reported.pop()
        assert context["exception"] is error
        assert f"protocol.{call}() call failed" in context["message"]
        assert connection.protocol.calls.count("lost") == 1


async def test_an_exception_in_connection_made_is_reported_and_the_connection_lives(
    loop: AbstractEventLoop, reported: Reported
) -> None:
    class Failing(Recorder):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            raise LookupError("connection_made")

    async with wire(Failing) as connection:
        assert isinstance(reported.pop()["exception"], LookupError)
        await in_thread(connection.peer.sendall, b"alive")
        assert await connection.protocol.received(5) == b"alive"


async def test_an_exception_in_connection_lost_is_reported_once_and_all_is_closed(
    loop: AbstractEventLoop, reported: Reported
) -> None:
    """Row 37: the socket must be closed all the same."""

    class Failing(Recorder):
        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            raise LookupError("connection_lost")

    async with wire(Failing) as connection:
        connection.transport.close()
        assert await connection.protocol.lost is None
        assert await in_thread(recv_until_eof, connection.peer) == b""
        assert isinstance(reported.pop()["exception"], LookupError)
        assert reported == []


async def test_an_exception_on_one_connection_leaves_the_others_alone(
    loop: AbstractEventLoop, reported: Reported
) -> None:
    """Row 25: an exception in the middle of a batch of completions."""
    async with wire() as before, wire(_failing(Recorder, "data_received")) as bad, wire() as after:
        for connection in (before, bad, after):
            connection.peer.sendall(b"data")
        assert await before.protocol.received(4) == b"data"
        assert await after.protocol.received(4) == b"data"
        assert isinstance(await bad.protocol.lost, LookupError)
        assert len(reported) == 1
        reported.clear()


def _failing(base: type[Recorder], call: str) -> type[Recorder]:
    def fail(self: Recorder, *args: object) -> None:
        raise LookupError(call)

    return type("Failing", (base,), {call: fail})


async def test_set_protocol_takes_effect_with_the_next_piece(loop: AbstractEventLoop) -> None:
    async with wire() as connection:
        second = Recorder()
        await in_thread(connection.peer.sendall, b"first")
        await connection.protocol.received(5)
        connection.transport.set_protocol(second)
        assert connection.transport.get_protocol() is second
        await in_thread(connection.peer.sendall, b"second")
        assert await second.received(6) == b"second"
        assert connection.protocol.data == b"first"
        await in_thread(connection.peer.close)
        assert await second.lost is None
        assert second.calls == ["data", "eof", "lost"]
        connection.protocol.calls.append("lost")


@pytest.mark.parametrize("kinds", [(Recorder, BufferedRecorder), (BufferedRecorder, Recorder)])
async def test_the_kind_of_protocol_can_change_between_pieces(
    kinds: Any, loop: AbstractEventLoop
) -> None:
    first_kind, second_kind = kinds
    async with wire(first_kind) as connection:
        second = second_kind()
        await in_thread(connection.peer.sendall, b"first")
        await connection.protocol.received(5)
        connection.transport.set_protocol(second)
        await in_thread(connection.peer.sendall, b"second")
        assert await second.received(6) == b"second"
        connection.transport.set_protocol(connection.protocol)


@pytest.mark.parametrize("kinds", [(Recorder, BufferedRecorder), (BufferedRecorder, Recorder)])
async def test_the_protocol_can_change_while_data_is_received(
    kinds: Any, loop: AbstractEventLoop
) -> None:
    """Each piece goes to one protocol, whole: nothing is lost or doubled at the change."""
    payload = numbered_bytes(300_000)
    first_kind, second_kind = kinds
    pieces: list[bytes] = []

    class Hand:
        """Gives the transport to the other kind at each piece."""

        def _note(self, call: str) -> None:
            super()._note(call)  # type: ignore[misc]
            if call == "data":
                self.hand_over()

        def hand_over(self) -> None:
            pieces.append(bytes(self.data))  # type: ignore[attr-defined]
            self.data.clear()  # type: ignore[attr-defined]
            self.transport.set_protocol(self.other)  # type: ignore[attr-defined]

    first_class: Any = type("First", (Hand, first_kind), {})
    second_class: Any = type("Second", (Hand, second_kind), {})
    async with wire(first_class) as connection:
        first, second = connection.protocol, second_class()
        first.other, second.other, second.transport = second, first, first.transport
        sending = in_thread(connection.peer.sendall, payload)
        await until_true(lambda: sum(map(len, pieces)) == len(payload))
        await sending
        assert b"".join(pieces) == payload
        connection.transport.set_protocol(first)


async def test_write_callbacks_follow_set_protocol(loop: AbstractEventLoop) -> None:
    """Row 36: resume_writing goes to the protocol that is set now."""
    async with wire(buffer_bytes=4096) as connection:
        connection.transport.write(bytes(3_000_000))
        assert connection.protocol.calls == ["made", "pause"]
        second = Recorder()
        connection.transport.set_protocol(second)
        reading = in_thread(recv_until_eof, connection.peer)
        await second.until_called("resume")
        connection.transport.close()
        assert len(await reading) == 3_000_000
        assert await second.lost is None
        connection.protocol.calls.append("lost")
