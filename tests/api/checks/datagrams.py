"""Checks: datagrams."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import warnings
from collections.abc import AsyncIterator
from typing import Any

from tests.api.ends import Notes, closing, datagrams, folder, refusal, refusal_of, udp_socket
from tests.api.registry import Subject
from tests.peers import PEER_LIMIT_S, in_thread, turns

Loop = asyncio.AbstractEventLoop

DATAGRAMS = Subject("Datagrams")


@contextlib.asynccontextmanager
async def _endpoint(loop: Loop, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
    """(transport, protocol) on 127.0.0.1, unless told otherwise"""
    where = {} if args or kwargs.keys() & {"sock", "remote_addr", "local_addr"} else LOCAL
    transport, protocol = await loop.create_datagram_endpoint(Notes, *args, **where, **kwargs)
    async with closing(transport):
        yield transport, protocol


LOCAL = {"local_addr": ("127.0.0.1", 0)}


def _sock(transport: Any) -> Any:
    return transport.get_extra_info("socket")


@DATAGRAMS.check("create_datagram_endpoint", "protocol_factory", "local_addr")
async def datagrams_arrive_with_their_senders(loop: Loop) -> Any:
    async with _endpoint(loop) as (transport, protocol):
        with udp_socket() as peer:
            for data in (b"one", b"", b"three"):
                peer.sendto(data, _sock(transport).getsockname())
            await protocol.until_called("datagram", 3)
            senders = {sender == peer.getsockname() for sender in protocol.senders}
            return protocol.datagrams, senders, protocol.calls[0]


@DATAGRAMS.check("create_datagram_endpoint", "remote_addr")
async def a_connected_endpoint_hears_its_peer_alone(loop: Loop) -> Any:
    async with datagrams() as link:
        with udp_socket() as stranger:
            stranger.sendto(b"stranger", _sock(link.transport).getsockname())
            link.peer.sendto(b"peer", _sock(link.transport).getsockname())
            await link.protocol.until_called("datagram")
            named = link.transport.get_extra_info("peername") == link.peer.getsockname()
            return link.protocol.datagrams, named


@DATAGRAMS.check("create_datagram_endpoint", "local_addr", "remote_addr")
async def both_addresses_may_be_given(loop: Loop) -> Any:
    with udp_socket() as peer:
        where = {"local_addr": ("127.0.0.2", 0), "remote_addr": peer.getsockname()}
        async with _endpoint(loop, **where) as (transport, _):
            transport.sendto(b"hello")
            data, sender = await in_thread(peer.recvfrom, 100)
            return data, sender[0], transport.get_extra_info("sockname")[0]


@DATAGRAMS.check("create_datagram_endpoint", "local_addr", "remote_addr")
async def addresses_that_do_not_fit_are_refused(loop: Loop) -> Any:
    create = loop.create_datagram_endpoint
    return [
        await refusal(create(Notes)),
        await refusal(create(Notes, local_addr=("127.0.0.1", 0), remote_addr=("::1", 1))),
        await refusal(create(Notes, local_addr="no address")),
        await refusal(create(Notes, local_addr=("192.0.2.1", 0))),
    ]


@DATAGRAMS.check("create_datagram_endpoint", "family")
async def without_an_address_the_family_says_what_is_meant(loop: Loop) -> Any:
    seen = []
    for family in (socket.AF_INET, socket.AF_INET6):
        async with _endpoint(loop, None, None, family=family) as (transport, _):
            seen.append((_sock(transport).family.name, _sock(transport).getsockname()[0]))
    return seen


@DATAGRAMS.check("create_datagram_endpoint", "family", "local_addr", "remote_addr")
async def unix_datagrams_have_paths_for_addresses(loop: Loop) -> Any:
    with folder() as place, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as peer:
        ours, theirs = str(place / "ours"), str(place / "theirs")
        peer.bind(theirs)
        where = {"local_addr": ours, "remote_addr": theirs, "family": socket.AF_UNIX}
        async with _endpoint(loop, **where) as (transport, protocol):
            transport.sendto(b"question")
            data, sender = await in_thread(peer.recvfrom, 100)
            peer.sendto(b"answer", ours)
            await protocol.until_called("datagram")
            return data, sender == ours, protocol.datagrams, protocol.senders == [theirs]


@DATAGRAMS.check("create_datagram_endpoint", "proto", "flags", "family")
async def the_look_up_is_told_what_to_find_for_datagrams(loop: Any) -> Any:
    asked: list[Any] = []

    async def getaddrinfo(host: Any, port: Any, **arguments: Any) -> list[Any]:
        asked.append((host, port, {name: int(value) for name, value in arguments.items()}))
        return []

    loop.getaddrinfo = getaddrinfo
    failed = await refusal(
        loop.create_datagram_endpoint(
            Notes,
            ("name.test", 1),
            family=socket.AF_INET,
            proto=socket.IPPROTO_UDP,
            flags=socket.AI_PASSIVE,
        )
    )
    return failed, asked


@DATAGRAMS.check("create_datagram_endpoint", "reuse_address")
async def reusing_an_address_is_no_longer_possible(loop: Loop) -> Any:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        refused = [
            await _refused_argument(loop, reuse_address=True),
            await _refused_argument(loop, reuse_address=False),
        ]
    return refused, [each.category.__name__ for each in caught]


async def _refused_argument(loop: Loop, **arguments: Any) -> str:
    """Either kind of refusal, or what became of it: calling may raise, or awaiting."""
    try:
        async with _endpoint(loop, **arguments) as (transport, _):
            option = _sock(transport).getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)
            return f"SO_REUSEADDR {option}"
    except (TypeError, ValueError) as error:
        return str(error).replace("BaseEventLoop.", "").replace("EventLoop.", "")


@DATAGRAMS.check("create_datagram_endpoint", "reuse_port")
async def two_endpoints_may_share_a_port(loop: Loop) -> Any:
    seen = []
    async with _endpoint(loop, reuse_port=True) as (first, _):
        where = _sock(first).getsockname()
        async with _endpoint(loop, where, reuse_port=True) as (second, _):
            seen.append(_sock(second).getsockname() == where)
            seen.append(_sock(second).getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT))
        seen.append(await refusal(loop.create_datagram_endpoint(Notes, where)))
    return seen


@DATAGRAMS.check("create_datagram_endpoint", "allow_broadcast")
async def broadcasting_has_to_be_allowed(loop: Loop) -> Any:
    seen = []
    for arguments in ({}, {"allow_broadcast": True}):
        async with _endpoint(loop, **arguments) as (transport, _):
            seen.append(_sock(transport).getsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST))
    return seen


@DATAGRAMS.check("create_datagram_endpoint", "sock")
async def a_datagram_socket_of_the_callers_is_taken_over(loop: Loop) -> Any:
    sock = socket.socket(type=socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    async with _endpoint(loop, sock=sock) as (transport, protocol):
        with udp_socket() as peer:
            peer.sendto(b"hello", sock.getsockname())
            await protocol.until_called("datagram")
            return protocol.datagrams, sock.gettimeout(), _sock(transport).fileno() == sock.fileno()


@DATAGRAMS.check("create_datagram_endpoint", "sock")
async def a_socket_with_anything_else_is_refused(loop: Loop) -> Any:
    with socket.socket(type=socket.SOCK_DGRAM) as sock, socket.socket() as stream:
        sock.setblocking(False)
        create = loop.create_datagram_endpoint
        return [
            await refusal(create(Notes, ("127.0.0.1", 0), sock=sock)),
            await refusal(create(Notes, sock=sock, reuse_port=True)),
            await refusal(create(Notes, sock=stream)),
        ]


@DATAGRAMS.check("DatagramTransport.sendto", "data", "addr")
async def datagrams_are_sent_to_an_address_or_the_peer(loop: Loop) -> Any:
    with udp_socket() as peer:
        async with _endpoint(loop) as (transport, _):
            for data in (b"one", bytearray(b"two"), memoryview(b"three")):
                transport.sendto(data, peer.getsockname())
            received = [await in_thread(peer.recv, 100) for _ in range(3)]
        async with _endpoint(loop, remote_addr=peer.getsockname()) as (transport, _):
            transport.sendto(b"four")
            transport.sendto(b"five", peer.getsockname())
            received += [await in_thread(peer.recv, 100) for _ in range(2)]
            wrong = refusal_of(transport.sendto, b"six", ("127.0.0.1", 1)).partition("(")[0]
            return received, wrong, refusal_of(transport.sendto, "text").partition(":")[0]


@DATAGRAMS.check("DatagramTransport.sendto", "data")
async def an_empty_datagram_is_sent_since_3_13(loop: Loop) -> Any:
    async with datagrams() as link:
        link.transport.sendto(b"")
        link.transport.sendto(b"the end")
        received = [await in_thread(link.peer.recv, 100)]
        if received == [b""]:
            received.append(await in_thread(link.peer.recv, 100))
        return received


@DATAGRAMS.check("DatagramTransport.sendto", "data")
async def errors_go_to_the_protocol(loop: Loop) -> Any:
    async with datagrams() as link:
        link.transport.sendto(bytes(70_000))
        await link.protocol.until_called("error")
        link.peer.close()
        link.transport.sendto(b"to nobody")
        await link.protocol.until_called("error", 2)
        return link.protocol.errors, link.transport.is_closing()


@DATAGRAMS.check("DatagramTransport.get_extra_info", "name", "default")
async def an_endpoint_knows_its_addresses(loop: Loop) -> Any:
    async with datagrams() as link:
        info = link.transport.get_extra_info
        sock = info("socket")
        facts = [info("sockname") == sock.getsockname(), info("peername") == sock.getpeername()]
        return facts, type(sock).__name__, info("nothing"), info("nothing", "default")


@DATAGRAMS.check("DatagramTransport.set_protocol", "protocol")
@DATAGRAMS.check("DatagramTransport.get_protocol")
async def another_protocol_gets_the_datagrams(loop: Loop) -> Any:
    async with datagrams() as link:
        second = Notes()
        was = link.transport.get_protocol() is link.protocol
        link.transport.set_protocol(second)
        link.peer.sendto(b"hello", _sock(link.transport).getsockname())
        await second.until_called("datagram")
        now = link.transport.get_protocol() is second
        return was, now, second.datagrams, link.protocol.datagrams


@DATAGRAMS.check("DatagramTransport.is_closing")
@DATAGRAMS.check("DatagramTransport.close")
async def close_ends_an_endpoint(loop: Loop) -> Any:
    async with datagrams() as link:
        before = link.transport.is_closing()
        link.transport.sendto(b"last words")
        link.transport.close()
        link.transport.close()
        closing_now = link.transport.is_closing()
        link.peer.sendto(b"late", link.transport.get_extra_info("sockname"))
        lost = await link.protocol.lost
        return before, closing_now, lost, link.protocol.calls, link.peer.recv(100)


@DATAGRAMS.check("DatagramTransport.abort")
async def abort_ends_an_endpoint(loop: Loop) -> Any:
    async with datagrams() as link:
        link.transport.abort()
        closing_now = link.transport.is_closing()
        lost = await link.protocol.lost
        return closing_now, lost, link.protocol.calls


@DATAGRAMS.check("DatagramTransport.get_write_buffer_limits")
@DATAGRAMS.check("DatagramTransport.set_write_buffer_limits", "high", "low")
async def write_limits_of_datagrams_follow_from_each_other(loop: Loop) -> Any:
    async with datagrams() as link:
        seen = [link.transport.get_write_buffer_limits()]
        for arguments in ({"high": 1000}, {"low": 100}, {"high": 9, "low": 3}, {"high": 0}, {}):
            link.transport.set_write_buffer_limits(**arguments)
            seen.append(link.transport.get_write_buffer_limits())
        return seen, refusal_of(link.transport.set_write_buffer_limits, high=1, low=2)


@DATAGRAMS.check("DatagramTransport.get_write_buffer_size")
@DATAGRAMS.check("DatagramTransport.set_write_buffer_limits", "high", "low")
async def a_full_peer_makes_the_protocol_wait(loop: Loop) -> Any:
    """A Unix socket: its datagrams are never lost, so its queue can be full."""
    with folder() as place, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as peer:
        peer.bind(str(place / "peer"))
        where = {"remote_addr": str(place / "peer"), "family": socket.AF_UNIX}
        async with _endpoint(loop, **where) as (transport, protocol):
            before = transport.get_write_buffer_size()
            transport.set_write_buffer_limits(high=100, low=50)
            count = _send_until_paused(transport, protocol)
            waiting = transport.get_write_buffer_size() > 100
            received = await in_thread(_receive, peer, count)
            await protocol.until_called("resume")
            await turns(3)
            # Not 0: asyncio 3.13.0 never subtracts the header of 8 bytes that it has added.
            after = transport.get_write_buffer_size() <= 50
            return before, waiting, after, received, protocol.calls


def _send_until_paused(transport: Any, protocol: Notes) -> int:
    for count in range(1, 100_000):
        transport.sendto(b"a datagram of 32 bytes, no more ")
        if "pause" in protocol.calls:
            return count
    raise AssertionError("the protocol was never paused")


def _receive(peer: socket.socket, count: int) -> set[bytes]:
    peer.settimeout(PEER_LIMIT_S)
    return {peer.recv(100) for _ in range(count)}
