"""Plain sockets awaited and given up at any moment: nothing is lost, nothing leaks.

What a cancelled call has taken goes to who asks the socket next: another call, a transport, a
server. The tests cancel before, between and after the answer, and look at the outcome alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import select
import socket
from asyncio import AbstractEventLoop
from typing import Any

import pytest
from audit import open_descriptors
from loops import LoopFactory
from peers import (
    Pair,
    Recorder,
    in_thread,
    limit_buffers,
    numbered_bytes,
    turns,
    until_true,
)

# How many turns of the loop may lie between a call and its cancellation.
PAUSES = range(4)


def udp_socket() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    sock.setblocking(False)
    return sock


async def outcome(task: asyncio.Task[Any]) -> Any:
    """The task's result; None when it was cancelled."""
    try:
        return await task
    except asyncio.CancelledError:
        return None


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
    listener_fd = listener.fileno()
    for _ in range(300):
        with socket.create_connection(listener.getsockname(), timeout=10) as peer:
            task = loop.create_task(loop.sock_accept(listener))
            await turns(chance.randrange(3))
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                (await task)[0].close()
            peer.setblocking(False)
    listener.close()
    gone = {(number, name) for number, name in before if number == listener_fd}
    # One that is kept for the next accept is closed with its listener.
    await until_true(lambda: open_descriptors() == before - gone)


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


@pytest.mark.difference("cancelled_receive")
@pytest.mark.parametrize("seed", range(5))
async def test_receives_into_a_buffer_given_up_at_random_lose_no_byte(
    seed: int, pair: Pair, loop: AbstractEventLoop
) -> None:
    """Rows 6 and 8. The one buffer is wiped after each call: nothing may come into it late."""
    ours, peer = pair
    chance = random.Random(seed)
    payload = numbered_bytes(20_000)
    sending = in_thread(_send_in_bits, peer, payload, seed)
    received = bytearray()
    buffer = bytearray(400)
    count = None
    while count != 0:
        task = loop.create_task(
            loop.sock_recv_into(ours, memoryview(buffer)[: chance.randrange(1, 400)])
        )
        await turns(chance.randrange(4))
        if chance.random() < 0.5:
            task.cancel()
        count = await outcome(task)
        if count is None:
            buffer[:] = bytes(400)
        else:
            assert len(received) + count <= len(payload)
            received += buffer[:count]
    assert received == payload
    await sending


@pytest.mark.difference("cancelled_receive")
@pytest.mark.parametrize("seed", range(5))
async def test_datagrams_received_with_cancels_at_random_are_all_there(
    seed: int, loop: AbstractEventLoop
) -> None:
    """Row 8. Calls ask for different sizes; what a small one leaves uncut is whole again."""
    chance = random.Random(seed)
    with udp_socket() as ours, udp_socket() as peer:
        numbers = []
        for number in range(100):
            peer.sendto(b"%03d" % number + bytes(50), ours.getsockname())
            while len(numbers) <= number:
                size = chance.choice([10, 100])
                task = loop.create_task(loop.sock_recvfrom(ours, size))
                await turns(chance.randrange(4))
                if chance.random() < 0.7:
                    task.cancel()
                answer = await outcome(task)
                if answer is not None:
                    data, sender = answer
                    assert sender == peer.getsockname()
                    assert len(data) == min(size, 53)
                    numbers.append(int(data[:3]))
        assert numbers == list(range(100))


@pytest.mark.difference("overlapping_calls")
@pytest.mark.parametrize("seed", range(10))
async def test_receives_that_overlap_and_are_given_up_keep_the_order(
    seed: int, pair: Pair, loop: AbstractEventLoop
) -> None:
    """Up to five calls wait, of which any may be cancelled, in any moment."""
    ours, peer = pair
    chance = random.Random(seed)
    payload = numbered_bytes(20_000)
    sending = in_thread(_send_in_bits, peer, payload, seed)
    waiting: list[asyncio.Task[bytes]] = []
    received = bytearray()
    while len(received) < len(payload):
        while len(waiting) < 5:
            waiting.append(loop.create_task(loop.sock_recv(ours, chance.randrange(1, 200))))
        await turns(chance.randrange(3))
        if chance.random() < 0.5:
            chance.choice(waiting).cancel()
        while waiting and (waiting[0].done() or len(received) == len(payload)):
            received += await outcome(waiting.pop(0)) or b""
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert received == payload
    await sending


