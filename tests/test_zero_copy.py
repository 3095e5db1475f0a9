"""transport.set_zero_copy(): the same bytes in the same order, out of the writer's memory."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
from kernel_view import io_uring_knows
from loops import LoopFactory
from peers import (
    Wire,
    in_thread,
    numbered_bytes,
    recv_exactly,
    recv_until_eof,
    turns,
    until_true,
    wire,
)

from uringloop.transports.uncopied_send import UncopiedSend

pytestmark = pytest.mark.ours

KIB = 1 << 10
MIB = 1 << 20
THRESHOLD_BYTES = 8 * KIB
IORING_OP_SENDMSG_ZC = 48

# So little because the kernel charges a socket's send buffer with several times of what it sends
# without a copy (nearly ten times on 6.18).
HELD_BYTES = 24 * KIB


def has_zero_copy(loop: Any) -> bool:
    return "zero_copy" in loop.driver_state().features


def uncopied(loop: Any) -> list[Any]:
    return [each for each in loop._in_flight.operations() if isinstance(each, UncopiedSend)]


@contextlib.asynccontextmanager
async def wire_of_a_slow_peer() -> AsyncIterator[Wire]:
    """What is sent stays with our socket until the peer reads."""
    async with wire(buffer_bytes=4 * KIB) as made:
        sock = made.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MIB)
        yield made


def test_it_is_done_wherever_the_kernel_can(new_loop: LoopFactory, loop_kind: str) -> None:
    """Otherwise all below would be about copying."""
    is_known = io_uring_knows(IORING_OP_SENDMSG_ZC)
    assert has_zero_copy(new_loop()) == (loop_kind == "io_uring" and is_known)


@pytest.mark.parametrize("family", ["tcp", "tcp6"])
async def test_the_answer_says_whether_it_has_an_effect(family: str, loop: Any) -> None:
    async with wire(family=family) as made:
        transport: Any = made.transport
        assert transport.set_zero_copy(THRESHOLD_BYTES) == has_zero_copy(loop)
        assert transport.set_zero_copy(None) == has_zero_copy(loop)


async def test_unix_sockets_and_pipes_cannot(loop: Any) -> None:
    async with wire(family="unix") as made:
        transport: Any = made.transport
        assert transport.set_zero_copy(THRESHOLD_BYTES) is False
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as reader:
        pipe, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, os.fdopen(writing, "wb", 0))
        assert pipe.set_zero_copy(THRESHOLD_BYTES) is False
        pipe.write(b"x" * THRESHOLD_BYTES)
        assert await in_thread(reader.read, THRESHOLD_BYTES) == b"x" * THRESHOLD_BYTES
        pipe.close()
        await turns(3)


@pytest.mark.parametrize("threshold", [0, -1])
async def test_a_threshold_below_one_is_refused(threshold: int, loop: Any) -> None:
    async with wire() as made:
        transport: Any = made.transport
        with pytest.raises(ValueError, match=str(threshold)):
            transport.set_zero_copy(threshold)


@pytest.mark.parametrize("buffer_bytes", [None, 64 * KIB])
async def test_all_sizes_arrive_in_order(buffer_bytes: int | None, loop: Any) -> None:
    sizes = [
        1,
        100,
        40 * KIB,
        3,
        8 * KIB,
        8 * KIB - 1,
        200 * KIB,
        1,
        MIB if buffer_bytes is None else 1,
    ]
    async with wire(buffer_bytes=buffer_bytes) as made:
        transport: Any = made.transport
        transport.set_zero_copy(THRESHOLD_BYTES)
        reading = in_thread(recv_exactly, made.peer, sum(sizes))
        start = 0
        for size in sizes:
            transport.write(numbered_bytes(size, start))
            start += size
            await asyncio.sleep(0)
        assert await reading == numbered_bytes(sum(sizes))


async def test_only_what_is_large_enough_is_not_copied(loop: Any) -> None:
    async with wire_of_a_slow_peer() as made:
        transport: Any = made.transport
        transport.set_zero_copy(THRESHOLD_BYTES)
        transport.write(bytes(HELD_BYTES))  # more than the peer takes
        await turns(5)
        begun = len(uncopied(loop))
        assert begun == has_zero_copy(loop)
        transport.write(bytes(THRESHOLD_BYTES - 1))
        await turns(5)
        assert len(uncopied(loop)) == begun
        transport.write(bytes(THRESHOLD_BYTES))
        await turns(5)
        assert len(uncopied(loop)) == 2 * begun
        assert transport.get_write_buffer_size() == 0
        transport.set_zero_copy(None)
        transport.write(bytes(THRESHOLD_BYTES))
        await turns(5)
        assert len(uncopied(loop)) == 2 * begun
        await in_thread(recv_exactly, made.peer, HELD_BYTES + 3 * THRESHOLD_BYTES - 1)
        await until_true(lambda: not uncopied(loop))


async def test_pieces_of_a_turn_count_together(loop: Any) -> None:
    async with wire_of_a_slow_peer() as made:
        transport: Any = made.transport
        transport.set_zero_copy(THRESHOLD_BYTES)
        transport.writelines([numbered_bytes(20 * KIB), numbered_bytes(20 * KIB, 20 * KIB)])
        await turns(5)
        assert len(uncopied(loop)) == has_zero_copy(loop)
        assert await in_thread(recv_exactly, made.peer, 40 * KIB) == numbered_bytes(40 * KIB)


async def test_a_protocol_that_was_paused_is_resumed(loop: Any) -> None:
    async with wire() as made:
        transport: Any = made.transport
        transport.set_zero_copy(THRESHOLD_BYTES)
        transport.write(bytes(8 * MIB))
        reading = in_thread(recv_exactly, made.peer, 8 * MIB)
        await made.protocol.until_called("resume")
        await reading
        assert made.protocol.calls[:3] == ["made", "pause", "resume"]


@pytest.mark.parametrize("end", ["close", "write_eof"])
async def test_an_end_comes_after_all_bytes(end: str, loop: Any) -> None:
    async with wire_of_a_slow_peer() as made:
        transport: Any = made.transport
        transport.set_zero_copy(THRESHOLD_BYTES)
        transport.write(numbered_bytes(HELD_BYTES))
        getattr(transport, end)()
        await turns(5)
        assert await in_thread(recv_until_eof, made.peer) == numbered_bytes(HELD_BYTES)


async def test_a_peer_that_leaves_without_reading_ends_it(loop: Any) -> None:
    async with wire_of_a_slow_peer() as made:
        transport: Any = made.transport
        transport.set_zero_copy(THRESHOLD_BYTES)
        transport.write(bytes(HELD_BYTES))
        await turns(5)
        made.peer.close()
        await made.protocol.lost
        await until_true(lambda: not uncopied(loop))


async def test_aborting_keeps_the_memory_until_the_kernel_lets_go(loop: Any) -> None:
    async with wire_of_a_slow_peer() as made:
        transport: Any = made.transport
        transport.set_zero_copy(THRESHOLD_BYTES)
        transport.write(numbered_bytes(HELD_BYTES))
        await turns(5)
        transport.abort()
        await made.protocol.lost
        await turns(5)
        assert len(uncopied(loop)) == has_zero_copy(loop)
        assert transport._sock is None  # the socket itself is closed
        received = await in_thread(recv_until_eof, made.peer)
        assert received == numbered_bytes(HELD_BYTES)[: len(received)]
        await until_true(lambda: not uncopied(loop))


def test_a_loop_may_be_closed_with_memory_held(new_loop: LoopFactory) -> None:
    """What is still to be sent is sent as it was written."""
    loop: Any = new_loop()

    async def write() -> Any:
        async with wire_of_a_slow_peer() as made:
            transport: Any = made.transport
            transport.set_zero_copy(THRESHOLD_BYTES)
            transport.write(numbered_bytes(HELD_BYTES))
            await turns(5)
            peer = made.peer.dup()
            transport.close()
            await turns(5)
        return peer

    peer = loop.run_until_complete(write())
    loop.close()
    gc.collect()
    with peer:
        peer.settimeout(10)
        assert recv_until_eof(peer) == numbered_bytes(HELD_BYTES)
