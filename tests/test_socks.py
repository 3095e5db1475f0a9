"""sock_* methods and descriptor watching: plain sockets awaited, and given up at any moment."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import select
import socket
import ssl
from asyncio import AbstractEventLoop
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from audit import open_descriptors
from peers import in_thread, limit_buffers, numbered_bytes, recv_exactly, reset, turns, until_true


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


def udp_socket() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    sock.setblocking(False)
    return sock


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


async def test_each_receive_takes_at_most_what_it_asks_for(
    pair: Pair, loop: AbstractEventLoop
) -> None:
    ours, peer = pair
    peer.sendall(b"some bytes")
    assert await loop.sock_recv(ours, 4) == b"some"
    buffer = bytearray(3)
    assert await loop.sock_recv_into(ours, buffer) == 3
    assert buffer == b" by"
    assert await loop.sock_recv_into(ours, memoryview(bytearray(10))) == 3


async def test_a_large_stream_is_received_into_a_buffer(
    pair: Pair, loop: AbstractEventLoop
) -> None:
    ours, peer = pair
    payload = numbered_bytes(1_000_000)
    sending = in_thread(peer.sendall, payload)
    buffer = bytearray(len(payload))
    done = 0
    with memoryview(buffer) as view:
        while done < len(payload):
            done += await loop.sock_recv_into(ours, view[done:])
    await sending
    assert buffer == payload


@pytest.mark.parametrize(
    ("method", "arguments", "error"),
    [
        ("sock_recv", (-1,), ValueError),
        ("sock_recv", ("1",), TypeError),
        ("sock_recv", (1.5,), TypeError),
        ("sock_recv_into", (b"read only",), TypeError),
        ("sock_sendall", ("text",), TypeError),
        ("sock_sendall", (7,), TypeError),
        ("sock_sendall", (memoryview(b"with gaps")[::2],), BufferError),
        ("sock_accept", (), OSError),
    ],
)
async def test_arguments_are_refused_as_the_socket_refuses_them(
    method: str, arguments: tuple[Any, ...], error: type, pair: Pair, loop: AbstractEventLoop
) -> None:
    with pytest.raises(error):
        await getattr(loop, method)(pair[0], *arguments)


@pytest.mark.difference("datagram_calls")
@pytest.mark.parametrize(
    ("method", "arguments", "error"),
    [
        ("sock_recvfrom", (-1,), ValueError),
        ("sock_recvfrom_into", (bytearray(3), 4), ValueError),
        ("sock_recvfrom_into", (bytearray(3), -1), ValueError),
        ("sock_sendto", ("text", ("127.0.0.1", 9)), TypeError),
        ("sock_sendto", (b"x", ("127.0.0.1", 99999)), OverflowError),
        ("sock_sendto", (b"x", "127.0.0.1"), TypeError),
    ],
)
async def test_datagram_arguments_are_refused_as_the_socket_refuses_them(
    method: str, arguments: tuple[Any, ...], error: type, loop: AbstractEventLoop
) -> None:
    with udp_socket() as sock, pytest.raises(error):
        await getattr(loop, method)(sock, *arguments)


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("sock_recv", (1,)),
        ("sock_recv_into", (bytearray(1),)),
        ("sock_sendall", (b"x",)),
        ("sock_sendall", (bytearray(b"x"),)),
        ("sock_accept", ()),
        ("sock_connect", (("127.0.0.1", 9),)),
    ],
)
async def test_a_closed_socket_is_an_error(
    method: str, arguments: tuple[Any, ...], loop: AbstractEventLoop
) -> None:
    sock = socket.socket()
    sock.setblocking(False)
    sock.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        await getattr(loop, method)(sock, *arguments)


async def test_sending_nothing_asks_the_socket_all_the_same(
    pair: Pair, loop: AbstractEventLoop
) -> None:
    ours, peer = pair
    await loop.sock_sendall(ours, b"")
    await loop.sock_sendall(ours, bytearray())
    peer.close()
    with pytest.raises(BrokenPipeError):
        await loop.sock_sendall(ours, b"x")


async def test_receiving_nothing_takes_nothing(pair: Pair, loop: AbstractEventLoop) -> None:
    ours, peer = pair
    peer.sendall(b"data")
    assert await loop.sock_recv(ours, 0) == b""
    assert await loop.sock_recv_into(ours, bytearray()) == 0
    assert await loop.sock_recv(ours, 10) == b"data"


async def test_what_is_sent_may_be_any_buffer(pair: Pair, loop: AbstractEventLoop) -> None:
    ours, peer = pair
    for data in (bytearray(b"data"), memoryview(b"data"), memoryview(b"-data-")[1:5]):
        await loop.sock_sendall(ours, data)
        assert recv_exactly(peer, 4) == b"data"


async def test_a_buffer_may_be_resized_once_it_is_sent(
    pair: Pair, loop: AbstractEventLoop
) -> None:
    data = bytearray(b"data")
    await loop.sock_sendall(pair[0], data)
    data += b" and more"
    pair[1].close()
    with pytest.raises(BrokenPipeError):
        await loop.sock_sendall(pair[0], data)
    data.clear()


async def test_a_reset_is_an_error(listener: socket.socket, loop: AbstractEventLoop) -> None:
    with socket.socket() as client:
        client.setblocking(False)
        await loop.sock_connect(client, listener.getsockname())
        accepted, _ = await loop.sock_accept(listener)
        receiving = loop.create_task(loop.sock_recv(client, 1))
        await turns(2)
        reset(accepted)
        with pytest.raises(ConnectionResetError):
            await receiving


async def test_receiving_and_sending_at_once(pair: Pair, loop: AbstractEventLoop) -> None:
    """Both directions of one socket are with the kernel at the same time."""
    ours, peer = pair
    limit_buffers(ours, 4096)
    payload = numbered_bytes(300_000)
    receiving = loop.create_task(loop.sock_recv(ours, 10))
    sending = loop.create_task(loop.sock_sendall(ours, payload))
    await turns(5)
    assert not receiving.done()
    assert not sending.done()
    peer.sendall(b"answer")
    assert await receiving == b"answer"
    reading = in_thread(recv_exactly, peer, len(payload))
    await sending
    assert await reading == payload


@pytest.mark.difference("overlapping_calls")
async def test_receives_that_overlap_are_answered_in_the_order_of_the_calls(
    pair: Pair, loop: AbstractEventLoop
) -> None:
    ours, peer = pair
    tasks = [loop.create_task(loop.sock_recv(ours, 1)) for _ in range(5)]
    await turns(2)
    peer.sendall(b"ab")
    await tasks[1]
    tasks[3].cancel()
    peer.sendall(b"cd")
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(answers.pop(3), asyncio.CancelledError)
    assert answers == [b"a", b"b", b"c", b"d"]


@pytest.mark.difference("overlapping_calls")
async def test_sends_that_overlap_are_whole_and_in_the_order_of_the_calls(
    pair: Pair, loop: AbstractEventLoop
) -> None:
    ours, peer = pair
    limit_buffers(ours, 4096)
    pieces = [bytes([number]) * 100_000 for number in range(5)]
    tasks = [loop.create_task(loop.sock_sendall(ours, piece)) for piece in pieces]
    await turns(2)
    tasks[2].cancel()  # it has not begun
    assert await in_thread(recv_exactly, peer, 400_000) == b"".join(pieces[:2] + pieces[3:])
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(answers.pop(2), asyncio.CancelledError)
    assert answers == [None] * 4


@pytest.mark.difference("overlapping_calls")
async def test_accepts_that_overlap_get_a_connection_each(
    listener: socket.socket, loop: AbstractEventLoop
) -> None:
    tasks = [loop.create_task(loop.sock_accept(listener)) for _ in range(3)]
    await turns(2)
    for task in tasks:
        with socket.create_connection(listener.getsockname(), timeout=10) as peer:
            accepted, address = await task
            with accepted:
                assert address == peer.getsockname()


async def test_a_task_that_finds_data_each_time_does_not_starve_the_others(
    pair: Pair, loop: AbstractEventLoop
) -> None:
    ours, peer = pair
    peer.sendall(bytes(1000))
    others = loop.create_task(turns(50))
    for _ in range(1000):
        assert await loop.sock_recv(ours, 1) == b"\0"
        if others.done():
            break
        await asyncio.sleep(0)
    await others


async def test_a_peer_that_reset_at_once_still_has_its_name(
    listener: socket.socket, loop: AbstractEventLoop
) -> None:
    peer = socket.create_connection(listener.getsockname(), timeout=10)
    name = peer.getsockname()
    reset(peer)
    accepted, address = await loop.sock_accept(listener)
    with accepted:
        assert address == name


async def test_unix_connections_have_the_address_that_the_socket_has(
    tmp_path: Path, loop: AbstractEventLoop
) -> None:
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind(str(tmp_path / "server"))
        server.listen()
        server.setblocking(False)
        client.setblocking(False)
        await loop.sock_connect(client, str(tmp_path / "server"))
        accepted, address = await loop.sock_accept(server)
        with accepted:
            assert address == ""
        client.close()


@pytest.mark.difference("datagram_calls")
async def test_datagrams_come_with_their_sender(loop: AbstractEventLoop) -> None:
    with udp_socket() as ours, udp_socket() as peer:
        assert await loop.sock_sendto(peer, b"first", ours.getsockname()) == 5
        assert await loop.sock_sendto(peer, b"", ours.getsockname()) == 0
        assert await loop.sock_sendto(peer, bytearray(b"third"), ours.getsockname()) == 5
        sender = peer.getsockname()
        assert await loop.sock_recvfrom(ours, 100) == (b"first", sender)
        assert await loop.sock_recvfrom(ours, 100) == (b"", sender)
        buffer = bytearray(100)
        assert await loop.sock_recvfrom_into(ours, buffer) == (5, sender)
        assert buffer[:5] == b"third"


@pytest.mark.difference("datagram_calls")
async def test_a_datagram_longer_than_asked_for_is_cut(loop: AbstractEventLoop) -> None:
    with udp_socket() as ours, udp_socket() as peer:
        for _ in range(4):
            peer.sendto(b"long message", ours.getsockname())
        peer.sendto(b"next", ours.getsockname())
        assert await loop.sock_recv(ours, 4) == b"long"
        assert (await loop.sock_recvfrom(ours, 4))[0] == b"long"
        buffer = bytearray(b"." * 8)
        assert await loop.sock_recv_into(ours, memoryview(buffer)[:4]) == 4
        assert (await loop.sock_recvfrom_into(ours, buffer, 4))[0] == 4
        assert buffer == b"long...."
        assert await loop.sock_recv(ours, 100) == b"next"


async def test_a_connected_datagram_socket_sends_and_hears_of_nobody(
    loop: AbstractEventLoop,
) -> None:
    with udp_socket() as ours, udp_socket() as peer:
        await loop.sock_connect(ours, peer.getsockname())
        await loop.sock_sendall(ours, b"to the peer")
        assert await loop.sock_recv(peer, 100) == b"to the peer"
        peer.close()
        await loop.sock_sendall(ours, b"to nobody")
        with pytest.raises(ConnectionRefusedError):
            await loop.sock_recv(ours, 100)


@pytest.mark.difference("datagram_calls")
async def test_an_oversize_datagram_is_an_error(loop: AbstractEventLoop) -> None:
    with udp_socket() as ours, pytest.raises(OSError, match="too long"):
        await loop.sock_sendto(ours, bytes(70_000), ours.getsockname())


@pytest.mark.difference("datagram_calls")
async def test_datagrams_sent_to_names_are_looked_up_by_the_socket(
    loop: AbstractEventLoop,
) -> None:
    with udp_socket() as ours:
        port = ours.getsockname()[1]
        await loop.sock_sendto(ours, b"by name", ("localhost", port))
        assert (await loop.sock_recvfrom(ours, 100))[0] == b"by name"


@pytest.mark.difference("datagram_calls")
async def test_datagrams_of_unix_sockets(tmp_path: Path, loop: AbstractEventLoop) -> None:
    kind = (socket.AF_UNIX, socket.SOCK_DGRAM)
    with socket.socket(*kind) as ours, socket.socket(*kind) as peer:
        ours.bind(str(tmp_path / "ours"))
        ours.setblocking(False)
        peer.setblocking(False)
        await loop.sock_sendto(peer, b"nameless", str(tmp_path / "ours"))
        assert await loop.sock_recvfrom(ours, 100) == (b"nameless", None)
        peer.bind(str(tmp_path / "peer"))
        await loop.sock_sendto(peer, b"named", str(tmp_path / "ours"))
        assert await loop.sock_recvfrom(ours, 100) == (b"named", str(tmp_path / "peer"))


async def test_the_socket_of_a_transport_is_refused_while_the_call_would_wait(
    pair: Pair, loop: AbstractEventLoop
) -> None:
    transport, _ = await loop.create_unix_connection(asyncio.Protocol, sock=pair[0])
    with pytest.raises(RuntimeError, match="is used by transport"):
        await loop.sock_recv(pair[0], 1)
    with pytest.raises(RuntimeError, match="is used by transport"):
        await loop.sock_recv_into(pair[0], bytearray(1))
    transport.close()
    await turns(3)


async def test_a_socket_of_tls_is_refused(loop: AbstractEventLoop) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    with socket.socket() as plain, context.wrap_socket(plain) as sock:
        for call in (
            loop.sock_recv(sock, 1),
            loop.sock_sendall(sock, b"x"),
            loop.sock_accept(sock),
            loop.sock_connect(sock, ("127.0.0.1", 9)),
        ):
            with pytest.raises(TypeError, match="SSLSocket"):
                await call


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
