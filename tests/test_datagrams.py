"""Datagram endpoints: receiving, what goes wrong there, pausing."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from asyncio import AbstractEventLoop
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from datagrams import (
    FAMILIES,
    HOSTS,
    Datagrams,
    endpoint,
    name_of,
    numbered,
    open_peer,
)
from peers import in_thread, turns

each_family = pytest.mark.parametrize("family", FAMILIES)
UDP_BYTES_MAX = 65507
UNIX_BYTES = 200 * 1024


# -- receiving ----------------------------------------------------------------------------


@each_family
@pytest.mark.parametrize("size", [0, 1, 1400, 65487])
async def test_a_datagram_arrives_whole_with_its_sender(
    size: int, family: str, tmp_path: Path, loop: AbstractEventLoop
) -> None:
    """Row 33."""
    payload = os.urandom(size)
    with open_peer(family, tmp_path) as peer:
        async with endpoint(family, tmp_path) as protocol:
            peer.sendto(payload, name_of(protocol))
            await protocol.until_called("received")
            assert protocol.received == [(payload, peer.getsockname())]
            assert protocol.calls == ["made", "received"]


async def test_the_largest_udp_datagram_arrives_whole(
    tmp_path: Path, loop: AbstractEventLoop
) -> None:
    payload = os.urandom(UDP_BYTES_MAX)
    with open_peer("udp", tmp_path) as peer:
        async with endpoint("udp", tmp_path, peer) as protocol:
            protocol.transport.sendto(payload)
            assert await in_thread(peer.recv, 1 << 18) == payload
            peer.sendto(payload, name_of(protocol))
            await protocol.until_called("received")
            assert protocol.payloads() == [payload]


async def test_a_large_unix_datagram_goes_there_and_back_whole(
    tmp_path: Path, loop: AbstractEventLoop
) -> None:
    payload = os.urandom(UNIX_BYTES)
    with open_peer("unix", tmp_path) as peer:
        async with endpoint("unix", tmp_path, peer) as protocol:
            protocol.transport.sendto(payload)
            assert await in_thread(peer.recv, 1 << 18) == payload
            await in_thread(peer.sendto, payload, name_of(protocol))
            await protocol.until_called("received")
            assert protocol.payloads() == [payload]


async def test_a_datagram_of_more_than_256_kib_is_cut_off_there(
    tmp_path: Path, loop: AbstractEventLoop
) -> None:
    """asyncio gives recvfrom() so many bytes, and UDP cannot have more."""
    payload = os.urandom(300 * 1024)
    with open_peer("unix", tmp_path, buffer_bytes=400 * 1024) as peer:
        if peer.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) < 2 * len(payload) // 2 + 4096:
            pytest.skip("net.core.wmem_max is too small for such a datagram")
        async with endpoint("unix", tmp_path) as protocol:
            await in_thread(peer.sendto, payload, name_of(protocol))
            await protocol.until_called("received")
            assert protocol.payloads() == [payload[: 256 * 1024]]


@each_family
async def test_many_datagrams_of_one_sender_arrive_in_order(
    family: str, tmp_path: Path, loop: AbstractEventLoop
) -> None:
    count = 2000
    with open_peer(family, tmp_path) as peer:
        async with endpoint(family, tmp_path) as protocol:
            for number in range(count):
                await in_thread(peer.sendto, numbered(number, 8), name_of(protocol))
            await protocol.until_called("received", count)
            assert protocol.received == [
                (numbered(number, 8), peer.getsockname()) for number in range(count)
            ]


async def test_of_a_burst_comes_what_the_socket_held(
    tmp_path: Path, loop: AbstractEventLoop
) -> None:
    """More datagrams in one turn than an engine has buffers for, and than the socket has room."""
    with open_peer("udp", tmp_path) as peer:
        async with endpoint("udp", tmp_path) as protocol:
            for number in range(1000):
                peer.sendto(numbered(number), name_of(protocol))
            await protocol.until_called("received", 50)
            await turns(1000)
            count = len(protocol.received)
            assert protocol.payloads() == [numbered(number) for number in range(count)]
            peer.sendto(b"last", name_of(protocol))
            await protocol.until(lambda: protocol.received[-1][0] == b"last")


@each_family
async def test_datagrams_of_many_senders_come_with_their_names(
    family: str, tmp_path: Path, loop: AbstractEventLoop
) -> None:
    """Over and over: an address that is remembered is still its sender's."""
    with ExitStack() as peers:
        senders = [
            peers.enter_context(open_peer(family, tmp_path, f"peer{number}"))
            for number in range(20)
        ]
        async with endpoint(family, tmp_path) as protocol:
            for _ in range(3):
                for sender in senders:
                    sender.sendto(repr(sender.getsockname()).encode(), name_of(protocol))
                    await protocol.until(lambda: bool(protocol.received))
                    assert protocol.received == [
                        (repr(sender.getsockname()).encode(), sender.getsockname())
                    ]
                    protocol.received.clear()


