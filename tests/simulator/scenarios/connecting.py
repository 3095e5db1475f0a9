"""create_connection() to an address in digits, which goes a short way of its own."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.simulator.scenarios.calls import CANCELLED, cancelled_sometimes
from tests.simulator.scenarios.echoing import Caller, Echo
from tests.simulator.world import World, payload


async def plain_connections(world: World) -> None:
    """Each caller is echoed, was refused by the kernel, or gave up; no descriptor is left."""
    sock, host, port = world.kernel.tcp_listening_socket()
    server = await world.loop.create_server(lambda: Echo(world), sock=sock)
    numbers = range(world.chance.between(1, 5))
    await asyncio.gather(*[_call(world, host, port, number) for number in numbers])
    server.close()
    await server.wait_closed()


async def _call(world: World, host: str, port: int, number: int) -> None:
    await world.pass_time(0.001)
    sent = payload(number, world.size())
    made: list[Any] = []

    def factory() -> Caller:
        made.append(Caller(world, len(sent)))
        return made[-1]

    try:
        answer = await cancelled_sometimes(world, world.loop.create_connection(factory, host, port))
    except OSError as error:
        world.expect_injected("connect", error)
        return
    if answer is CANCELLED:
        for caller in made:
            if "made" in caller.calls:
                await caller.lost
        return
    _, caller = answer
    await caller.send(sent, then_end=False)
    await caller.lost
    world.expect_bytes(caller.received, sent, caller.connection.faults, "echo over TCP")
