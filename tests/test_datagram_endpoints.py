"""Datagram endpoints: what they say of themselves, options, sockets of the user's."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import os
import re
import select
import socket
import struct
import sys
import warnings
from asyncio import AbstractEventLoop
from asyncio.trsock import TransportSocket
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from datagrams import (
    FAMILIES,
    Datagrams,
    endpoint,
    name_of,
    numbered,
    open_peer,
)
from loops import make_loop
from peers import in_thread, limit_buffers, turns, until_true

each_family = pytest.mark.parametrize("family", FAMILIES)
UNCLOSED = "unclosed transport .*DatagramTransport"


# -- what a transport says of itself ----------------------------------------------------------


@each_family
async def test_extra_info_knows_socket_and_names(
    family: str, tmp_path: Path, loop: AbstractEventLoop
) -> None:
    with open_peer(family, tmp_path) as peer:
        async with endpoint(family, tmp_path, peer) as protocol:
            transport = protocol.transport
            sock = transport.get_extra_info("socket")
            assert type(sock) is TransportSocket
            assert transport.get_extra_info("sockname") == sock.getsockname()
            assert transport.get_extra_info("peername") == peer.getsockname()
            assert transport.get_extra_info("nothing", 5) == 5


async def test_an_unconnected_endpoint_has_no_peer(tmp_path: Path, loop: AbstractEventLoop) -> None:
    async with endpoint("udp", tmp_path) as protocol:
        assert protocol.transport.get_extra_info("peername", 5) is None


async def test_a_transport_is_what_asyncios_is(tmp_path: Path, loop: AbstractEventLoop) -> None:
    async with endpoint("udp", tmp_path) as protocol:
        assert isinstance(protocol.transport, asyncio.Transport)
        if sys.version_info >= (3, 12):
            assert isinstance(protocol.transport, asyncio.DatagramTransport)


@pytest.mark.ours
async def test_ours_is_a_datagram_transport_on_every_python(
    tmp_path: Path, loop: AbstractEventLoop
) -> None:
    async with endpoint("udp", tmp_path) as protocol:
        assert isinstance(protocol.transport, asyncio.DatagramTransport)


async def test_repr_tells_the_state(tmp_path: Path, loop: AbstractEventLoop) -> None:
    async with endpoint("udp", tmp_path) as protocol:
        transport = protocol.transport
        await turns(2)
        fd = transport.get_extra_info("socket").fileno()
        name = r"<_?\w*DatagramTransport"
        rest = rf" fd={fd} read=polling write=<idle, bufsize=0>>"
        assert re.fullmatch(name + rest, repr(transport))
        transport.close()
        rest = rf" closing fd={fd} read=idle write=<idle, bufsize=0>>"
        assert re.fullmatch(name + rest, repr(transport))
        await protocol.lost
        await turns(2)
        assert re.match(rf"{name} closed fd={fd}", repr(transport))


async def test_the_protocol_can_be_exchanged(tmp_path: Path, loop: AbstractEventLoop) -> None:
    with open_peer("udp", tmp_path) as peer:
        async with endpoint("udp", tmp_path) as protocol:
            assert protocol.transport.get_protocol() is protocol
            second = Datagrams()
            protocol.transport.set_protocol(second)
            assert protocol.transport.get_protocol() is second
            peer.sendto(b"x", name_of(protocol))
            await second.until_called("received")
            assert protocol.received == []
            protocol.transport.close()
            assert await second.lost is None


async def test_the_descriptor_belongs_to_the_transport(
    tmp_path: Path, loop: AbstractEventLoop
) -> None:
    async with endpoint("udp", tmp_path) as protocol:
        fd = protocol.transport.get_extra_info("socket").fileno()
        for method in (loop.add_reader, loop.add_writer):
            with pytest.raises(RuntimeError, match="is used by transport"):
                method(fd, print)
        for method in (loop.remove_reader, loop.remove_writer):
            with pytest.raises(RuntimeError, match="is used by transport"):
                method(fd)


@pytest.mark.difference("two_transports_for_a_socket")
async def test_a_socket_has_one_transport(tmp_path: Path, loop: AbstractEventLoop) -> None:
    with open_peer("udp", tmp_path) as sock:
        transport, protocol = await loop.create_datagram_endpoint(Datagrams, sock=sock)
        with pytest.raises(RuntimeError, match="is used by transport"):
            await loop.create_datagram_endpoint(Datagrams, sock=sock)
        transport.close()
        await protocol.lost


async def test_protocols_are_called_in_the_context_of_their_creation(
    tmp_path: Path, loop: AbstractEventLoop
) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="none")
    seen = []

    class Looks(Datagrams):
        def _note(self, call: str) -> None:
            super()._note(call)
            seen.append((call, variable.get()))

    variable.set("creation")
    with open_peer("udp", tmp_path) as peer:
        async with endpoint("udp", tmp_path, peer, Looks) as protocol:
            variable.set("later")
            peer.sendto(b"x", name_of(protocol))
            await protocol.until_called("received")
            peer.close()
            await in_thread(send_from_thread, protocol.transport)
            await protocol.until_called("error")
    assert seen[:3] == [("made", "creation"), ("received", "creation"), ("error", "creation")]


def send_from_thread(transport: Any) -> None:
    """Provokes a refusal that is met while receiving, not while sending."""
    os.write(transport.get_extra_info("socket").fileno(), b"anybody?")


async def test_an_endpoint_that_nobody_names_lives(tmp_path: Path, loop: AbstractEventLoop) -> None:
    received = loop.create_future()

    class Waits(asyncio.DatagramProtocol):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            received.set_result(data)

    transport, _ = await loop.create_datagram_endpoint(Waits, local_addr=("127.0.0.1", 0))
    name = transport.get_extra_info("sockname")
    number = transport.get_extra_info("socket").fileno()
    del transport, _
    gc.collect()
    with open_peer("udp", tmp_path) as peer:
        peer.sendto(b"x", name)
        assert await received == b"x"
    loop._transports[number].close()
    await turns(3)


def test_an_unclosed_endpoint_says_so(loop_kind: str) -> None:
    loop = make_loop(loop_kind)

    async def open_it(loop: AbstractEventLoop) -> None:
        await loop.create_datagram_endpoint(Datagrams, local_addr=("127.0.0.1", 0))

    loop.run_until_complete(open_it(loop))
    loop.close()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del loop
        gc.collect()
    # The collector may come to the socket first, which says so, too.
    assert [each for each in caught if re.match(UNCLOSED, str(each.message))]


# -- options and families ---------------------------------------------------------------------


async def test_two_endpoints_share_a_port_by_reuse_port(loop: AbstractEventLoop) -> None:
    first, one = await loop.create_datagram_endpoint(
        Datagrams, local_addr=("127.0.0.1", 0), reuse_port=True
    )
    name = first.get_extra_info("sockname")
    second, two = await loop.create_datagram_endpoint(Datagrams, local_addr=name, reuse_port=True)
    with ExitStack() as senders:
        for _ in range(64):  # the kernel chooses the receiver by the sender's port
            sender = senders.enter_context(socket.socket(type=socket.SOCK_DGRAM))
            sender.sendto(b"x", name)
        await until_true(lambda: len(one.received) + len(two.received) == 64)
    assert one.received and two.received
    for transport in (first, second):
        transport.close()
    await asyncio.gather(one.lost, two.lost)


async def test_broadcast_needs_its_option(loop: AbstractEventLoop) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as peer:
        peer.bind(("127.255.255.255", 0))
        peer.settimeout(5)
        for allowed in (False, True):
            transport, protocol = await loop.create_datagram_endpoint(
                Datagrams, local_addr=("127.0.0.1", 0), allow_broadcast=allowed
            )
            transport.sendto(b"all", peer.getsockname())
            if allowed:
                assert await in_thread(peer.recv, 10) == b"all"
            assert [type(error) for error in protocol.errors] == [PermissionError] * (not allowed)
            transport.close()
            await protocol.lost


async def test_a_multicast_group_is_heard(loop: AbstractEventLoop) -> None:
    group = "239.255.77.77"
    with (
        socket.socket(type=socket.SOCK_DGRAM) as sock,
        socket.socket(type=socket.SOCK_DGRAM) as peer,
    ):
        sock.bind((group, 0))
        membership = socket.inet_aton(group) + socket.inet_aton("127.0.0.1")
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
        peer.bind(("127.0.0.1", 0))
        peer.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
        transport, protocol = await loop.create_datagram_endpoint(Datagrams, sock=sock)
        peer.sendto(b"group", sock.getsockname())
        await protocol.until_called("received")
        assert protocol.received == [(b"group", peer.getsockname())]
        transport.close()
        await protocol.lost


@each_family
async def test_a_socket_of_the_users_is_taken(
    family: str, tmp_path: Path, loop: AbstractEventLoop
) -> None:
    with open_peer(family, tmp_path) as peer, open_peer(family, tmp_path, "sock") as sock:
        sock.connect(peer.getsockname())
        transport, protocol = await loop.create_datagram_endpoint(Datagrams, sock=sock)
        transport.sendto(b"there")
        assert await in_thread(peer.recvfrom, 10) == (b"there", sock.getsockname())
        peer.sendto(b"back", sock.getsockname())
        await protocol.until_called("received")
        assert protocol.received == [(b"back", peer.getsockname())]
        transport.close()
        await protocol.lost


@pytest.mark.skipif(sys.version_info < (3, 13), reason="asyncio refuses such a socket")
async def test_a_seqpacket_socket_of_the_users_is_taken(loop: AbstractEventLoop) -> None:
    sock, peer = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    limit_buffers(peer, 8192)
    with peer:
        transport, protocol = await loop.create_datagram_endpoint(Datagrams, sock=sock)
        for number in range(5):
            peer.send(numbered(number))
        await protocol.until_called("received", 5)
        assert protocol.payloads() == [numbered(number) for number in range(5)]
        transport.close()
        await protocol.lost
        assert await in_thread(peer.recv, 10) == b""


async def test_a_netlink_socket_of_the_users_is_taken(loop: AbstractEventLoop) -> None:
    """A family whose addresses only Python's sockets know."""
    get_link, dump = 18, 0x301
    request = struct.pack("=IHHII", 20, get_link, dump, 1, 0) + bytes(4)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, socket.NETLINK_ROUTE) as sock:
        sock.bind((0, 0))
        transport, protocol = await loop.create_datagram_endpoint(Datagrams, sock=sock)
        transport.sendto(request, (0, 0))
        await protocol.until_called("received")
        assert protocol.received[0][1] == (0, 0)
        transport.close()
        await protocol.lost


async def test_a_port_is_free_after_connection_lost(
    tmp_path: Path, loop: AbstractEventLoop
) -> None:
    name = None
    for _ in range(20):
        transport, protocol = await loop.create_datagram_endpoint(
            Datagrams, local_addr=name or ("127.0.0.1", 0)
        )
        name = name_of(protocol)
        await turns(2)
        transport.close()
        await protocol.lost


async def test_a_closed_endpoint_hears_nothing_and_the_port_refuses(
    tmp_path: Path, loop: AbstractEventLoop
) -> None:
    """Row 5: closing a descriptor does not end what the kernel is doing with it."""
    with open_peer("udp", tmp_path) as peer:
        async with endpoint("udp", tmp_path) as protocol:
            await turns(2)
            peer.connect(name_of(protocol))
            protocol.transport.close()
            await protocol.lost
            await turns(2)
            peer.send(b"x")
            assert select.select([peer], [], [], 5)[0]
            with pytest.raises(ConnectionRefusedError):
                peer.recv(1)
            assert protocol.received == []
