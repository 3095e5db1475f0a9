"""Echo, a proxy before it, half-closed connections: bytes there and back."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.simulator.world import FailedError, Tracked, World, payload


class Echo(Tracked):
    """Sends back what comes, and reads no faster than it can send."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        # A limit of 0 has asyncio's TLS pause a writer who has nothing queued, and for ever.
        if transport.get_extra_info("sslcontext") is None:
            transport.set_write_buffer_limits(self.world.chance.pick((None, 0, 1_000)))

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self.transport.write(data)

    def pause_writing(self) -> None:
        super().pause_writing()
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        super().resume_writing()
        self.transport.resume_reading()


class Caller(Tracked):
    """Sends `sent` in pieces, then waits for all of an answer.

    wanted_bytes   how many bytes the answer has; None: until the end of file
    """

    def __init__(self, world: World, wanted_bytes: int | None = None) -> None:
        super().__init__(world)
        self.wanted_bytes = wanted_bytes
        self.may_write = asyncio.Event()
        self.may_write.set()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if len(self.received) == self.wanted_bytes:
            self.transport.close()

    def pause_writing(self) -> None:
        super().pause_writing()
        self.may_write.clear()

    def resume_writing(self) -> None:
        super().resume_writing()
        self.may_write.set()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.may_write.set()

    async def send(self, data: bytes, then_end: bool) -> None:
        """Writes `data` bit by bit, heeding the transport's flow control."""
        position = 0
        while position < len(data) and not self.transport.is_closing():
            size = self.world.chance.between(1, self.world.chance.pick((10, 3_000, 100_000)))
            self._write(data[position : position + size])
            position += size
            await self.world.pass_time()
            if self.world.chance.happens(700):
                await self.may_write.wait()
        if then_end and not self.transport.is_closing():
            self.transport.write_eof()

    def _write(self, data: bytes) -> None:
        if self.world.chance.happens(200):
            middle = len(data) // 2
            self.transport.writelines([data[:middle], bytearray(data[middle:])])
        else:
            self.transport.write(data)


async def echo(world: World) -> None:
    """Clients of an echo server: each gets back what it sent."""
    server, address = await world.serve(lambda: Echo(world))
    clients = range(world.chance.between(1, 4))
    await asyncio.gather(*[_call(world, address, number, []) for number in clients])
    server.close()
    await server.wait_closed()


async def _call(world: World, address: str, number: int, others_faults: list[str]) -> None:
    sent = payload(number, world.size())
    by_end = world.chance.happens(500)
    wanted = None if by_end else len(sent)
    caller: Any = await world.connect_protocol(address, lambda: Caller(world, wanted))
    if caller is None:
        return
    await caller.send(sent, then_end=by_end)
    await caller.lost
    faults = caller.connection.faults + others_faults
    world.expect_bytes(caller.received, sent, faults, f"echo to client {number}")


class Relay(Echo):
    """One side of a proxied connection: what comes goes to the other side."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.other: Relay | None = None

    def data_received(self, data: bytes) -> None:
        Tracked.data_received(self, data)
        if self.other is None:
            raise FailedError("the proxy's own side was given bytes before it asked for any")
        self.other.transport.write(data)

    def eof_received(self) -> bool:
        super().eof_received()
        if self.other is not None:
            self._pass_end_on(self.other)
        return True

    def _pass_end_on(self, other: Relay) -> None:
        if "eof" in other.calls:
            self.transport.close()
            other.transport.close()
        elif not other.transport.is_closing():
            other.transport.write_eof()

    def pause_writing(self) -> None:
        Tracked.pause_writing(self)
        if self.other is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        Tracked.resume_writing(self)
        if self.other is not None:
            self.other.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self.other is not None:
            self.other.transport.close()


class Front(Relay):
    """A client's side: reading begins when there is an upstream connection."""

    def __init__(self, world: World, upstream: str, faults: list[str]) -> None:
        super().__init__(world)
        self.upstream = upstream
        self.faults = faults

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        transport.pause_reading()
        self.task = asyncio.ensure_future(self._connect())

    async def _connect(self) -> None:
        back = await self.world.connect_protocol(self.upstream, lambda: Relay(self.world))
        if back is None or self.lost.done():
            self.faults.append("no upstream connection")
            self.transport.close()
            if back is not None:
                back.transport.close()
            return
        self.other, back.other = back, self
        self.faults += back.connection.faults
        back.connection.faults = self.faults
        if back.lost.done():
            self.faults.append("the upstream connection ended before it was used")
            self.transport.close()
        else:
            self.transport.resume_reading()


async def proxy(world: World) -> None:
    """The same through a proxy: its two connections share their faults."""
    server, upstream = await world.serve(lambda: Echo(world))
    faults: list[str] = []
    front_server, address = await world.serve(lambda: Front(world, upstream, faults))
    clients = range(world.chance.between(1, 3))
    await asyncio.gather(*[_call(world, address, number, faults) for number in clients])
    for each in (front_server, server):
        each.close()
        await each.wait_closed()


class Responder(Tracked):
    """Answers when the request is at its end; then closes."""

    def __init__(self, world: World, answer: bytes) -> None:
        super().__init__(world)
        self.answer = answer

    def eof_received(self) -> bool:
        super().eof_received()
        if self.world.chance.happens(500):
            self._respond()
        else:
            self.world.loop.call_later(0.001, self._respond)
        return True

    def _respond(self) -> None:
        if not self.transport.is_closing():
            self.transport.write(self.answer)
            self.transport.close()


async def half_close(world: World) -> None:
    """A request that ends by write_eof(), and then an answer of another length."""
    question = payload(1, world.size())
    answer = payload(2, world.size())
    responders: list[Responder] = []

    def factory() -> Responder:
        responders.append(Responder(world, answer))
        return responders[-1]

    server, address = await world.serve(factory)
    for _ in range(world.chance.between(1, 3)):
        caller: Any = await world.connect_protocol(address, lambda: Caller(world))
        if caller is not None:
            await caller.send(question, then_end=True)
            await caller.lost
            faults = caller.connection.faults
            world.expect_bytes(caller.received, answer, faults, "the answer")
    server.close()
    await server.wait_closed()
    for each in responders:
        if "made" in each.calls:
            await each.lost
            world.expect_bytes(each.received, question, each.connection.faults, "the question")
