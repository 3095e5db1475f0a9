"""PROXY headers through a proxy: from clients, to upstreams, and both."""

from __future__ import annotations

import socket
from asyncio import AbstractEventLoop
from pathlib import Path
from typing import Any

import pytest
from peers import in_thread, recv_exactly, recv_until_eof, turns, until_true

from tests.proxy.proxying import (
    Upstream,
    carried,
    ends_without_a_byte,
    exchange,
    running,
)
from uringloop.proxy.addresses import UnixAddress
from uringloop.proxy.proxy_protocol import compose

pytestmark = pytest.mark.ours

SOURCE, DESTINATION = ("192.0.2.7", 4711), ("198.51.100.1", 443)


@pytest.mark.parametrize("version", [1, 2])
async def test_the_header_is_taken_off_and_named_in_the_log(
    loop: AbstractEventLoop, version: int
) -> None:
    with Upstream() as upstream:
        async with running(upstream.address, accepts_header=True) as proxy:
            client = await proxy.connect()
            name = client.getsockname()
            client.sendall(compose(version, SOURCE, DESTINATION) + b"first bytes")
            with client, await upstream.accept() as server:
                assert await in_thread(recv_exactly, server, 11) == b"first bytes"
                await exchange(client, server)
            line = await proxy.events.one("connection")
            assert line["client"] == "192.0.2.7:4711"
            assert line["via"] == f"{name[0]}:{name[1]}"
            assert line["bytes_up"] == 12, "the header is not the client's data"


@pytest.mark.parametrize("version", [1, 2])
async def test_the_header_may_come_byte_by_byte(loop: AbstractEventLoop, version: int) -> None:
    with Upstream() as upstream:
        async with running(upstream.address, accepts_header=True) as proxy:
            client = await proxy.connect()
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for byte in compose(version, SOURCE, DESTINATION):
                client.sendall(bytes([byte]))
                await turns(3)
            with client, await upstream.accept() as server:
                await exchange(client, server)


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "neither signature"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "neither signature"),
        (b"PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n", "not two addresses"),
        (b"PROXY TCP4 ".ljust(200), "no end of line"),
        (compose(2, SOURCE, DESTINATION).replace(b"\x21\x11", b"\x21\x77"), "unknown family"),
    ],
)
async def test_a_client_without_a_proper_header_is_turned_away(
    loop: AbstractEventLoop, sent: bytes, reason: str
) -> None:
    with Upstream() as upstream:
        async with running(upstream.address, accepts_header=True) as proxy:
            with await proxy.connect() as client:
                client.sendall(sent)
                assert await in_thread(ends_without_a_byte, client)
            line = await proxy.events.one("connection")
            assert line["end"] == "bad_header"
            assert reason in line["error"]
            assert line["upstream"] is None
            assert proxy.proxy.counters().failed == 1


@pytest.mark.parametrize("sent", [b"", b"PROXY TCP4 1.2"])
async def test_a_client_that_ends_within_its_header_is_noticed(
    loop: AbstractEventLoop, sent: bytes
) -> None:
    with Upstream() as upstream:
        async with running(upstream.address, accepts_header=True) as proxy:
            with await proxy.connect() as client:
                client.sendall(sent)
                client.shutdown(socket.SHUT_WR)
                assert await in_thread(ends_without_a_byte, client)
            line = await proxy.events.one("connection")
            assert (line["end"], line["error"]) == (
                "bad_header",
                "ended before the header was whole",
            )


@pytest.mark.parametrize("sent", [b"", b"PROXY TCP4 1.2"])
async def test_a_header_that_does_not_come_is_waited_for_within_the_limit(
    loop: AbstractEventLoop, sent: bytes
) -> None:
    with Upstream() as upstream:
        async with running(
            upstream.address, accepts_header=True, handshake_timeout_s=0.05
        ) as proxy:
            with await proxy.connect() as client:
                client.sendall(sent)
                assert await in_thread(ends_without_a_byte, client)
            assert (await proxy.events.one("connection"))["end"] == "header_timeout"


@pytest.mark.parametrize("version", [1, 2])
async def test_upstreams_are_told_who_the_client_is(loop: AbstractEventLoop, version: int) -> None:
    with Upstream() as upstream:
        async with (
            running(upstream.address, header_version=version) as proxy,
            carried(proxy, upstream) as (client, server),
        ):
            expected = compose(version, client.getsockname(), client.getpeername())
            assert await in_thread(recv_exactly, server, len(expected)) == expected
            await exchange(client, server)


async def test_the_header_comes_first_though_the_client_has_sent_much(
    loop: AbstractEventLoop,
) -> None:
    with Upstream() as upstream:
        async with running(upstream.address, header_version=1) as proxy:
            client = await proxy.connect()
            expected = compose(1, client.getsockname(), client.getpeername())
            sending = in_thread(client.sendall, b"x" * 500_000)
            with client, await upstream.accept() as server:
                data = await in_thread(recv_exactly, server, len(expected) + 500_000)
                assert data == expected + b"x" * 500_000
                await sending


@pytest.mark.parametrize(
    ("received", "sent"),
    [(1, 1), (1, 2), (2, 1), (2, 2)],
)
async def test_what_an_earlier_proxy_said_is_handed_on(
    loop: AbstractEventLoop, received: int, sent: int
) -> None:
    with Upstream() as upstream:
        async with running(upstream.address, accepts_header=True, header_version=sent) as proxy:
            client = await proxy.connect()
            client.sendall(compose(received, SOURCE, DESTINATION))
            with client, await upstream.accept() as server:
                expected = compose(sent, SOURCE, DESTINATION)
                assert await in_thread(recv_exactly, server, len(expected)) == expected


async def test_a_header_that_speaks_for_the_proxy_itself_gives_the_sockets_names(
    loop: AbstractEventLoop,
) -> None:
    """LOCAL and UNKNOWN: "the real connection endpoints"."""
    with Upstream() as upstream:
        async with running(upstream.address, accepts_header=True, header_version=1) as proxy:
            client = await proxy.connect()
            client.sendall(b"PROXY UNKNOWN\r\n")
            expected = compose(1, client.getsockname(), client.getpeername())
            with client, await upstream.accept() as server:
                assert await in_thread(recv_exactly, server, len(expected)) == expected
            assert (await proxy.events.one("connection"))["via"] is None


@pytest.mark.parametrize("version", [1, 2])
async def test_a_client_of_a_unix_socket_has_a_path(
    loop: AbstractEventLoop, tmp_path: Path, version: int
) -> None:
    path = str(tmp_path / "listen")
    with Upstream() as upstream:
        async with (
            running(upstream.address, listen_on=UnixAddress(path), header_version=version) as proxy,
            carried(proxy, upstream) as (client, server),
        ):
            expected: Any = compose(version, "", path)
            assert await in_thread(recv_exactly, server, len(expected)) == expected
            client.close()
            assert await in_thread(recv_until_eof, server) == b""


async def test_a_header_given_up_leaves_the_place_to_others(loop: AbstractEventLoop) -> None:
    with Upstream() as upstream:
        async with running(
            upstream.address, accepts_header=True, connections_max=1, handshake_timeout_s=0.05
        ) as proxy:
            with await proxy.connect():
                client = await proxy.connect()
                client.sendall(b"PROXY UNKNOWN\r\n")
                with client, await upstream.accept() as server:
                    await exchange(client, server)
            await until_true(lambda: proxy.proxy.open == 0)
