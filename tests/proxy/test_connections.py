"""Connections through a proxy in the loop under test: addresses, health, limits, ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
from asyncio import AbstractEventLoop
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from peers import PEER_LIMIT_S, in_thread, recv_until_eof, reset, turns, until_true

from tests.proxy.proxying import (
    Running,
    Upstream,
    carried,
    ends_without_a_byte,
    exchange,
    running,
    unused_address,
)
from uringloop.proxy.addresses import TcpAddress, UnixAddress
from uringloop.proxy.upstreams import BACK_OFF_FIRST_S

pytestmark = pytest.mark.ours


async def test_bytes_and_ends_go_both_ways_and_leave_a_line(loop: AbstractEventLoop) -> None:
    with Upstream() as upstream:
        async with running(upstream.address) as proxy, carried(proxy, upstream) as (client, server):
            name = client.getsockname()
            await exchange(client, server, b"question")
            client.shutdown(socket.SHUT_WR)
            assert await in_thread(recv_until_eof, server) == b""
            server.sendall(b" and more")
            server.close()
            assert await in_thread(recv_until_eof, client) == b" and more"
            line = await proxy.events.one("connection")
    assert line["client"] == f"{name[0]}:{name[1]}"
    assert line["upstream"] == upstream.address
    assert (line["bytes_up"], line["bytes_down"], line["end"]) == (8, 15, "eof")
    assert line["error"] is None and line["side"] is None and line["via"] is None
    assert 0 < line["connect_s"] <= line["duration_s"]


@pytest.mark.parametrize("listens", ["tcp", "tcp6", "unix"])
@pytest.mark.parametrize("connects", ["tcp", "tcp6", "unix", "name"])
async def test_every_kind_of_address_listens_and_is_connected_to(
    loop: AbstractEventLoop, tmp_path: Path, listens: str, connects: str
) -> None:
    listen_on = {
        "tcp": TcpAddress("127.0.0.1", 0),
        "tcp6": TcpAddress("::1", 0),
        "unix": UnixAddress(str(tmp_path / "listen")),
    }[listens]
    family = socket.AF_INET6 if connects == "tcp6" else socket.AF_INET
    path = str(tmp_path / "upstream") if connects == "unix" else None
    with Upstream(family, path) as upstream:
        address = upstream.address
        if connects == "name":
            assert isinstance(address, TcpAddress)
            address = TcpAddress("localhost", address.port)
        async with (
            running(address, listen_on=listen_on) as proxy,
            carried(proxy, upstream) as (client, server),
        ):
            await exchange(client, server)
    assert not (tmp_path / "listen").exists()


async def test_the_upstream_may_speak_first(loop: AbstractEventLoop) -> None:
    with Upstream() as upstream:
        async with running(upstream.address) as proxy, carried(proxy, upstream) as (client, server):
            server.sendall(b"220 ready\r\n")
            assert await in_thread(client.recv, 11, socket.MSG_WAITALL) == b"220 ready\r\n"


async def test_connections_go_to_the_upstreams_in_turn(loop: AbstractEventLoop) -> None:
    with Upstream() as first, Upstream() as second:
        async with (
            running(first.address, second.address) as proxy,
            carried(proxy, first) as one,
            carried(proxy, second) as two,
            carried(proxy, first) as three,
        ):
            for pair in (one, two, three):
                await exchange(*pair)
            assert [each.open for each in proxy.proxy.upstreams.all] == [2, 1]


async def test_least_connections_prefers_the_upstream_whose_clients_have_left(
    loop: AbstractEventLoop,
) -> None:
    with Upstream() as first, Upstream() as second:
        async with (
            running(first.address, second.address, balance="least-connections") as proxy,
            carried(proxy, first),
        ):
            for _ in range(3):
                async with carried(proxy, second) as (client, server):
                    await exchange(client, server)
                await until_true(lambda: proxy.proxy.open == 1)


async def test_an_upstream_that_refuses_is_passed_over_and_tried_again_later(
    loop: AbstractEventLoop,
) -> None:
    """The client that meets the refusal is served by the other one, without noticing. The
    clock is the test's: until it moves, nobody tries the one that failed."""
    now = 0.0
    down = unused_address()
    with Upstream() as up:
        async with running(down, up.address, clock=lambda: now) as proxy:
            for _ in range(3):
                async with carried(proxy, up) as pair:
                    await exchange(*pair)
            failed = await proxy.events.one("upstream_failed")
            assert failed["upstream"] == down
            assert failed["back_off_s"] == BACK_OFF_FIRST_S
            assert proxy.proxy.counters().upstreams[0].backing_off
            now = BACK_OFF_FIRST_S
            async with carried(proxy, up) as pair:
                await exchange(*pair)
            async with carried(proxy, up) as pair:
                await exchange(*pair)
            delays = [fields["back_off_s"] for fields in proxy.events.of("upstream_failed")]
            assert delays == [BACK_OFF_FIRST_S, 2 * BACK_OFF_FIRST_S]


