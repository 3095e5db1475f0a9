"""Accepting: many connections, connections that come while the server goes, EMFILE."""

from __future__ import annotations

import asyncio
import contextlib
import random
import resource
import socket
from asyncio import AbstractEventLoop
from collections.abc import Iterator

import pytest
from certificates import contexts
from children import run_program
from peers import Recorder, in_thread, recv_until_eof, reset

DESCRIPTORS_WANTED = 2200


class Echo(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    """A connection takes two descriptors of this process, and the usual limit is 1024."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    if before[1] < DESCRIPTORS_WANTED:
        pytest.skip(f"needs {DESCRIPTORS_WANTED} descriptors, may have {before[1]}")
    wanted = max(before[0], DESCRIPTORS_WANTED)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


async def test_a_thousand_connections_are_echoed(
    loop: AbstractEventLoop, many_descriptors: None
) -> None:
    server = await loop.create_server(Echo, "127.0.0.1", 0, backlog=1000)
    await in_thread(_echo_on_all, server.sockets[0].getsockname(), 1000)
    server.close()


def _echo_on_all(address: tuple[str, int], count: int) -> None:
    peers = [socket.create_connection(address, timeout=10) for _ in range(count)]
    for number, peer in enumerate(peers):
        peer.sendall(b"%06d" % number)
    for number, peer in enumerate(peers):
        assert peer.recv(6, socket.MSG_WAITALL) == b"%06d" % number
    for peer in peers:
        peer.close()


async def test_a_connection_reset_before_it_is_accepted_disturbs_nobody(
    loop: AbstractEventLoop,
) -> None:
    server = await loop.create_server(Echo, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    for _ in range(50):
        reset(socket.create_connection(address))
        await asyncio.sleep(0)
    await in_thread(_echo_on_all, address, 1)
    server.close()


@pytest.mark.difference("accept_races_close")
@pytest.mark.parametrize("turns", [0, 1, 2, 3])
async def test_a_connection_that_comes_as_the_server_closes_is_served_or_ended(
    turns: int, loop: AbstractEventLoop
) -> None:
    """Row 10: connect, then close the server before or while the loop looks. Whichever comes
    first, the peer reads an end, and the audit finds no descriptor."""

    class CloseAtOnce(Recorder):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            transport.close()

    for _ in range(40):
        server = await loop.create_server(CloseAtOnce, "127.0.0.1", 0)
        await asyncio.sleep(0)
        with socket.create_connection(server.sockets[0].getsockname(), timeout=10) as peer:
            for _ in range(turns):
                await asyncio.sleep(0)
            server.close()
            await in_thread(_read_the_end, peer)


@pytest.mark.difference("accept_races_close")
@pytest.mark.parametrize("turns", [0, 1, 2, 3])
async def test_under_tls_a_connection_that_comes_as_the_server_closes_is_ended(
    turns: int, loop: AbstractEventLoop
) -> None:
    """The same, where the transport is made by a task, a turn after the accept."""
    context = contexts().server
    for _ in range(40):
        server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0, ssl=context)
        with socket.create_connection(server.sockets[0].getsockname(), timeout=10) as peer:
            peer.shutdown(socket.SHUT_WR)
            for _ in range(turns):
                await asyncio.sleep(0)
            server.close()
            await in_thread(_read_the_end, peer)


def _read_the_end(peer: socket.socket) -> None:
    with contextlib.suppress(ConnectionResetError):
        assert recv_until_eof(peer) == b""


async def test_open_close_churn_crosses_no_data_between_connections(
    loop: AbstractEventLoop,
) -> None:
    """Row 5: descriptor numbers are reused while receives of the former owner end."""

    protocols: dict[int, Recorder] = {}
    with socket.create_server(("127.0.0.1", 0), backlog=10) as listener:
        for number in range(300):
            client = socket.create_connection(listener.getsockname())
            peer = listener.accept()[0]
            client.setblocking(False)
            transport, protocol = await loop.create_connection(Recorder, sock=client)
            peer.sendall(b"%04d" % number * 3)
            protocols[number] = protocol
            await _leave_at_random(transport, protocol, random.Random(number))
            peer.close()
    await asyncio.gather(*(protocol.lost for protocol in protocols.values()))
    for number, protocol in protocols.items():
        assert (b"%04d" % number * 3).startswith(bytes(protocol.data))


async def _leave_at_random(
    transport: asyncio.Transport, protocol: Recorder, chance: random.Random
) -> None:
    for _ in range(chance.randrange(4)):
        await asyncio.sleep(0)
    chance.choice([transport.close, transport.abort, protocol.lost.done])()


@pytest.mark.timeout(90)
@pytest.mark.parametrize("whose", ["own", "given"])
def test_a_server_out_of_descriptors_backs_off_and_recovers(whose: str, loop_kind: str) -> None:
    """Rows 30 and 31: logged once, no spinning, served when descriptors are free again."""
    run_program("accept_emfile.py", loop_kind, whose)
