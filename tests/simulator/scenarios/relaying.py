"""relay(): two connections made one, inside the engine, until both ends are there."""

from __future__ import annotations

import asyncio
from typing import Any

import uringloop
from tests.simulator.scenarios.echoing import Caller
from tests.simulator.world import FailedError, Tracked, World, payload

LIMITS = (None, 200, 2_000)
SIZE_MAX = 10_000  # each byte goes three ways


class Handed(Tracked):
    """A side that is given to a relay, perhaps with some bytes that came before."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        transport.pause_reading()


class End(Caller):
    """An end of what is relayed: it closes when it has sent its end and got the other's."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.has_heard_all = asyncio.Event()

    def eof_received(self) -> bool:
        super().eof_received()
        self.has_heard_all.set()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.has_heard_all.set()

    async def exchange(self, data: bytes) -> None:
        await self.send(data, then_end=True)
        await self.has_heard_all.wait()
        self.transport.close()


async def relay(world: World) -> None:
    """What either end sends arrives at the other, whole, with its end; or one of the connections
    has failed, or the relay was cancelled, and both hear of it."""
    ends: list[Any] = []
    for _ in range(2):
        outer, inner = world.kernel.stream_pair()
        _, end = await world.loop.create_connection(lambda: End(world), sock=outer)
        _, side = await world.loop.create_connection(lambda: Handed(world), sock=inner)
        ends.append((end, side))
    (client, a), (server, b) = ends
    faults = client.connection.faults
    faults += b.connection.faults  # what has failed already
    b.connection.faults = faults
    sent = payload(15, min(world.size(), SIZE_MAX)), payload(16, min(world.size(), SIZE_MAX))
    sending = [
        asyncio.ensure_future(end.exchange(data))
        for end, data in zip((client, server), sent, strict=True)
    ]
    await world.pass_time()
    running = uringloop.relay(a.transport, b.transport, limit=world.chance.pick(LIMITS))
    await _end(world, running, faults, sent)
    await asyncio.gather(*sending)
    for end, data in ((client, sent[1]), (server, sent[0])):
        await end.lost
        world.expect_bytes(end.received, data, faults, "what was relayed")


async def _end(world: World, running: Any, faults: list[str], sent: tuple[bytes, bytes]) -> None:
    """Waits for the relay, or cancels it."""
    if world.chance.happens(200):
        world.is_orderly = False
        for _ in range(world.chance.between(0, 10)):
            await world.pass_time(0.001)
        faults.append("the relay was cancelled")
        running.cancel()
    try:
        result = await running
    except asyncio.CancelledError:
        return
    moved = result.bytes_a_to_b, result.bytes_b_to_a
    if not faults and result.reason is not uringloop.RelayEnd.EOF:
        raise FailedError(f"the relay ended by itself: {result}")
    if not faults and moved != (len(sent[0]), len(sent[1])):
        raise FailedError(f"{moved} bytes were relayed of {[len(each) for each in sent]}")
    if running.buffers_held:
        raise FailedError("a relay that is over holds buffers")
