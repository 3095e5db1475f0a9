"""Datagrams: transports and sock_* calls, over sockets that are full, refuse, lose, double."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

from tests.simulator.datagrams import DatagramSocket
from tests.simulator.scenarios.calls import CANCELLED, cancelled_sometimes, end
from tests.simulator.world import FailedError, World, payload
from uringloop.addresses import unpack_sockaddr

PATIENCE_S = 3.0


class Correspondent(asyncio.DatagramProtocol):
    """Remembers what it was told."""

    def __init__(self, world: World, sock: DatagramSocket) -> None:
        self.world = world
        self.sock = sock
        self.received: list[tuple[bytes, Any]] = []
        self.errors: list[int | None] = []
        self.sent: list[bytes] = []
        self.calls: list[str] = []
        self.lost: asyncio.Future[Exception | None] = world.loop.create_future()
        self.may_write = asyncio.Event()
        self.may_write.set()
        world.protocols.append(self)  # type: ignore[arg-type]

    def connection_made(self, transport: Any) -> None:
        self.calls.append("made")
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.received.append((data, addr))
        if self.world.chance.happens(200):
            self.transport.pause_reading()
            self.world.loop.call_later(0.002, self.transport.resume_reading)

    def error_received(self, exc: Exception) -> None:
        assert isinstance(exc, OSError)
        self.errors.append(exc.errno)

    def pause_writing(self) -> None:
        self.calls.append("pause")
        self.may_write.clear()

    def resume_writing(self) -> None:
        self.calls.append("resume")
        self.may_write.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.calls.append("lost")
        self.may_write.set()
        self.lost.set_result(exc)

    async def send(self, receivers: list[DatagramSocket]) -> None:
        chance = self.world.chance
        for _ in range(chance.between(0, 30)):
            if self.transport.is_closing():
                return
            message = payload(chance.between(0, 1000), chance.pick((1, 100, 9_000)))
            self.sent.append(message)
            self.transport.sendto(message, chance.pick(receivers).address)
            await self.world.pass_time()
            await self.may_write.wait()

    def complaints(self) -> Iterator[str]:
        """What it was told against the rules, and what was sent or received otherwise."""
        if self.calls[:1] != ["made"] or self.calls.count("lost") != 1:
            yield f"a datagram protocol was told {self.calls}"
        flow = [call for call in self.calls if call in ("pause", "resume")]
        if flow != (["pause", "resume"] * len(flow))[: len(flow)]:
            yield f"flow control: {flow}"
        delivered = [(data, unpack_sockaddr(name)) for data, name in self.sock.delivered]
        if self.received != delivered[: len(self.received)]:
            yield "messages are not those that the kernel delivered"
        if not _is_part(self.sock.accepted, self.sent):
            yield "messages left that were not sent, or in another order"
        refused = self.sock.refusals
        if not self._has_failed() and len(self.sock.accepted) + len(refused) != len(self.sent):
            yield f"{len(self.sent)} messages sent, {len(self.sock.accepted)} left"
        if [each for each in refused if each not in self.errors]:
            yield f"refused by {refused}, told of {self.errors}"

    def _has_failed(self) -> bool:
        """Whether the end of the transport was not its program's wish."""
        return self.lost.done() and self.lost.result() is not None


def _is_part(part: list[bytes], whole: list[bytes]) -> bool:
    """Whether `part` is in `whole`, in order."""
    rest = iter(whole)
    return all(message in rest for message in part)


async def udp(world: World) -> None:
    """Endpoints that write to each other, and sometimes to one that is gone."""
    people: list[Correspondent] = []
    for _ in range(world.chance.between(2, 4)):
        sock = world.kernel.datagram_socket()
        person = Correspondent(world, sock)
        await world.loop.create_datagram_endpoint(lambda it=person: it, sock=sock)
        people.append(person)
    sockets = [person.sock for person in people]
    if world.chance.happens(500):
        people[0].transport.close()
    await asyncio.gather(*[person.send(sockets) for person in people])
    await asyncio.sleep(PATIENCE_S)
    for person in people:
        if person.sock.inbox and not person.transport.is_closing():
            raise FailedError("messages have arrived, and nobody receives them")
        person.transport.close()
    for person in people:
        await person.lost


async def udp_calls(world: World) -> None:
    """sock_sendto() and sock_recvfrom(), cancelled at any moment: each message that was
    delivered is received once, whole, in order."""
    sender, receiver = world.kernel.datagram_socket(), world.kernel.datagram_socket()
    received: list[tuple[bytes, Any]] = []
    over = asyncio.Event()
    receiving = asyncio.ensure_future(_receive(world, receiver, received, over))
    for number in range(world.chance.between(1, 30)):
        message = payload(number, world.chance.pick((1, 1_000, 9_000)))
        try:
            call = world.loop.sock_sendto(sender, message, receiver.address)
            await cancelled_sometimes(world, call)
        except OSError as error:
            world.expect_injected("sendmsg", error)
        await world.pass_time()
    await asyncio.sleep(PATIENCE_S)
    await end(receiving, over)
    delivered = [(data, unpack_sockaddr(name)) for data, name in receiver.delivered]
    if received != delivered:
        raise FailedError(f"{len(received)} messages received of {len(delivered)} delivered")
    sender.close()
    receiver.close()


async def _receive(
    world: World, sock: Any, received: list[tuple[bytes, Any]], over: asyncio.Event
) -> None:
    while not over.is_set():
        try:
            if world.chance.happens(500):
                call: Any = world.loop.sock_recvfrom(sock, 20_000)
                answer = await cancelled_sometimes(world, call)
            else:
                buffer = bytearray(20_000)
                call = world.loop.sock_recvfrom_into(sock, buffer)
                answer = await cancelled_sometimes(world, call)
                if answer is not CANCELLED:
                    answer = (bytes(buffer[: answer[0]]), answer[1])
        except OSError as error:
            world.expect_injected("recvmsg", error)
            continue
        if answer is not CANCELLED:
            received.append(answer)
