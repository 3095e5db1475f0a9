"""create_connection() to addresses in digits: what goes the short way, and that nobody can tell."""

from __future__ import annotations

import socket
from asyncio import AbstractEventLoop
from typing import Any

import pytest
from peers import Recorder, in_thread

from uringloop.plain_connections import plain_target


@pytest.mark.parametrize(
    ("host", "port", "expected"),
    [
        ("127.0.0.1", 80, (socket.AF_INET, ("127.0.0.1", 80))),
        ("::1", 65535, (socket.AF_INET6, ("::1", 65535, 0, 0))),
        ("localhost", 80, None),
        ("fe80::1%lo", 80, None),
        ("127.1", 80, None),
        ("127.0.0.1\0", 80, None),
        ("", 80, None),
        (b"127.0.0.1", 80, None),
        (None, 80, None),
        ("127.0.0.1", "80", None),
        ("127.0.0.1", None, None),
        ("127.0.0.1", 65536, None),
        ("127.0.0.1", -1, None),
        ("127.0.0.1", True, None),
    ],
)
def test_only_digits_and_a_port_number_go_the_short_way(
    host: Any, port: Any, expected: object
) -> None:
    assert plain_target(host, port) == expected


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_the_socket_is_as_asyncio_makes_it(host: str, loop: AbstractEventLoop) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as listener:
        transport, _ = await loop.create_connection(Recorder, *listener.getsockname()[:2])
        peer = (await in_thread(listener.accept))[0]
        with peer:
            sock = transport.get_extra_info("socket")
            assert (sock.family, sock.type, sock.proto) == (family, socket.SOCK_STREAM, 6)
            assert sock.gettimeout() == 0
            assert transport.get_extra_info("peername") == listener.getsockname()
            assert transport.get_extra_info("sockname") == peer.getpeername()
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
            transport.abort()


@pytest.mark.parametrize("port", [-1, 65536])
async def test_a_port_out_of_range_is_refused(port: int, loop: AbstractEventLoop) -> None:
    with pytest.raises(OverflowError):
        await loop.create_connection(Recorder, "127.0.0.1", port)