@pytest.mark.difference("cancelled_receive")
@pytest.mark.parametrize("pause", PAUSES)
async def test_a_transport_gets_what_a_cancelled_receive_took(
    pause: int, pair: Pair, loop: AbstractEventLoop
) -> None:
    ours, peer = pair
    task = loop.create_task(loop.sock_recv(ours, 3))
    await turns(2)
    peer.sendall(b"first")
    await turns(pause)
    task.cancel()
    taken = await outcome(task) or b""
    transport, protocol = await loop.create_unix_connection(Recorder, sock=ours)
    peer.sendall(b" second")
    assert taken + await protocol.received(12 - len(taken)) == b"first second"
    transport.close()
    await protocol.lost


@pytest.mark.difference("cancelled_receive")
@pytest.mark.parametrize("pause", PAUSES)
async def test_an_accepted_socket_keeps_what_a_cancelled_receive_took(
    pause: int, pair: Pair, loop: AbstractEventLoop
) -> None:
    """The transport comes in the same turn as the cancel, and after a send that was stopped."""
    ours, peer = pair
    limit_buffers(ours, 4096)
    task = loop.create_task(loop.sock_recv(ours, 100))
    sending = loop.create_task(loop.sock_sendall(ours, bytes(1_000_000)))
    await turns(2)
    peer.sendall(b"first")
    await turns(pause)
    task.cancel()
    sending.cancel()
    transport, protocol = await loop.connect_accepted_socket(Recorder, ours)
    taken = await outcome(task) or b""
    assert await outcome(sending) is None
    transport.write(b"from the transport")
    transport.write_eof()
    assert (await in_thread(_last_bytes, peer)).strip(b"\0") == b"from the transport"
    assert taken + await protocol.received(5 - len(taken)) == b"first"
    transport.close()
    await protocol.lost


def _last_bytes(sock: socket.socket) -> bytes:
    """The end of what comes until end of file."""
    last = b""
    while data := sock.recv(65536):
        last = (last + data)[-100:]
    return last


@pytest.mark.difference("cancelled_receive")
@pytest.mark.parametrize("pause", PAUSES)
async def test_a_server_gets_what_a_cancelled_accept_took(
    pause: int, listener: socket.socket, loop: AbstractEventLoop
) -> None:
    """Row 10: the connection is served, whichever answer the kernel gave first."""
    task = loop.create_task(loop.sock_accept(listener))
    await turns(2)
    with socket.create_connection(listener.getsockname(), timeout=10) as peer:
        await turns(pause)
        task.cancel()
        accepted = await outcome(task)
        if accepted is not None:
            accepted[0].close()
            return
        protocols: list[Recorder] = []

        def made() -> Recorder:
            protocols.append(Recorder())
            return protocols[-1]

        server = await loop.create_server(made, sock=listener)
        peer.sendall(b"hello")
        await until_true(lambda: bool(protocols))
        assert await protocols[0].received(5) == b"hello"
        assert protocols[0].transport.get_extra_info("peername") == peer.getsockname()
        protocols[0].transport.close()
        server.close()
        await protocols[0].lost


@pytest.mark.parametrize("pause", PAUSES)
async def test_a_cancelled_call_and_a_closed_socket_leave_nothing(
    pause: int, loop: AbstractEventLoop
) -> None:
    """Row 5: the peer sees the end, and the number's next owner gets none of its bytes."""
    before = open_descriptors()
    for number in range(30):
        ours, peer = socket.socketpair()
        ours.setblocking(False)
        peer.settimeout(10)
        task = loop.create_task(loop.sock_recv(ours, 100))
        await turns(pause)
        peer.sendall(b"old %02d" % number)
        task.cancel()
        taken = await outcome(task)
        ours.close()
        assert taken in (None, b"old %02d" % number)
        new, new_peer = socket.socketpair()
        new.setblocking(False)
        new_peer.sendall(b"new")
        assert await loop.sock_recv(new, 100) == b"new"
        with peer, new, new_peer, contextlib.suppress(ConnectionResetError):
            assert await in_thread(peer.recv, 1) == b""
    del ours, peer, new, new_peer
    await loop.shutdown_default_executor()
    assert open_descriptors() <= before