async def test_an_upstream_that_comes_back_serves_again(loop: AbstractEventLoop) -> None:
    now = 0.0
    address = unused_address()
    async with running(address, clock=lambda: now) as proxy:
        with await proxy.connect() as client:
            assert await in_thread(ends_without_a_byte, client)
        line = await proxy.events.one("connection")
        assert (line["end"], line["upstream"]) == ("no_upstream", None)
        assert "refused" in line["error"] or "Connect call failed" in line["error"]
        assert proxy.proxy.counters().failed == 1
        with socket.create_server((address.host, address.port)) as sock:
            sock.settimeout(PEER_LIMIT_S)
            # Its time is not over, but there is nobody else: it is tried all the same.
            client = await proxy.connect()
            server, _ = await in_thread(sock.accept)
            server.settimeout(PEER_LIMIT_S)
            with client, server:
                await exchange(client, server)
        assert (await proxy.events.one("upstream_recovered"))["upstream"] == address


async def test_where_all_upstreams_are_down_each_is_tried_and_the_client_let_go(
    loop: AbstractEventLoop,
) -> None:
    addresses = [unused_address(), unused_address(), UnixAddress("/nowhere/at/all")]
    async with running(*addresses) as proxy:
        with await proxy.connect() as client:
            assert await in_thread(ends_without_a_byte, client)
        await proxy.events.one("connection")
        tried = [fields["upstream"] for fields in proxy.events.of("upstream_failed")]
        assert tried == addresses


async def test_an_upstream_that_does_not_answer_is_given_up_in_time(
    loop: AbstractEventLoop,
) -> None:
    """Its queue is full: the kernel drops the SYN and goes on asking."""
    with unanswering_address() as silent, Upstream() as up:
        async with running(silent, up.address, connect_timeout_s=0.05) as proxy:
            async with carried(proxy, up) as pair:
                await exchange(*pair)
            failed = await proxy.events.one("upstream_failed")
            assert failed["error"] == "timed out"


@contextlib.contextmanager
def unanswering_address() -> Iterator[TcpAddress]:
    """A listener whose queue is full."""
    with contextlib.ExitStack() as stack:
        full = stack.enter_context(socket.socket())
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(3):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                filler.connect(full.getsockname())
        yield TcpAddress(*full.getsockname())


async def test_an_idle_connection_ends_and_says_so(loop: AbstractEventLoop) -> None:
    with Upstream() as upstream:
        async with (
            running(upstream.address, idle_timeout_s=0.05) as proxy,
            carried(proxy, upstream) as (client, server),
        ):
            assert await in_thread(ends_without_a_byte, client)
            assert await in_thread(ends_without_a_byte, server)
            assert (await proxy.events.one("connection"))["end"] == "idle_timeout"
            assert proxy.proxy.counters().failed == 0


