"""TLS by asyncio's own protocol, on our transports, from the first byte or in the middle."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

from tests.simulator.certificate import HOST, contexts
from tests.simulator.scenarios.echoing import Caller, Echo
from tests.simulator.world import World, payload

ASKED = b"STARTTLS\n"
GRANTED = b"go ahead\n"
NOT_TLS = (OSError, ssl.SSLError)


async def tls_echo(world: World) -> None:
    """Echo to clients of a TLS server."""
    server_context, client_context = contexts()
    server, address = await world.serve(lambda: Echo(world), ssl=server_context)
    for _ in range(world.chance.between(1, 2)):
        await _call(world, address, client_context)
    server.close()
    await server.wait_closed()


async def _call(world: World, address: str, context: ssl.SSLContext) -> None:
    sock = await world.connect(address)
    if sock is None:
        return
    connection = world.connection_of(sock)
    sent = payload(6, world.size())
    try:
        _, caller = await world.loop.create_connection(
            lambda: Caller(world, len(sent)), sock=sock, ssl=context, server_hostname=HOST
        )
    except NOT_TLS:
        world.expect_bytes(b"", sent, connection.faults, "a handshake")
        return
    await caller.send(sent, then_end=False)
    await caller.lost
    world.expect_bytes(caller.received, sent, connection.faults, "TLS echo")


class Upgraded(Echo):
    """Echoes; once asked to, over TLS. Bytes may be here before start_tls() has answered."""

    def __init__(self, world: World, context: ssl.SSLContext) -> None:
        super().__init__(world)
        self.context = context
        self.task: asyncio.Task[None] | None = None
        self.is_upgraded = False
        self.early = bytearray()

    def data_received(self, data: bytes) -> None:
        if self.is_upgraded:
            super().data_received(data)
            return
        self.early += data
        if self.early == ASKED:
            self.early.clear()
            self.transport.pause_reading()
            self.task = asyncio.ensure_future(self._upgrade())

    async def _upgrade(self) -> None:
        self.transport.write(GRANTED)
        self.is_upgraded = await _start_tls(self, self.context, server_side=True)
        if self.is_upgraded:
            self.transport.write(bytes(self.early))


class Upgrading(Caller):
    """Asks for TLS, and lets `granted` know when it may begin."""

    def __init__(self, world: World, wanted_bytes: int) -> None:
        super().__init__(world, wanted_bytes)
        self.granted: asyncio.Future[bool] = world.loop.create_future()
        self.plain = bytearray()

    def data_received(self, data: bytes) -> None:
        if self.granted.done():
            super().data_received(data)
            return
        self.plain += data
        if self.plain == GRANTED:
            self.transport.pause_reading()
            self.granted.set_result(True)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if not self.granted.done():
            self.granted.set_result(False)


async def _start_tls(protocol: Any, context: ssl.SSLContext, **kwargs: Any) -> bool:
    """Whether it worked; the connection's faults say why not.

    Of a connection that ends in the handshake, asyncio's start_tls() does not tell the protocol.
    """
    world, plain = protocol.world, protocol.transport
    try:
        protocol.transport = await world.loop.start_tls(plain, protocol, context, **kwargs)
    except NOT_TLS:
        world.expect_bytes(b"", b"-", protocol.connection.faults, "start_tls")
        plain.close()
        protocol.may_be_forgotten = True
        return False
    if protocol.transport is None:  # the connection ended meanwhile
        protocol.transport = plain
        return False
    return True


async def start_tls(world: World) -> None:
    """Plain text first, then TLS on both sides, then echo."""
    server_context, client_context = contexts()
    served: list[Upgraded] = []

    def factory() -> Upgraded:
        served.append(Upgraded(world, server_context))
        return served[-1]

    server, address = await world.serve(factory)
    sent = payload(7, world.size())
    caller: Any = await world.connect_protocol(address, lambda: Upgrading(world, len(sent)))
    if caller is not None:
        caller.transport.write(ASKED)
        if await caller.granted and await _start_tls(caller, client_context, server_hostname=HOST):
            await caller.send(sent, then_end=False)
        if not caller.may_be_forgotten:
            await caller.lost
        world.expect_bytes(caller.received, sent, caller.connection.faults, "echo by start_tls")
    server.close()
    await server.wait_closed()
    await asyncio.gather(*[each.task for each in served if each.task is not None])
