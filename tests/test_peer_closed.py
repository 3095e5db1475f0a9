"""transport.notify_peer_closed(): the peer's end is told of, whatever is read or not."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import socket
from asyncio import AbstractEventLoop
from collections.abc import AsyncIterator
from typing import Any

import pytest
from loops import LoopFactory
from peers import (
    FAMILIES,
    Recorder,
    Wire,
    in_thread,
    recv_exactly,
    recv_until_eof,
    reset,
    turns,
    until_true,
    wire,
)

pytestmark = pytest.mark.ours

QUIET_TURNS = 20


class Notice:
    """A callback that remembers its calls, and can be waited for."""

    def __init__(self, loop: AbstractEventLoop) -> None:
        self.calls = 0
        self.came = loop.create_future()

    def __call__(self) -> None:
        self.calls += 1
        if not self.came.done():
            self.came.set_result(None)


def asked(transport: Any, loop: AbstractEventLoop) -> Notice:
    """A notice of the end of the transport's peer."""
    notice = Notice(loop)
    transport.notify_peer_closed(notice)
    return notice


@contextlib.asynccontextmanager
async def paused_wire(family: str = "tcp") -> AsyncIterator[tuple[Wire, Any]]:
    """A connection and its transport: paused, with so much unread that its receive has been
    stopped."""
    async with wire(family=family) as made:
        made.transport.pause_reading()
        for _ in range(3):
            made.peer.sendall(b"unread")
            await turns(3)
        yield made, made.transport


@pytest.mark.parametrize("family", FAMILIES)
async def test_the_end_is_told_while_reading_is_paused(family: str, loop: Any) -> None:
    async with paused_wire(family) as (made, transport):
        notice = asked(transport, loop)
        await turns(QUIET_TURNS)
        assert notice.calls == 0  # unread bytes are no end
        made.peer.close()
        await notice.came
        assert made.protocol.data == b""
        assert made.protocol.calls == ["made"]
        transport.resume_reading()
        await made.protocol.lost
        assert made.protocol.data == b"unread" * 3
        assert made.protocol.calls[-2:] == ["eof", "lost"]
        assert notice.calls == 1


@pytest.mark.parametrize("family", FAMILIES)
async def test_a_half_close_is_an_end_and_the_other_half_works(family: str, loop: Any) -> None:
    async with paused_wire(family) as (made, transport):
        notice = asked(transport, loop)
        made.peer.shutdown(socket.SHUT_WR)
        await notice.came
        transport.write(b"still heard")
        assert await in_thread(recv_exactly, made.peer, 11) == b"still heard"


async def test_a_reset_is_an_end(loop: Any) -> None:
    async with paused_wire() as (made, transport):
        notice = asked(transport, loop)
        await turns(3)
        reset(made.peer)
        await notice.came
        transport.resume_reading()
        assert isinstance(await made.protocol.lost, ConnectionResetError)
        assert notice.calls == 1


async def test_an_end_that_came_before_is_told_too(loop: Any) -> None:
    """The transport's receive has taken the end of file out of the kernel already."""
    async with wire() as made:
        transport: Any = made.transport
        transport.pause_reading()
        made.peer.close()
        await turns(QUIET_TURNS)
        assert made.protocol.calls == ["made"]
        notice = asked(transport, loop)
        await notice.came


async def test_one_that_reads_is_told_too(loop: Any) -> None:
    async with wire() as made:
        made.protocol.keep_open = True
        notice = asked(made.transport, loop)
        made.peer.shutdown(socket.SHUT_WR)
        await made.protocol.ended
        await notice.came


async def test_the_last_callback_alone_is_called_and_once(loop: Any) -> None:
    async with paused_wire() as (made, transport):
        first = asked(transport, loop)
        await turns(2)
        second = asked(transport, loop)
        made.peer.close()
        await second.came
        await turns(QUIET_TURNS)
        assert (first.calls, second.calls) == (0, 1)
        transport.notify_peer_closed(first)  # a new question, with the same answer
        await first.came


async def test_none_takes_the_question_back(loop: Any) -> None:
    async with paused_wire() as (made, transport):
        transport.notify_peer_closed(None)  # of one that has none
        notice = asked(transport, loop)
        await turns(2)
        before = loop.metrics().in_flight
        transport.notify_peer_closed(None)
        await turns(3)
        assert loop.metrics().in_flight == before - 1
        made.peer.close()
        await turns(QUIET_TURNS)
        assert notice.calls == 0


async def test_asking_again_in_the_turn_of_taking_back_works(loop: Any) -> None:
    async with paused_wire() as (made, transport):
        forgotten = asked(transport, loop)
        await turns(2)
        transport.notify_peer_closed(None)
        notice = asked(transport, loop)
        await turns(QUIET_TURNS)
        assert notice.calls == 0
        made.peer.close()
        await notice.came
        assert forgotten.calls == 0


@pytest.mark.parametrize("end", ["close", "abort"])
async def test_nobody_is_called_after_the_own_end_and_the_peer_sees_it(end: str, loop: Any) -> None:
    async with wire() as made:
        notice = asked(made.transport, loop)
        await turns(2)
        getattr(made.transport, end)()
        made.transport.notify_peer_closed(notice)  # type: ignore[attr-defined]
        assert await in_thread(recv_until_eof, made.peer) == b""
        made.peer.close()
        await turns(QUIET_TURNS)
        assert notice.calls == 0


async def test_an_own_end_in_the_turn_of_the_peers_leaves_nothing(loop: Any) -> None:
    """The answer is on its way when the transport closes; the audit counts descriptors."""
    async with wire() as made:
        notice = asked(made.transport, loop)
        await turns(2)
        made.peer.close()
        made.transport.abort()
        await turns(QUIET_TURNS)
        assert notice.calls == 0


VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("VARIABLE", default="elsewhere")


async def test_the_callback_is_called_in_the_transports_context(loop: Any) -> None:
    class Setter(Recorder):
        def connection_made(self, transport: Any) -> None:
            VARIABLE.set("here")
            super().connection_made(transport)

    found = loop.create_future()
    async with wire(Setter) as made:
        transport: Any = made.transport
        transport.pause_reading()
        transport.notify_peer_closed(lambda: found.set_result(VARIABLE.get()))
        made.peer.close()
        assert await found == "here"


async def test_what_the_callback_raises_goes_to_the_handler(
    loop: Any, reported: list[dict[str, Any]]
) -> None:
    def fail() -> None:
        raise RuntimeError("from the callback")

    async with wire() as made:
        transport: Any = made.transport
        transport.pause_reading()
        transport.notify_peer_closed(fail)
        made.peer.close()
        await until_true(lambda: bool(reported))
    assert str(reported.pop()["exception"]) == "from the callback"


@pytest.mark.filterwarnings("ignore:unclosed transport:ResourceWarning")
def test_a_loop_may_be_closed_with_a_question_open(new_loop: LoopFactory) -> None:
    loop: Any = new_loop()
    ours, peer = socket.socketpair()

    async def ask() -> Any:
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
        transport.notify_peer_closed(print)
        await turns(2)
        return transport

    transport = loop.run_until_complete(ask())
    loop.close()
    peer.close()
    del transport
