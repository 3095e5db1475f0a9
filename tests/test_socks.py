"""sock_* methods and descriptor watching: plain sockets awaited, and given up at any moment."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import select
import socket
from asyncio import AbstractEventLoop
from collections.abc import Iterator

import pytest
from audit import open_descriptors
from peers import in_thread, limit_buffers, numbered_bytes, recv_exactly, turns, until_true


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two connected sockets, ours non-blocking, the peer's with a limit."""
    ours, peer = socket.socketpair()
    ours.setblocking(False)
    peer.settimeout(10)
    with ours, peer:
        yield ours, peer


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0), backlog=1000) as sock:
        sock.setblocking(False)
        yield sock


Pair = tuple[socket.socket, socket.socket]


async def test_sock_recv_waits_for_data(pair: Pair, loop: AbstractEventLoop) -> None:
    ours, peer = pair
    receiving = loop.create_task(loop.sock_recv(ours, 100))
    await turns(3)
    assert not receiving.done()
    peer.sendall(b"data")
    assert await receiving == b"data"
    peer.close()
    assert await loop.sock_recv(ours, 100) == b""


async def test_sock_recv_into_fills_the_given_buffer(pair: Pair, loop: AbstractEventLoop) -> None:
    ours, peer = pair
    buffer = bytearray(b"." * 10)
    peer.sendall(b"data")
    assert await loop.sock_recv_into(ours, buffer) == 4
    assert buffer == b"data......"


async def test_sock_sendall_waits_until_all_is_sent(pair: Pair, loop: AbstractEventLoop) -> None:
    ours, peer = pair
    limit_buffers(ours, 4096)
    payload = numbered_bytes(500_000)
    reading = in_thread(recv_exactly, peer, len(payload))
    await loop.sock_sendall(ours, payload)
    assert await reading == payload


async def test_sock_connect_and_accept_meet(
    listener: socket.socket, loop: AbstractEventLoop
) -> None:
    with socket.socket() as client:
        client.setblocking(False)
        accepting = loop.create_task(loop.sock_accept(listener))
        await loop.sock_connect(client, listener.getsockname())
        accepted, address = await accepting
        with accepted:
            assert address == client.getsockname()
            assert not accepted.getblocking()
            await loop.sock_sendall(accepted, b"hello")
            assert await loop.sock_recv(client, 5) == b"hello"


async def test_sock_connect_to_nobody_is_an_error(loop: AbstractEventLoop) -> None:
    with socket.socket() as bound, socket.socket() as client:
        bound.bind(("127.0.0.1", 0))
        client.setblocking(False)
        with pytest.raises(ConnectionRefusedError):
            await loop.sock_connect(client, bound.getsockname())


async def test_a_blocking_socket_is_refused_in_debug_mode(
    pair: Pair, loop: AbstractEventLoop
) -> None:
    loop.set_debug(True)
    with pytest.raises(ValueError, match="the socket must be non-blocking"):
        await loop.sock_recv(pair[1], 1)
    with pytest.raises(ValueError, match="the socket must be non-blocking"):
        await loop.sock_sendall(pair[1], b"x")
    loop.set_debug(False)


@pytest.mark.difference("cancelled_receive")
@pytest.mark.parametrize("seed", range(10))
async def test_receives_given_up_at_random_lose_no_byte(
    seed: int, pair: Pair, loop: AbstractEventLoop
) -> None:
    """Row 8: a cancelled receive may already have taken data; it must not be dropped."""
    ours, peer = pair
    payload = numbered_bytes(20_000)
    sending = in_thread(_send_in_bits, peer, payload, seed)
    assert await _receive_with_cancels(loop, ours, random.Random(seed)) == payload
    await sending


async def _receive_with_cancels(
    loop: AbstractEventLoop, sock: socket.socket, chance: random.Random
) -> bytes:
    received = bytearray()
    while True:
        task = loop.create_task(loop.sock_recv(sock, chance.randrange(1, 400)))
        await turns(chance.randrange(4))
        if chance.random() < 0.5:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            if not await task:
                return bytes(received)
            received += task.result()


def _send_in_bits(sock: socket.socket, payload: bytes, seed: int) -> None:
    chance = random.Random(seed)
    start = 0
    while start < len(payload):
        size = chance.randrange(1, 100)
        sock.sendall(payload[start : start + size])
        start += size
    sock.shutdown(socket.SHUT_WR)


@pytest.mark.difference("cancelled_receive")
async def test_a_receive_cancelled_after_it_took_data_does_not_lose_it(
    pair: Pair, loop: AbstractEventLoop
) -> None:
    """Row 8: between the kernel's answer and the turn in which the task would get it."""
    ours, peer = pair
    for number in range(20):
        message = b"message %02d" % number
        task = loop.create_task(loop.sock_recv(ours, 100))
        await turns(2)
        peer.sendall(message)
        await until_true(lambda task=task: task.done() or not _is_readable(ours))
        task.cancel()
        try:
            received = await task
        except asyncio.CancelledError:
            received = await asyncio.wait_for(loop.sock_recv(ours, 100), 2)
        assert received == message


