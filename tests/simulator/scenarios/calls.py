"""The sock_* calls, cancelled at any moment: what was not taken is there for the next call."""

from __future__ import annotations

import asyncio
import socket
import tempfile
from collections.abc import Coroutine
from typing import Any

from tests.simulator.scenarios.echoing import Caller
from tests.simulator.world import FailedError, Tracked, World, payload

CANCELLED = object()
EXTRA = payload(9, 1_000)  # of which a cancelled send may have sent some


async def cancelled_sometimes(world: World, call: Coroutine[Any, Any, Any]) -> Any:
    """What the call answers, or CANCELLED where a cancel was sooner."""
    task = asyncio.ensure_future(call)
    if world.chance.happens(500):
        for _ in range(world.chance.between(0, 4)):
            await world.pass_time(0.001)
        task.cancel()
    try:
        return await task
    except asyncio.CancelledError:
        return CANCELLED


async def end(task: asyncio.Task[None], over: asyncio.Event) -> None:
    """Ends a task that goes on through cancelled calls until `over` is set."""
    over.set()
    task.cancel()
    await task


def raw_pair(world: World) -> tuple[socket.socket, socket.socket]:
    pair = world.kernel.stream_pair()
    for sock in pair:
        world.mark_raw(sock)
    return pair


async def sock_cancel(world: World) -> None:
    """Receives that are cancelled against sends that are not, until one send is, at the end."""
    sender, receiver = raw_pair(world)
    faults = world.connection_of(sender).faults
    sent = payload(8, world.size())
    extra: list[bytes] = []
    sending = asyncio.ensure_future(_send(world, sender, sent, extra))
    received = bytearray()
    try:
        while data := await _receive(world, receiver):
            received += data
    except OSError as error:
        if not faults:
            raise FailedError(f"receiving failed by itself: {error!r}") from error
    await _stop(sending)
    beginning = bytes(received[: len(sent)])
    world.expect_bytes(beginning, sent, faults, "what was received")
    rest = bytes(received[len(sent) :])
    if not b"".join(extra).startswith(rest):
        raise FailedError("a cancelled send has sent something else")
    receiver.close()
    sender.close()


async def _receive(world: World, sock: socket.socket) -> bytes:
    """The next bytes; b"" at the end."""
    while True:
        size = world.chance.pick((1, 10, 1_000, 100_000))
        if world.chance.happens(500):
            answer = await cancelled_sometimes(world, world.loop.sock_recv(sock, size))
        else:
            buffer = bytearray(size)
            answer = await cancelled_sometimes(world, world.loop.sock_recv_into(sock, buffer))
            if answer is not CANCELLED:
                answer = bytes(buffer[:answer])
        if answer is not CANCELLED:
            return bytes(answer)


async def _send(world: World, sock: socket.socket, data: bytes, extra: list[bytes]) -> None:
    """Sends all of it, then the end; before that perhaps what goes into `extra`, by a call that
    is cancelled."""
    middle = world.chance.between(0, len(data))
    try:
        for piece in (data[:middle], bytearray(data[middle:])):
            await world.loop.sock_sendall(sock, piece)
            await world.pass_time()
        if world.chance.happens(300):
            extra.append(EXTRA)
            await cancelled_sometimes(world, world.loop.sock_sendall(sock, EXTRA))
            await asyncio.sleep(1)  # what the kernel has of it goes before the end
    except OSError:
        pass  # the faults say whether there may be one
    finally:
        sock.shutdown(socket.SHUT_WR)


async def _stop(sending: asyncio.Task[None]) -> None:
    """Waits for the sender, who may wait for a receiver that failed."""
    done, _ = await asyncio.wait([sending], timeout=5)
    if not done:
        sending.cancel()
        await asyncio.wait([sending])
    else:
        sending.result()


async def accept_cancel(world: World) -> None:
    """Accepts and connects that are cancelled: each connection is served once, or was never
    made; no descriptor is left."""
    listener, address = world.kernel.listening_socket()
    listener.listen(100)
    count = world.chance.between(1, 12)
    calls = [asyncio.ensure_future(_visit(world, address, each)) for each in range(count)]
    served: list[int] = []
    over = asyncio.Event()
    serving = asyncio.ensure_future(_accept_all(world, listener, served, over))
    visited = [number for number in await asyncio.gather(*calls) if number is not None]
    await asyncio.sleep(5)
    await end(serving, over)
    await asyncio.sleep(1)  # a connection that came too late is kept for the next call
    listener.close()
    if len(served) != len(set(served)):
        raise FailedError(f"served twice: {served}")
    if not world.kernel.injected and not set(visited) <= set(served):
        raise FailedError(f"visited {visited}, served {served}")


async def _visit(world: World, address: str, number: int) -> int | None:
    """Connects and says its number, which it answers; None if it came to nothing."""
    sock = world.kernel.stream_socket()
    world.mark_raw(sock)
    try:
        answer = await cancelled_sometimes(world, world.loop.sock_connect(sock, address))
        if answer is CANCELLED:
            return None
        await world.loop.sock_sendall(sock, bytes([number]))
        await world.loop.sock_recv(sock, 1)
        return number
    except OSError as error:
        if not world.kernel.injected:
            raise FailedError(f"a visitor was turned away: {error!r}") from error
        return None
    finally:
        await world.pass_time()
        sock.close()


async def _accept_all(
    world: World, listener: socket.socket, served: list[int], over: asyncio.Event
) -> None:
    while not over.is_set():
        try:
            answer = await cancelled_sometimes(world, world.loop.sock_accept(listener))
        except OSError as error:
            world.expect_injected("accept", error)
            continue
        if answer is CANCELLED:
            continue
        sock, _ = answer
        world.mark_raw(sock)
        with sock:
            try:
                served.extend(await world.loop.sock_recv(sock, 1))
            except OSError:
                pass  # the visitor knows


async def sendfile(world: World) -> None:
    """A file over a transport, between other bytes; by the kernel, or where that refuses by
    reading it."""
    received: list[Tracked] = []

    def factory() -> Tracked:
        received.append(Tracked(world))
        return received[-1]

    server, address = await world.serve(factory)
    content = payload(10, world.size())
    before, after = payload(11, 100), payload(12, 100)
    caller: Any = await world.connect_protocol(address, lambda: Caller(world))
    if caller is not None:
        with tempfile.TemporaryFile() as file:
            file.write(content)
            file.seek(0)
            caller.transport.write(before)
            try:
                await world.loop.sendfile(caller.transport, file)
            except (OSError, RuntimeError):
                world.expect_bytes(b"", content, caller.connection.faults, "sendfile()")
            else:
                caller.transport.write(after)
            caller.transport.close()
            await caller.lost
    server.close()
    await server.wait_closed()
    for each in received:
        if "made" in each.calls:
            await each.lost
            whole = before + content + after
            world.expect_bytes(each.received, whole, each.connection.faults, "the file")