async def test_more_senders_than_are_remembered_come_with_their_names(
    tmp_path: Path, loop: AbstractEventLoop
) -> None:
    count = 1200
    async with endpoint("unix", tmp_path) as protocol:
        for number in range(count):
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.bind(f"\0uringloop-{os.getpid()}-{number}")
                sender.sendto(b"", name_of(protocol))
            await protocol.until_called("received", number + 1)
        assert [addr for _, addr in protocol.received] == [
            f"\0uringloop-{os.getpid()}-{number}".encode() for number in range(count)
        ]


async def test_a_unix_sender_without_a_name_is_none(
    tmp_path: Path, loop: AbstractEventLoop
) -> None:
    async with endpoint("unix", tmp_path) as protocol:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            for _ in range(2):
                sender.sendto(b"x", name_of(protocol))
        await protocol.until_called("received", 2)
        assert protocol.received == [(b"x", None)] * 2


def link_local() -> tuple[str, int] | None:
    """A link-local IPv6 address of this machine, and its interface's number."""
    path = Path("/proc/net/if_inet6")
    for line in path.read_text().splitlines() if path.exists() else ():
        digits, index, _, scope, *_ = line.split()
        if scope == "20":
            return socket.inet_ntop(socket.AF_INET6, bytes.fromhex(digits)), int(index, 16)
    return None


async def test_a_link_local_sender_comes_with_its_scope(loop: AbstractEventLoop) -> None:
    found = link_local()
    if found is None:
        pytest.skip("no interface has a link-local IPv6 address")
    host, index = found
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock, ExitStack() as stack:
        peer = stack.enter_context(socket.socket(socket.AF_INET6, socket.SOCK_DGRAM))
        for each in (sock, peer):
            each.bind((host, 0, 0, index))
        transport, protocol = await loop.create_datagram_endpoint(Datagrams, sock=sock)
        peer.sendto(b"x", sock.getsockname())
        await protocol.until_called("received")
        assert protocol.received == [(b"x", peer.getsockname())]
        assert peer.getsockname()[3] == index
        transport.sendto(b"back", protocol.received[0][1])
        assert await in_thread(peer.recv, 10) == b"back"
        transport.close()
        await protocol.lost


# -- echo, many -----------------------------------------------------------------------------


class Echo(Datagrams):
    def datagram_received(self, data: bytes, addr: Any) -> None:
        super().datagram_received(data, addr)
        self.transport.sendto(data, addr)


@each_family
async def test_a_datagram_is_answered_from_datagram_received(
    family: str, tmp_path: Path, loop: AbstractEventLoop
) -> None:
    with open_peer(family, tmp_path) as peer:
        async with endpoint(family, tmp_path, factory=Echo) as protocol:
            for number in range(50):
                peer.sendto(numbered(number), name_of(protocol))
                assert await in_thread(peer.recvfrom, 2000) == (
                    numbered(number),
                    name_of(protocol),
                )


async def test_many_endpoints_talk_at_once(loop: AbstractEventLoop) -> None:
    servers = []
    clients = []
    for _ in range(100):
        _, server = await loop.create_datagram_endpoint(Echo, local_addr=("127.0.0.1", 0))
        servers.append(server)
        _, client = await loop.create_datagram_endpoint(Datagrams, remote_addr=name_of(server))
        clients.append(client)
    for number, client in enumerate(clients):
        client.transport.sendto(numbered(number))
    for number, client in enumerate(clients):
        await client.until_called("received")
        assert client.received == [(numbered(number), name_of(servers[number]))]
    for protocol in servers + clients:
        protocol.transport.close()
    await asyncio.gather(*(protocol.lost for protocol in servers + clients))


