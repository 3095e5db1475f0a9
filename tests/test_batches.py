"""Many connections ready at once: interrupts in the middle of a batch, and fair turns."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from asyncio import AbstractEventLoop
from collections.abc import AsyncIterator
from typing import Any

import pytest
from peers import BufferedRecorder, Recorder, Wire, in_thread, recv_exactly, until_true, wire

CONNECTIONS = 20


@contextlib.asynccontextmanager
async def wires(
    count: int, factory: Any = Recorder, buffer_bytes: int | None = None
) -> AsyncIterator[list[Wire]]:
    async with contextlib.AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(wire(factory, buffer_bytes=buffer_bytes))
            for _ in range(count)
        ]


def run_through_interrupts(
    loop: AbstractEventLoop, main: Any, interrupt: type[BaseException]
) -> int:
    """Runs main() to its end, starting the loop again after each interrupt."""
    task = loop.create_task(asyncio.wait_for(main, 15))
    interrupts = 0
    while not task.done():
        try:
            loop.run_until_complete(task)
        except interrupt:
            interrupts += 1
    task.result()
    return interrupts


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("base", [Recorder, BufferedRecorder])
def test_an_interrupt_raised_by_a_protocol_drops_no_other_data(
    base: Any, interrupt: type[BaseException], loop: AbstractEventLoop
) -> None:
    """Row 25: all connections are readable in one turn; every second raises."""
    protocols: list[Recorder] = []

    class Interrupting(base):  # type: ignore[misc]
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            protocols.append(self)

        def _note(self, call: str) -> None:
            super()._note(call)
            if call == "data" and self.data == b"first" and protocols.index(self) % 2:
                raise interrupt

    async def main() -> None:
        async with wires(CONNECTIONS, Interrupting) as connections:
            for message, total in ((b"first", 5), (b"second", 11)):
                for connection in connections:
                    connection.peer.sendall(message)
                for connection in connections:
                    await connection.protocol.received(total)
            assert all(protocol.data == b"firstsecond" for protocol in protocols)

    assert run_through_interrupts(loop, main(), interrupt) == CONNECTIONS // 2


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_between_ends_of_connections_drops_no_other_end(
    interrupt: type[BaseException], loop: AbstractEventLoop
) -> None:
    """Row 25: end-of-file on all connections in one turn. asyncio calls again later."""

    class Interrupting(Recorder):
        def eof_received(self) -> bool:
            self._note("eof")
            if self.calls.count("eof") == 1:
                raise interrupt
            return True

    async def main() -> None:
        async with wires(CONNECTIONS, Interrupting) as connections:
            for connection in connections:
                connection.peer.shutdown(socket.SHUT_WR)
            for connection in connections:
                await connection.protocol.until_called("eof")
                connection.transport.close()
                assert await connection.protocol.lost is None

    assert run_through_interrupts(loop, main(), interrupt) == CONNECTIONS


def test_an_interrupt_while_writes_complete_loses_no_resumption(loop: AbstractEventLoop) -> None:
    """Row 25: resume_writing of one connection raises among the completions of others."""

    class Interrupting(Recorder):
        def resume_writing(self) -> None:
            super().resume_writing()
            raise KeyboardInterrupt

    size = 1_000_000

    async def main() -> None:
        async with wires(5, Interrupting, buffer_bytes=4096) as connections:
            reading = [in_thread(recv_exactly, each.peer, size) for each in connections]
            for connection in connections:
                connection.transport.write(bytes(size))
            for connection, read in zip(connections, reading, strict=True):
                assert len(await read) == size
                await connection.protocol.until_called("resume")

    assert run_through_interrupts(loop, main(), KeyboardInterrupt) == 5


def test_an_interrupt_while_accepting_drops_no_other_connection(loop: AbstractEventLoop) -> None:
    """Row 25: a batch of accepted connections, each of which interrupts."""
    protocols: list[Recorder] = []

    class Interrupting(Recorder):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            protocols.append(self)
            raise KeyboardInterrupt

    async def main() -> None:
        server = await loop.create_server(Interrupting, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        peers = [socket.create_connection(address) for _ in range(CONNECTIONS)]
        await until_true(lambda: len(protocols) == CONNECTIONS)
        for peer in peers:
            peer.sendall(b"data")
        for protocol in protocols:
            assert await protocol.received(4) == b"data"
        for peer, protocol in zip(peers, protocols, strict=True):
            peer.close()
            await protocol.lost
        server.close()

    assert run_through_interrupts(loop, main(), KeyboardInterrupt) == CONNECTIONS


def test_an_interrupt_that_stops_the_loop_for_good_leaves_nothing_behind(
    loop: AbstractEventLoop,
) -> None:
    """Row 25: the loop is closed with a batch half handled. The audit looks at the rest."""

    class Interrupting(Recorder):
        def data_received(self, data: bytes) -> None:
            raise KeyboardInterrupt

    async def main() -> None:
        async with wires(CONNECTIONS, Interrupting) as connections:
            for connection in connections:
                connection.peer.sendall(b"data")
            await asyncio.sleep(5)

    task = loop.create_task(main())
    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(task)
    task.cancel()
    while not task.done():
        with contextlib.suppress(KeyboardInterrupt, asyncio.CancelledError):
            loop.run_until_complete(task)


async def test_callbacks_for_ever_do_not_starve_sockets(loop: AbstractEventLoop) -> None:
    """Row 21: with deferred task work, completions arrive only when the loop enters."""
    async with wires(3) as connections:
        running = True

        def again() -> None:
            if running:
                loop.call_soon(again)

        again()
        for number in range(1, 21):
            for connection in connections:
                await in_thread(connection.peer.sendall, b"x" * 10)
                await connection.protocol.received(10 * number)
        running = False


async def test_tasks_that_never_rest_do_not_starve_sockets(loop: AbstractEventLoop) -> None:
    """Row 21."""

    spinners = [asyncio.ensure_future(until_true(lambda: False)) for _ in range(10)]
    async with wire() as connection:
        for number in range(1, 51):
            await in_thread(connection.peer.sendall, b"x")
            await connection.protocol.received(number)
    for spinner in spinners:
        spinner.cancel()


class Echo(Recorder):
    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


async def test_a_flood_does_not_starve_quiet_connections(loop: AbstractEventLoop) -> None:
    """Row 22: one connection is always readable; fifty others play ping-pong."""
    flooding = True
    async with wires(50, Echo) as quiet, wire() as flooded:
        flood = in_thread(_flood, flooded.peer, lambda: flooding)
        slowest_s = await in_thread(_ping_all, [each.peer for each in quiet], 10)
        flooding = False
        await flood
    assert slowest_s < 2


def _flood(sock: socket.socket, goes_on: Any) -> None:
    chunk = bytes(1 << 16)
    while goes_on():
        sock.sendall(chunk)


def _ping_all(peers: list[socket.socket], rounds: int) -> float:
    """The slowest round of one ping on each connection, in seconds."""
    slowest_s = 0.0
    for _ in range(rounds):
        start = time.monotonic()
        for peer in peers:
            peer.sendall(b"ping")
        for peer in peers:
            assert recv_exactly(peer, 4) == b"ping"
        slowest_s = max(slowest_s, time.monotonic() - start)
    return slowest_s


async def test_a_flood_does_not_delay_timers_and_callbacks(loop: AbstractEventLoop) -> None:
    """Row 22."""
    flooding = True
    async with wire() as flooded:
        flood = in_thread(_flood, flooded.peer, lambda: flooding)
        for _ in range(20):
            due = loop.time() + 0.002
            await asyncio.sleep(0.002)
            assert loop.time() - due < 1
            await asyncio.sleep(0)
        flooding = False
        await flood


async def test_more_fast_senders_than_receive_buffers_lose_nothing(
    loop: AbstractEventLoop,
) -> None:
    """Row 16: the pool of receive buffers runs dry again and again."""
    size = 300_000
    async with wires(60) as connections:
        sending = [
            in_thread(connection.peer.sendall, bytes([number]) * size)
            for number, connection in enumerate(connections)
        ]
        for number, connection in enumerate(connections):
            assert await connection.protocol.received(size) == bytes([number]) * size
        await asyncio.gather(*sending)