def _is_readable(sock: socket.socket) -> bool:
    return bool(select.select([sock], [], [], 0)[0])


@pytest.mark.difference("cancelled_receive")
async def test_an_accept_cancelled_after_it_took_a_connection_does_not_lose_it(
    listener: socket.socket, loop: AbstractEventLoop
) -> None:
    """Row 10: the same for a connection."""
    for _ in range(20):
        task = loop.create_task(loop.sock_accept(listener))
        await turns(2)
        with socket.create_connection(listener.getsockname(), timeout=10) as peer:
            await until_true(lambda task=task: task.done() or not _is_readable(listener))
            task.cancel()
            try:
                accepted, address = await task
            except asyncio.CancelledError:
                accepted, address = await asyncio.wait_for(loop.sock_accept(listener), 2)
            with accepted:
                assert address == peer.getsockname()


async def test_a_receive_cancelled_in_the_turn_that_started_it_is_gone(
    pair: Pair, loop: AbstractEventLoop
) -> None:
    """Row 9: the cancel must find its target although neither was submitted before."""
    ours, peer = pair
    for _ in range(50):
        task = loop.create_task(loop.sock_recv(ours, 10))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    peer.sendall(b"for the next")
    assert await loop.sock_recv(ours, 100) == b"for the next"


async def test_accepts_given_up_at_random_leak_no_descriptor(
    listener: socket.socket, loop: AbstractEventLoop
) -> None:
    """Rows 8 and 10: what a cancelled accept took is served later or closed, never lost."""
    chance = random.Random(5)
    before = open_descriptors()
    for _ in range(300):
        with socket.create_connection(listener.getsockname(), timeout=10) as peer:
            task = loop.create_task(loop.sock_accept(listener))
            await turns(chance.randrange(3))
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                (await task)[0].close()
            peer.setblocking(False)
    await turns(5)
    assert open_descriptors() == before


async def test_connects_given_up_at_random_leave_the_socket_to_its_owner(
    listener: socket.socket, loop: AbstractEventLoop
) -> None:
    """Rows 8 and 10."""
    chance = random.Random(6)
    for _ in range(200):
        with socket.socket() as client:
            client.setblocking(False)
            task = loop.create_task(loop.sock_connect(client, listener.getsockname()))
            await turns(chance.randrange(3))
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            assert client.fileno() >= 0


async def test_a_reader_is_called_while_there_is_data(pair: Pair, loop: AbstractEventLoop) -> None:
    ours, peer = pair
    received = bytearray()
    ended = loop.create_future()

    def read_one_byte() -> None:
        received.extend(ours.recv(1))
        if len(received) == 5:
            assert loop.remove_reader(ours)
            ended.set_result(None)

    loop.add_reader(ours, read_one_byte)
    peer.sendall(b"bytes and more")
    await ended
    assert received == b"bytes"
    assert not loop.remove_reader(ours)


async def test_a_writer_is_called_while_there_is_room(pair: Pair, loop: AbstractEventLoop) -> None:
    ours, peer = pair
    calls: list[int] = []
    ended = loop.create_future()

    def write() -> None:
        calls.append(ours.send(b"x"))
        if len(calls) == 5:
            assert loop.remove_writer(ours)
            ended.set_result(None)

    loop.add_writer(ours.fileno(), write)
    await ended
    assert peer.recv(100) == b"xxxxx"
    assert not loop.remove_writer(ours)


async def test_a_new_reader_replaces_the_old_one(pair: Pair, loop: AbstractEventLoop) -> None:
    ours, peer = pair
    called = loop.create_future()
    loop.add_reader(ours, pytest.fail, "replaced")
    loop.add_reader(ours, lambda: (loop.remove_reader(ours), called.set_result(None)))
    peer.sendall(b"x")
    await called


async def test_a_descriptor_can_be_watched_again_after_its_number_was_reused(
    loop: AbstractEventLoop,
) -> None:
    """Row 5."""
    for _ in range(50):
        reading, writing = os.pipe()
        called = loop.create_future()
        loop.add_reader(reading, called.set_result, None)
        await asyncio.sleep(0)
        assert not called.done()
        os.write(writing, b"x")
        await called
        loop.remove_reader(reading)
        os.close(reading)
        os.close(writing)


async def test_a_descriptor_of_a_transport_cannot_be_watched(
    pair: Pair, loop: AbstractEventLoop
) -> None:
    transport, _ = await loop.create_unix_connection(asyncio.Protocol, sock=pair[0])
    with pytest.raises(RuntimeError, match="is used by transport"):
        loop.add_reader(pair[0], print)
    with pytest.raises(RuntimeError, match="is used by transport"):
        loop.add_writer(pair[0].fileno(), print)
    transport.close()
    await turns(3)
