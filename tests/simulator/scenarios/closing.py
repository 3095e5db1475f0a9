"""Ends that come early: servers closed under their connections, transports aborted."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.simulator.scenarios.echoing import Caller, Echo
from tests.simulator.world import FailedError, World, payload

PATIENCE_S = 2.0


async def server_close(world: World) -> None:
    """A server that stops at some moment; what it has goes on, and who comes later is refused."""
    world.is_orderly = False
    served: list[Echo] = []

    def factory() -> Echo:
        served.append(Echo(world))
        return served[-1]

    server, address = await world.serve(factory)
    calls = [asyncio.ensure_future(_call(world, address)) for _ in range(4)]
    for _ in range(world.chance.between(0, 30)):
        await world.pass_time(0.001)
    server.close()
    if world.chance.happens(500):
        for each in served:
            if "made" in each.calls:
                world.chance.pick((each.transport.close, each.transport.abort))()
    await asyncio.gather(*calls)
    await server.wait_closed()


async def _call(world: World, address: str) -> None:
    await world.pass_time(0.003)
    sock = world.kernel.stream_socket()
    try:
        await world.loop.sock_connect(sock, address)
    except OSError:
        sock.close()  # refused, or the kernel's whim
        return
    sent = payload(4, world.size())
    _, caller = await world.loop.create_connection(lambda: Caller(world, len(sent)), sock=sock)
    await caller.send(sent, then_end=False)
    await caller.lost
    if len(caller.received) != len(sent):
        faults = [*caller.connection.faults, "the server was closed"]
        world.expect_bytes(caller.received, sent, faults, "what came back")


async def abort(world: World) -> None:
    """Either side aborts or closes in the middle: what arrived is a beginning."""
    world.is_orderly = False
    served: list[Echo] = []

    def factory() -> Echo:
        served.append(Echo(world))
        return served[-1]

    server, address = await world.serve(factory)
    sent = payload(5, world.size())
    for _ in range(3):
        caller: Any = await world.connect_protocol(address, lambda: Caller(world, len(sent)))
        if caller is None:
            continue
        sending = asyncio.ensure_future(caller.send(sent, then_end=False))
        for _ in range(world.chance.between(0, 20)):
            await world.pass_time(0.001)
        victim = world.chance.pick([caller, *(each for each in served if "made" in each.calls)])
        if world.chance.happens(500):
            victim.transport.abort()
            victim.transport.write(b"too late")
        else:
            victim.transport.close()
        if victim is not caller:
            caller.transport.close()
        # Two that close and do not read may wait for each other for ever.
        for each in (caller, *served):
            if "made" in each.calls:
                world.loop.call_later(PATIENCE_S, each.transport.abort)
        await sending
        await caller.lost
        world.expect_bytes(caller.received, sent, ["ended early"], "what came back")
    server.close()
    await server.wait_closed()
    for each in served:
        if "made" in each.calls:
            await each.lost
            world.expect_bytes(each.received, sent, ["ended early"], "what arrived")


async def accept_pause(world: World) -> None:
    """A server that pauses accepting now and then: nobody is served meanwhile, all in the end."""
    is_paused = False
    served_paused: list[str] = []

    def factory() -> Echo:
        if is_paused:
            served_paused.append(address)
        return Echo(world)

    server, address = await world.serve(factory)
    calls = [asyncio.ensure_future(_orderly_call(world, address)) for _ in range(4)]
    for _ in range(world.chance.between(1, 10)):
        is_paused = True
        server.pause_accepting()
        await world.pass_time(0.002)
        is_paused = False
        server.resume_accepting()
        await world.pass_time(0.002)
    await asyncio.gather(*calls)
    server.close()
    await server.wait_closed()
    if served_paused:
        raise FailedError("a protocol was made while accepting was paused")


async def _orderly_call(world: World, address: str) -> None:
    await world.pass_time(0.005)
    sent = payload(14, min(world.size(), 1_000))
    caller: Any = await world.connect_protocol(address, lambda: Caller(world, len(sent)))
    if caller is not None:
        await caller.send(sent, then_end=False)
        await caller.lost
        world.expect_bytes(caller.received, sent, caller.connection.faults, "what came back")
