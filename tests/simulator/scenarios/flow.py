"""Flow control: readers that pause, writers that are asked to, and asyncio's streams on top."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from tests.simulator.scenarios.echoing import Caller
from tests.simulator.world import Tracked, World, payload

BULK_BYTES = 500_000
ROOMS = (70_000, 300_000)
CUTS_MAX = 300


class Reluctant(Tracked):
    """Pauses reading whenever it likes, and may be told nothing until it resumes."""

    is_paused = False

    def data_received(self, data: bytes) -> None:
        self._note("data while paused", not self.is_paused)
        super().data_received(data)
        if self.world.chance.happens(300):
            self.pause()

    def eof_received(self) -> None:
        self._note("eof while paused", not self.is_paused)
        return super().eof_received()

    def pause(self) -> None:
        self.is_paused = True
        self.transport.pause_reading()
        chance = self.world.chance
        if chance.happens(300):
            self.resume()
        elif chance.happens(300):
            self.world.loop.call_soon(self.resume)
        else:
            self.world.loop.call_later(chance.between(1, 20_000) / 1e6, self.resume)

    def resume(self) -> None:
        self.is_paused = False
        self.transport.resume_reading()


class ReluctantBuffer(Reluctant, asyncio.BufferedProtocol):  # type: ignore[misc]
    """The same with a buffer of its own, of another size each time."""

    def get_buffer(self, sizehint: int) -> bytearray:
        self.buffer = bytearray(self.world.chance.between(1, 2 * max(sizehint, 1)))
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.data_received(bytes(self.buffer[:nbytes]))


async def pause_resume(world: World) -> None:
    """A sender against readers that pause: nothing is lost, nothing comes while they rest."""
    await _send_to_reluctant(world, payload(3, world.size()))


async def bulk(world: World) -> None:
    """The same on a kernel that has room for large pieces, and mostly leaves them so."""
    chance = world.kernel.chance
    calm = min(chance.temper.cuts, CUTS_MAX)
    chance.temper = replace(chance.temper, room=world.chance.pick(ROOMS), cuts=calm)
    await _send_to_reluctant(world, payload(17, BULK_BYTES))


async def _send_to_reluctant(world: World, sent: bytes) -> None:
    readers: list[Reluctant] = []

    def factory() -> Reluctant:
        kind = world.chance.pick((Reluctant, ReluctantBuffer))
        readers.append(kind(world))
        return readers[-1]

    server, address = await world.serve(factory)
    for _ in range(world.chance.between(1, 3)):
        sender: Any = await world.connect_protocol(address, lambda: Caller(world))
        if sender is not None:
            limit = world.chance.pick((None, 0, 1_000))
            sender.transport.set_write_buffer_limits(limit)
            await sender.send(sent, then_end=world.chance.happens(500))
            sender.transport.close()
            await sender.lost
    server.close()
    await server.wait_closed()
    for reader in readers:
        if "made" in reader.calls:
            await reader.lost
            world.expect_bytes(reader.received, sent, reader.connection.faults, "the reader")


async def pipes(world: World) -> None:
    """The transports of pipes, which take sockets too, from one to the other."""
    reading, writing = world.kernel.stream_pair()
    _, reader = await world.loop.connect_read_pipe(lambda: Reluctant(world), reading)
    _, writer = await world.loop.connect_write_pipe(lambda: Caller(world), writing)
    sent = payload(13, world.size())
    reads_all = world.chance.happens(700)
    if not reads_all:
        world.is_orderly = False
        world.loop.call_later(world.chance.between(0, 10_000) / 1e6, reader.transport.close)
    await writer.send(sent, then_end=world.chance.happens(500))
    writer.transport.close()
    await writer.lost
    await reader.lost
    faults = reader.connection.faults + ([] if reads_all else ["the reader was closed"])
    world.expect_bytes(reader.received, sent, faults, "what came through the pipe")


async def streams(world: World) -> None:
    """Lines there and back through StreamReader and StreamWriter, with drain()."""
    tasks: list[asyncio.Task[None]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.append(asyncio.current_task())  # type: ignore[arg-type]
        try:
            while line := await reader.readline():
                writer.write(b"<" + line)
                await writer.drain()
        except ConnectionError:
            pass
        except OSError as error:
            assert error.errno is not None
        finally:
            writer.close()

    def factory() -> asyncio.StreamReaderProtocol:
        reader = asyncio.StreamReader(loop=world.loop)
        return asyncio.StreamReaderProtocol(reader, serve, loop=world.loop)

    server, address = await world.serve(factory)
    clients = range(world.chance.between(1, 3))
    await asyncio.gather(*[_talk(world, address) for _ in clients])
    server.close()
    await server.wait_closed()
    await asyncio.gather(*tasks)


async def _talk(world: World, address: str) -> None:
    sock = await world.connect(address)
    if sock is None:
        return
    connection = world.connection_of(sock)
    reader, writer = await asyncio.open_connection(sock=sock)
    longest = min(50, world.kernel.chance.temper.room)
    said = [b"%d " % number * world.chance.between(1, longest) + b"\n" for number in range(9)]
    heard = bytearray()
    try:
        for line in said:
            writer.write(line)
            await writer.drain()
            await world.pass_time()
            heard += await reader.readline()
    except OSError:
        pass  # the faults say whether there may be one
    world.expect_bytes(heard, b"".join(b"<" + line for line in said), connection.faults, "lines")
    writer.close()
    try:
        await writer.wait_closed()
    except OSError:
        pass
