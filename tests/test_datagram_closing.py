"""close() and abort() of datagram endpoints, and what is sent around them."""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
import warnings
from asyncio import AbstractEventLoop
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from audit import open_descriptors
from datagrams import (
    FAMILIES,
    Datagrams,
    endpoint,
    fill,
    name_of,
    numbered,
    open_peer,
    recv_numbered,
    recv_waiting,
)
from loops import make_loop
from peers import in_thread, turns

each_family = pytest.mark.parametrize("family", FAMILIES)


async def test_close_sends_what_waits(tmp_path: Path, loop: AbstractEventLoop) -> None:
    with open_peer("unix", tmp_path) as peer:
        async with endpoint("unix", tmp_path, peer) as protocol:
            count = fill(protocol)
            protocol.transport.close()
            protocol.transport.close()
            assert protocol.transport.is_closing()
            for number in range(count, count + 10):
                protocol.transport.sendto(numbered(number))
            await turns(5)
            assert not protocol.lost.done()
            await in_thread(recv_numbered, peer, count + 10)
            assert await protocol.lost is None
            assert protocol.calls == ["made", "lost"]


async def test_abort_drops_what_waits(tmp_path: Path, loop: AbstractEventLoop) -> None:
    with open_peer("unix", tmp_path) as peer:
        async with endpoint("unix", tmp_path, peer) as protocol:
            count = fill(protocol)
            protocol.transport.abort()
            assert await protocol.lost is None
            assert recv_waiting(peer) == [numbered(number) for number in range(count - 1)]


async def test_abort_drops_what_waits_for_a_full_receiver(
    tmp_path: Path, loop: AbstractEventLoop
) -> None:
    with open_peer("unix", tmp_path) as peer:
        async with endpoint("unix", tmp_path) as protocol:
            count = fill(protocol, address=peer.getsockname())
            await turns(3)
            protocol.transport.abort()
            assert await protocol.lost is None
            assert recv_waiting(peer) == [numbered(number) for number in range(count - 1)]


async def test_abort_after_close_drops_what_still_waits(
    tmp_path: Path, loop: AbstractEventLoop
) -> None:
    with open_peer("unix", tmp_path) as peer:
        async with endpoint("unix", tmp_path, peer) as protocol:
            count = fill(protocol)
            protocol.transport.close()
            await turns(3)
            protocol.transport.abort()
            protocol.transport.abort()
            assert await protocol.lost is None
            assert len(recv_waiting(peer)) == count - 1


async def test_close_while_the_receiver_goes_away_ends(
    tmp_path: Path, loop: AbstractEventLoop
) -> None:
    with open_peer("unix", tmp_path) as peer:
        async with endpoint("unix", tmp_path, peer) as protocol:
            fill(protocol)
            protocol.transport.close()
            await turns(3)
            peer.close()
            assert await protocol.lost is None
            assert isinstance(protocol.errors[0], ConnectionRefusedError | ConnectionResetError)


@each_family
@pytest.mark.parametrize("end", ["close", "abort"])
async def test_the_end_in_datagram_received_is_the_last_that_is_heard(
    end: str, family: str, tmp_path: Path, loop: AbstractEventLoop
) -> None:
    class Ends(Datagrams):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            super().datagram_received(data, addr)
            getattr(self.transport, end)()

    with open_peer(family, tmp_path) as peer:
        async with endpoint(family, tmp_path, factory=Ends) as protocol:
            for number in range(5):
                peer.sendto(numbered(number), name_of(protocol))
            assert await protocol.lost is None
            await turns(5)
            assert protocol.calls == ["made", "received", "lost"]


@pytest.mark.parametrize("end", ["close", "abort"])
async def test_the_end_in_connection_made(
    end: str, tmp_path: Path, loop: AbstractEventLoop
) -> None:
    class Ends(Datagrams):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            getattr(transport, end)()

    async with endpoint("udp", tmp_path, factory=Ends) as protocol:
        assert await protocol.lost is None
        assert protocol.calls == ["made", "lost"]


async def test_sends_after_the_end_are_dropped_and_in_the_end_warned_of(
    tmp_path: Path, loop: AbstractEventLoop, caplog: pytest.LogCaptureFixture
) -> None:
    with open_peer("udp", tmp_path) as peer:
        async with endpoint("udp", tmp_path, peer) as protocol:
            protocol.transport.abort()
            for _ in range(4):
                protocol.transport.sendto(b"x")
            assert caplog.records == []
            protocol.transport.sendto(b"x")
            assert [record.message for record in caplog.records] == [
                "socket.send() raised exception."
            ]
            assert caplog.records[0].levelno == logging.WARNING
            await protocol.lost
            protocol.transport.sendto(b"x")
            assert recv_waiting(peer) == []


async def test_an_unconnected_endpoint_sends_until_connection_lost(
    tmp_path: Path, loop: AbstractEventLoop
) -> None:
    with open_peer("udp", tmp_path) as peer:
        async with endpoint("udp", tmp_path) as protocol:
            protocol.transport.close()
            protocol.transport.sendto(b"late", peer.getsockname())
            await protocol.lost
            assert recv_waiting(peer) == [b"late"]


@pytest.mark.difference("sendto_after_lost")
async def test_sends_after_connection_lost_of_an_unconnected_endpoint_are_dropped(
    tmp_path: Path, loop: AbstractEventLoop
) -> None:
    with open_peer("udp", tmp_path) as peer:
        async with endpoint("udp", tmp_path) as protocol:
            protocol.transport.close()
            await protocol.lost
            protocol.transport.sendto(b"too late", peer.getsockname())
            await turns(3)
            assert recv_waiting(peer) == []


def test_a_loop_closes_over_endpoints_in_every_state(tmp_path: Path, loop_kind: str) -> None:
    """Reading, full, draining, and between close() and connection_lost()."""
    before = open_descriptors()
    loop = make_loop(loop_kind)

    async def open_all(loop: AbstractEventLoop, peers: list[socket.socket]) -> Any:
        found = []
        for peer in peers:
            _, protocol = await loop.create_datagram_endpoint(
                Datagrams, remote_addr=peer.getsockname(), family=socket.AF_UNIX
            )
            found.append(protocol)
        for protocol in found[1:3]:
            fill(protocol)
        found[2].transport.close()
        return found[3].transport

    with ExitStack() as stack:
        peers = [stack.enter_context(open_peer("unix", tmp_path, f"{n}")) for n in range(4)]
        loop.run_until_complete(open_all(loop, peers)).close()
    loop.close()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del loop
        gc.collect()
    said = [each for each in caught if str(each.message).startswith("unclosed transport")]
    assert len(said) == 4
    assert open_descriptors() == before