# -- errors -----------------------------------------------------------------------------------


@pytest.mark.parametrize("family", HOSTS)
async def test_a_refusal_is_told_and_reading_goes_on(
    family: str, tmp_path: Path, loop: AbstractEventLoop
) -> None:
    """Row 33: an ICMP error belongs to the connected socket, and does not end it."""
    with open_peer(family, tmp_path) as peer:
        peername = peer.getsockname()
        async with endpoint(family, tmp_path, peer) as protocol:
            peer.close()
            for _ in range(3):
                told = protocol.calls.count("error")
                protocol.transport.sendto(b"anybody?")
                await protocol.until_called("error", told + 1)
            assert {error.errno for error in protocol.errors} == {errno.ECONNREFUSED}
            assert {type(error) for error in protocol.errors} == {ConnectionRefusedError}
            with socket.socket(FAMILIES[family], socket.SOCK_DGRAM) as again:
                again.bind(peername)
                again.sendto(b"here", name_of(protocol))
                await protocol.until_called("received")
            assert not protocol.transport.is_closing()


async def test_a_failing_error_received_is_reported(
    tmp_path: Path, loop: AbstractEventLoop, reported: list[dict[str, Any]]
) -> None:
    class Failing(Datagrams):
        def error_received(self, exc: Exception) -> None:
            super().error_received(exc)
            raise ZeroDivisionError

    with open_peer("udp", tmp_path) as peer:
        async with endpoint("udp", tmp_path, peer, Failing) as protocol:
            peer.close()
            protocol.transport.sendto(b"anybody?")
            await protocol.until_called("error")
            assert not protocol.transport.is_closing()
    assert_reports(reported, ZeroDivisionError)


def assert_reports(reported: list[dict[str, Any]], *exceptions: type[BaseException]) -> None:
    """Takes out what was reported, which must be these callbacks' exceptions."""
    assert [type(context["exception"]) for context in reported] == list(exceptions)
    assert all(context["message"].startswith("Exception in callback") for context in reported)
    reported.clear()


async def test_a_failing_datagram_received_is_reported_and_reading_goes_on(
    tmp_path: Path, loop: AbstractEventLoop, reported: list[dict[str, Any]]
) -> None:
    class Failing(Datagrams):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            super().datagram_received(data, addr)
            raise ZeroDivisionError

    with open_peer("udp", tmp_path) as peer:
        async with endpoint("udp", tmp_path, factory=Failing) as protocol:
            for number in range(3):
                peer.sendto(numbered(number), name_of(protocol))
            await protocol.until_called("received", 3)
            await turns(2)
    assert_reports(reported, *[ZeroDivisionError] * 3)


async def test_a_failing_connection_made_is_reported_and_reading_begins(
    tmp_path: Path, loop: AbstractEventLoop, reported: list[dict[str, Any]]
) -> None:
    class Failing(Datagrams):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            raise ZeroDivisionError

    with open_peer("udp", tmp_path) as peer:
        async with endpoint("udp", tmp_path, factory=Failing) as protocol:
            peer.sendto(b"x", name_of(protocol))
            await protocol.until_called("received")
    assert_reports(reported, ZeroDivisionError)


async def test_a_failing_connection_lost_is_reported_and_the_socket_closed(
    tmp_path: Path, loop: AbstractEventLoop, reported: list[dict[str, Any]]
) -> None:
    class Failing(Datagrams):
        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            raise ZeroDivisionError

    async with endpoint("udp", tmp_path, factory=Failing) as protocol:
        protocol.transport.close()
        await protocol.lost
        await turns(2)
        assert protocol.transport.get_extra_info("socket").fileno() == -1
    assert_reports(reported, ZeroDivisionError)