async def test_a_reset_is_carried_and_counted_with_its_side(loop: AbstractEventLoop) -> None:
    with Upstream() as upstream:
        async with running(upstream.address) as proxy, carried(proxy, upstream) as (client, server):
            await exchange(client, server)
            reset(server)
            with pytest.raises(ConnectionResetError):
                await in_thread(client.recv, 1)
            line = await proxy.events.one("connection")
            assert (line["end"], line["side"]) == ("reset", "upstream")
            await until_true(lambda: proxy.proxy.open == 0)
            assert proxy.proxy.counters().failed == 1


async def test_above_the_limit_connections_wait_until_one_ends(loop: AbstractEventLoop) -> None:
    """Six are there at once, two are let in; each that ends lets the next one in."""
    with Upstream() as upstream:
        async with running(upstream.address, connections_max=2) as proxy:
            clients = [await proxy.connect() for _ in range(6)]
            for position in range(6):
                server = await upstream.accept()
                with clients[position] as client, server:
                    await exchange(client, server)
                    await turns(10)
                    assert proxy.proxy.open == min(2, 6 - position)
            await until_true(lambda: proxy.proxy.open == 0)
            assert proxy.proxy.counters().accepted == 6


async def test_a_client_that_left_while_it_waited_disturbs_nobody(
    loop: AbstractEventLoop,
) -> None:
    with Upstream() as upstream:
        async with running(upstream.address, connections_max=1) as proxy:
            async with carried(proxy, upstream) as pair:
                waiting = await proxy.connect()
                reset(waiting)
                await exchange(*pair)
            with await proxy.connect() as client:
                client.sendall(b"?")
                with await in_thread(first_that_asks, upstream) as server:
                    server.sendall(b"!")
                    assert await in_thread(client.recv, 1) == b"!"


def first_that_asks(upstream: Upstream) -> socket.socket:
    """Passes over the connection of the client that left, if it came through."""
    while True:
        server = upstream._accept()
        try:
            if server.recv(1) == b"?":
                return server
        except ConnectionResetError:
            pass
        server.close()


async def test_without_descriptors_accepting_rests_and_goes_on(
    loop: AbstractEventLoop, reported: list[dict[str, object]]
) -> None:
    with few_descriptors() as take_all, Upstream() as upstream, socket.socket() as waiting:
        async with (
            running(upstream.address) as proxy,
            carried(proxy, upstream) as (client, server),
        ):
            with take_all():
                waiting.connect(client.getpeername())
                await until_true(lambda: reported)
                assert "out of system resource" in str(reported.pop()["message"])
                await exchange(client, server)
            waiting.settimeout(PEER_LIMIT_S)
            with await upstream.accept() as late:
                await exchange(waiting, late)


async def test_without_a_descriptor_for_the_upstream_no_upstream_is_blamed(
    loop: AbstractEventLoop, reported: list[dict[str, object]]
) -> None:
    """Exactly one descriptor is left: the client gets it."""
    with few_descriptors() as take_all, Upstream() as upstream, socket.socket() as client:
        async with running(upstream.address) as proxy:
            assert isinstance(proxy.address, TcpAddress)
            with take_all(spare=1):
                client.connect((proxy.address.host, proxy.address.port))
                line = await proxy.events.one("connection")
                assert line["end"] == "exhausted"
            assert proxy.proxy.counters().upstreams[0].failures == 0
            reported.clear()  # epoll asks for a second connection, and fails before it may look
            async with carried(proxy, upstream) as pair:
                await exchange(*pair)