@pytest.mark.ours
async def test_a_connection_that_nobody_asks_for_ends_with_its_listener(
    loop: AbstractEventLoop,
) -> None:
    """Row 10: the listener is closed, and still referred to by the one who closed it."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=100)
    listener.setblocking(False)
    peers = []
    for number in range(20):
        task = loop.create_task(loop.sock_accept(listener))
        await turns(2)
        peers.append(socket.create_connection(listener.getsockname(), timeout=10))
        await turns(number % 4)
        task.cancel()
        accepted = await outcome(task)
        if accepted is not None:
            accepted[0].close()
    await turns(3)
    listener.close()
    for peer in peers:
        with peer, contextlib.suppress(ConnectionResetError):
            assert await in_thread(peer.recv, 1) == b""


@pytest.mark.difference("cancelled_receive")
@pytest.mark.parametrize("pause", PAUSES)
def test_a_loop_that_is_closed_closes_what_it_kept(pause: int, new_loop: LoopFactory) -> None:
    """Row 10: the connections of accepts that were cancelled, or are still waiting."""
    loop = new_loop()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)

        async def take_none() -> socket.socket:
            task = loop.create_task(loop.sock_accept(listener))
            await turns(2)
            peer = socket.create_connection(listener.getsockname(), timeout=10)
            await turns(pause)
            task.cancel()
            accepted = await outcome(task)
            if accepted is not None:
                accepted[0].close()
            return peer

        peer = loop.run_until_complete(take_none())
        loop.close()
    gc.collect()
    with peer, contextlib.suppress(ConnectionResetError):
        assert peer.recv(1) == b""


@pytest.mark.ours
@pytest.mark.parametrize("method", ["sock_recv", "sock_sendall", "sock_accept", "sock_recv_into"])
def test_a_loop_that_is_closed_lets_go_of_waiting_calls(
    method: str, pair: Pair, listener: socket.socket, new_loop: LoopFactory
) -> None:
    """Nothing but asyncio's word about the pending task is said, and no buffer stays in use."""
    loop = new_loop()
    said: list[str] = []
    loop.set_exception_handler(lambda _, context: said.append(context["message"]))
    buffer = bytearray(1_000_000)
    arguments = {"sock_recv": (1,), "sock_accept": ()}.get(method, (buffer,))
    sock = listener if method == "sock_accept" else pair[0]

    async def leave_waiting() -> list[asyncio.Task[Any]]:
        call = getattr(loop, method)
        tasks = [loop.create_task(call(sock, *arguments)) for _ in range(2)]
        await turns(3)
        return tasks

    tasks = loop.run_until_complete(leave_waiting())
    assert not any(task.done() for task in tasks)
    loop.close()
    tasks.clear()
    gc.collect()
    assert said == ["Task was destroyed but it is pending!"] * 2
    buffer += b"resized"


async def test_a_send_given_up_lets_the_next_one_begin(pair: Pair, loop: AbstractEventLoop) -> None:
    """Row 11: never two sends of one socket at once; what the first had sent comes first."""
    ours, peer = pair
    limit_buffers(ours, 4096)
    first = loop.create_task(loop.sock_sendall(ours, b"1" * 1_000_000))
    await turns(3)
    first.cancel()
    assert await outcome(first) is None
    second = loop.create_task(loop.sock_sendall(ours, b"2" * 100_000))
    received = bytearray()
    while received.count(b"2") < 100_000:
        received += await in_thread(peer.recv, 65536)
    await second
    assert received.lstrip(b"1") == b"2" * 100_000
    assert len(received) < 1_000_000


async def test_a_call_that_times_out_is_as_if_it_had_not_been(
    pair: Pair, loop: AbstractEventLoop
) -> None:
    ours, peer = pair
    for _ in range(20):
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(loop.sock_recv(ours, 100), 0.001)
    peer.sendall(b"data")
    assert await loop.sock_recv(ours, 100) == b"data"