def test_an_interrupt_in_datagram_received_ends_the_run_and_loses_nothing(
    tmp_path: Path, loop: AbstractEventLoop
) -> None:
    """Row 25."""

    class Interrupted(Datagrams):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            super().datagram_received(data, addr)
            if data == b"stop":
                raise KeyboardInterrupt

    async def open_it() -> Datagrams:
        _, protocol = await loop.create_datagram_endpoint(Interrupted, local_addr=("127.0.0.1", 0))
        return protocol

    protocol = loop.run_until_complete(open_it())
    with open_peer("udp", tmp_path) as peer:
        for payload in (b"1", b"stop", b"2", b"3"):
            peer.sendto(payload, name_of(protocol))
        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(protocol.until_called("received", 4))
        loop.run_until_complete(protocol.until_called("received", 4))
    assert protocol.payloads() == [b"1", b"stop", b"2", b"3"]
    protocol.transport.close()
    loop.run_until_complete(protocol.lost)


# -- pausing ----------------------------------------------------------------------------------


@pytest.mark.difference("pause_datagrams")
@each_family
async def test_what_comes_while_paused_is_delivered_in_order_afterwards(
    family: str, tmp_path: Path, loop: AbstractEventLoop
) -> None:
    with open_peer(family, tmp_path) as peer:
        async with endpoint(family, tmp_path) as protocol:
            transport = protocol.transport
            assert transport.is_reading()
            transport.pause_reading()
            transport.pause_reading()
            assert not transport.is_reading()
            for number in range(8):
                peer.sendto(numbered(number), name_of(protocol))
                await turns(3)
            assert protocol.received == []
            transport.resume_reading()
            transport.resume_reading()
            assert transport.is_reading()
            await protocol.until_called("received", 8)
            assert protocol.payloads() == [numbered(number) for number in range(8)]


@pytest.mark.difference("pause_datagrams")
async def test_a_protocol_may_pause_at_each_datagram(
    tmp_path: Path, loop: AbstractEventLoop
) -> None:
    class OneByOne(Datagrams):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            super().datagram_received(data, addr)
            self.transport.pause_reading()

    with open_peer("udp", tmp_path) as peer:
        async with endpoint("udp", tmp_path, factory=OneByOne) as protocol:
            for number in range(10):
                peer.sendto(numbered(number), name_of(protocol))
            for number in range(10):
                await protocol.until_called("received", number + 1)
                await turns(3)
                assert protocol.payloads() == [numbered(each) for each in range(number + 1)]
                protocol.transport.resume_reading()


@pytest.mark.difference("pause_datagrams")
async def test_a_refusal_while_paused_is_told_afterwards(
    tmp_path: Path, loop: AbstractEventLoop
) -> None:
    with open_peer("udp", tmp_path) as peer:
        async with endpoint("udp", tmp_path, peer) as protocol:
            protocol.transport.pause_reading()
            peer.close()
            protocol.transport.sendto(b"anybody?")
            await turns(5)
            assert protocol.errors == []
            protocol.transport.resume_reading()
            await protocol.until_called("error")
            assert isinstance(protocol.errors[0], ConnectionRefusedError)


@pytest.mark.difference("refused_while_paused")
async def test_what_came_while_paused_is_delivered_though_the_peer_is_gone(
    tmp_path: Path, loop: AbstractEventLoop
) -> None:
    with open_peer("unix", tmp_path) as peer:
        async with endpoint("unix", tmp_path, peer) as protocol:
            protocol.transport.pause_reading()
            peer.sendto(b"last words", name_of(protocol))
            await turns(3)
            peer.close()
            protocol.transport.sendto(b"anybody?")
            assert isinstance(protocol.errors[0], ConnectionRefusedError)
            protocol.transport.resume_reading()
            await protocol.until_called("received")
            assert protocol.payloads() == [b"last words"]


@pytest.mark.difference("pause_datagrams")
async def test_a_paused_endpoint_closes(tmp_path: Path, loop: AbstractEventLoop) -> None:
    with open_peer("udp", tmp_path) as peer:
        async with endpoint("udp", tmp_path) as protocol:
            protocol.transport.pause_reading()
            peer.sendto(b"x", name_of(protocol))
            await turns(3)
            protocol.transport.close()
            protocol.transport.resume_reading()
            assert await protocol.lost is None
            assert protocol.received == []
