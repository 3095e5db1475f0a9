"""sock_recvfrom, sock_recvfrom_into, sock_sendto: messages that have borders and a sender."""

from __future__ import annotations

import socket
from asyncio import AbstractEventLoop
from pathlib import Path
from typing import Any

import pytest


def udp_socket() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    sock.setblocking(False)
    return sock


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


@pytest.mark.difference("overlapping_calls")
async def test_datagrams_that_are_waited_for_at_once_come_one_each(
    loop: AbstractEventLoop,
) -> None:
    with udp_socket() as ours, udp_socket() as peer:
        calls = [loop.sock_recvfrom(ours, 100), loop.sock_recv(ours, 100)]
        tasks = [loop.create_task(call) for call in calls]
        await loop.sock_sendto(peer, b"first", ours.getsockname())
        await loop.sock_sendto(peer, b"second", ours.getsockname())
        assert await tasks[0] == (b"first", peer.getsockname())
        assert await tasks[1] == b"second"