@contextlib.contextmanager
def few_descriptors() -> Iterator[Callable[..., contextlib.AbstractContextManager[None]]]:
    """Lowers the limit. Around all of a test: an ACCEPT of io_uring keeps the limit of the
    moment in which it was given."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowered = max(map(int, os.listdir("/proc/self/fd"))) + 40
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowered, before[1]))
    try:
        yield all_descriptors_taken
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@contextlib.contextmanager
def all_descriptors_taken(spare: int = 0) -> Iterator[None]:
    taken = []
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.dup(2))
        for _ in range(spare):
            os.close(taken.pop())
        yield
    finally:
        for fd in taken:
            os.close(fd)


async def test_live_connections_are_in_the_counters(loop: AbstractEventLoop) -> None:
    with Upstream() as upstream:
        async with running(upstream.address) as proxy:
            for round_number in (1, 2):
                async with carried(proxy, upstream) as pair:
                    await exchange(*pair, b"four")
                    await until_true(
                        lambda number=round_number: proxy.proxy.counters().bytes_down == 6 * number
                    )
                    counters = proxy.proxy.counters()
                    assert counters.bytes_up == 4 * round_number
                    assert (counters.open, counters.accepted) == (1, round_number)
                await until_true(lambda: proxy.proxy.open == 0)
            assert proxy.proxy.counters().bytes_up == 8


async def test_cutting_ends_connections_in_every_state(loop: AbstractEventLoop) -> None:
    """One waits for a header that does not come, so it has no upstream yet; after the header
    the next one is relayed."""
    with Upstream() as upstream:
        async with running(upstream.address, accepts_header=True) as proxy:
            early = await proxy.connect()
            async with carried_with_header(proxy, upstream) as (client, server):
                await exchange(client, server)
                await until_true(lambda: proxy.proxy.open == 2)
                proxy.proxy.stop_accepting()
                await proxy.proxy.cut()
                for peer in (early, client, server):
                    assert await in_thread(ends_without_a_byte, peer)
                assert [line["end"] for line in proxy.events.of("connection")] == ["cut", "cut"]
            early.close()


@contextlib.asynccontextmanager
async def carried_with_header(
    proxy: Running, upstream: Upstream
) -> AsyncIterator[tuple[socket.socket, socket.socket]]:
    client = await proxy.connect()
    client.sendall(b"PROXY UNKNOWN\r\n")
    with client, await upstream.accept() as server:
        yield client, server


@pytest.mark.parametrize("turns_before", range(12))
async def test_cutting_while_an_upstream_is_being_connected_leaves_nothing(
    loop: AbstractEventLoop, turns_before: int
) -> None:
    """At each turn of the way from the accept to the relay; see what `running` looks at."""
    with Upstream() as upstream:
        async with running(upstream.address) as proxy:
            with await proxy.connect() as client:
                await turns(turns_before)
                proxy.proxy.stop_accepting()
                await proxy.proxy.cut()
                assert await in_thread(ends_without_a_byte, client)


async def test_cutting_does_not_wait_for_an_upstream_that_is_silent(
    loop: AbstractEventLoop,
) -> None:
    with unanswering_address() as silent:
        async with running(silent) as proxy:
            with await proxy.connect() as client:
                await until_true(lambda: proxy.proxy.upstreams.all[0].connecting == 1)
                await proxy.proxy.cut()
                assert await in_thread(ends_without_a_byte, client)
            assert (await proxy.events.one("connection"))["end"] == "cut"
            assert proxy.proxy.counters().upstreams[0].failures == 0


async def test_two_thousand_connections_that_come_and_go_leave_nothing(
    loop: AbstractEventLoop,
) -> None:
    """The audit of descriptors and of the driver follows; see also `running`."""
    with Upstream() as upstream:
        async with running(upstream.address, connections_max=20) as proxy:
            await asyncio.gather(
                in_thread(_connect_many, proxy.address, 2000), in_thread(_echo_many, upstream, 2000)
            )
            await until_true(lambda: proxy.proxy.open == 0)
            assert proxy.proxy.counters().accepted == 2000
            assert proxy.proxy.counters().failed == 0


def _connect_many(address: TcpAddress, count: int) -> None:
    for start in range(0, count, 10):
        peers = [
            socket.create_connection((address.host, address.port), timeout=PEER_LIMIT_S)
            for _ in range(10)
        ]
        for number, peer in enumerate(peers):
            peer.sendall(b"%05d" % (start + number))
        for number, peer in enumerate(peers):
            assert peer.recv(5, socket.MSG_WAITALL) == b"%05d" % (start + number)
            peer.close()


def _echo_many(upstream: Upstream, count: int) -> None:
    for _ in range(count):
        peer = upstream._accept()
        with peer:
            peer.sendall(peer.recv(5, socket.MSG_WAITALL))
