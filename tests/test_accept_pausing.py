"""Accepting that is paused: connections wait, none is lost, none is served too early."""

from __future__ import annotations

import asyncio
import socket
from asyncio import AbstractEventLoop

import pytest
from peers import Recorder, in_thread, recv_until_eof, turns, until_true

pytestmark = pytest.mark.ours


class Served:
    """A server that remembers its connections."""

    def __init__(self, pause_at: int = 1_000_000) -> None:
        self.protocols: list[Recorder] = []
        self._pause_at = pause_at

    async def start(self, loop: AbstractEventLoop) -> Served:
        self.server = await loop.create_server(self._factory, "127.0.0.1", 0, backlog=500)
        self.address = self.server.sockets[0].getsockname()
        return self

    def _factory(self) -> Recorder:
        self.protocols.append(Recorder())
        if len(self.protocols) == self._pause_at:
            self.server.pause_accepting()
        return self.protocols[-1]

    @property
    def count(self) -> int:
        return len(self.protocols)

    def connect(self, count: int) -> list[socket.socket]:
        return [socket.create_connection(self.address, timeout=10) for _ in range(count)]

    async def end(self, peers: list[socket.socket]) -> None:
        self.server.close()
        for protocol in self.protocols:
            await protocol.made
            protocol.transport.abort()
        for peer in peers:
            peer.close()


async def test_a_paused_server_lets_connections_wait_and_serves_them_later(
    loop: AbstractEventLoop,
) -> None:
    served = await Served().start(loop)
    served.server.pause_accepting()
    peers = await in_thread(served.connect, 20)
    await turns(20)
    assert served.count == 0
    served.server.resume_accepting()
    await until_true(lambda: served.count == 20)
    await served.end(peers)


async def test_not_one_connection_more_is_served_than_asked_for(loop: AbstractEventLoop) -> None:
    """Many are in the queue when accepting begins, so that one turn brings them all; the
    third one pauses, from within."""
    served = await Served(pause_at=3).start(loop)
    peers = served.connect(50)
    await until_true(lambda: served.count == 3)
    await turns(20)
    assert served.count == 3
    served.server.resume_accepting()
    await until_true(lambda: served.count == 50)
    await served.end(peers)


async def test_what_was_held_is_served_one_by_one_and_in_order(loop: AbstractEventLoop) -> None:
    served = Served()
    served._pause_at = 1
    await served.start(loop)
    peers = served.connect(10)
    for count in range(1, 11):
        served._pause_at = count
        if count > 1:
            served.server.resume_accepting()
        await until_true(lambda count=count: served.count == count)
        await turns(5)
        assert served.count == count
    for protocol in served.protocols:
        await protocol.made
    ports = [each.transport.get_extra_info("peername")[1] for each in served.protocols]
    assert ports == [peer.getsockname()[1] for peer in peers]
    await served.end(peers)


async def test_pausing_and_resuming_in_one_turn_changes_nothing(loop: AbstractEventLoop) -> None:
    served = await Served().start(loop)
    for _ in range(5):
        served.server.pause_accepting()
        served.server.pause_accepting()
        served.server.resume_accepting()
        served.server.resume_accepting()
    peers = await in_thread(served.connect, 5)
    await until_true(lambda: served.count == 5)
    await served.end(peers)


async def test_closing_a_paused_server_closes_what_waits(loop: AbstractEventLoop) -> None:
    served = await Served(pause_at=1).start(loop)
    peers = served.connect(5)
    await until_true(lambda: served.count == 1)
    served.server.close()
    served.server.resume_accepting()
    for peer in peers[1:]:
        try:
            assert await in_thread(recv_until_eof, peer) == b""
        except ConnectionResetError:
            pass  # those that the kernel itself still had
    assert served.count == 1
    await served.end(peers)


async def test_a_server_without_descriptors_may_be_paused_and_resumed(
    loop: AbstractEventLoop, reported: list[dict[str, object]]
) -> None:
    """The retry after a second finds a server that is paused, and starts nothing."""
    served = await Served().start(loop)
    acceptor = loop._acceptors[served.server.sockets[0].fileno()]  # type: ignore[attr-defined]
    served.server.pause_accepting()
    await turns(3)
    acceptor.start()
    peers = await in_thread(served.connect, 1)
    await turns(10)
    assert served.count == 0
    served.server.resume_accepting()
    acceptor.start()  # a second one, while the first is given
    await until_true(lambda: served.count == 1)
    assert reported == []
    await served.end(peers)


def test_a_loop_that_is_closed_while_connections_are_held_leaves_no_descriptor(
    new_loop: object,
) -> None:
    loop = new_loop()  # type: ignore[operator]

    async def hold() -> tuple[Served, list[socket.socket]]:
        served = await Served(pause_at=1).start(loop)
        peers = served.connect(4)
        await until_true(lambda: served.count == 1)
        await turns(5)
        await asyncio.sleep(0)
        return served, peers

    served, peers = loop.run_until_complete(hold())
    loop.run_until_complete(served.end(peers))
