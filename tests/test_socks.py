"""sock_* methods and descriptor watching: plain sockets awaited, and given up at any moment."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from asyncio import AbstractEventLoop
from pathlib import Path
from typing import Any

import pytest
from peers import Pair, in_thread, limit_buffers, numbered_bytes, recv_exactly, reset, turns


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


async def test_a_buffer_may_be_resized_once_it_is_sent(pair: Pair, loop: AbstractEventLoop) -> None:
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


async def test_a_socket_whose_connect_was_cancelled_can_connect_again(
    loop: AbstractEventLoop,
) -> None:
    """The error of the attempt that was given up may still be told, but no other."""
    with socket.socket() as server, socket.socket() as client:
        server.bind(("127.0.0.1", 0))
        client.setblocking(False)
        task = loop.create_task(loop.sock_connect(client, server.getsockname()))
        await asyncio.sleep(0)
        task.cancel()
        server.listen()
        with contextlib.suppress(ConnectionRefusedError):
            await loop.sock_connect(client, server.getsockname())
            return
        await loop.sock_connect(client, server.getsockname())


async def test_a_blocking_socket_is_refused_in_debug_mode(
    pair: Pair, loop: AbstractEventLoop
) -> None:
    loop.set_debug(True)
    with pytest.raises(ValueError, match="the socket must be non-blocking"):
        await loop.sock_recv(pair[1], 1)
    with pytest.raises(ValueError, match="the socket must be non-blocking"):
        await loop.sock_sendall(pair[1], b"x")
    loop.set_debug(False)


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
