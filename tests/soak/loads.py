"""The loads of a soak. One call is one round: a fixed amount of work, of which nothing is left.

Each compares all bytes that come back, and answers how many operations it has done.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from asyncio.subprocess import PIPE
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any

from tests.soak.ground import Connection, Ground, close, echo, way_to

Load = Callable[[Ground, Random], Awaitable[int]]

MESSAGE_BYTES = (1, 100, 1024, 5000, 65_536, 300_000)
DATAGRAM_BYTES_MAX = 9000
TIMERS = 200
TIMER_S_MAX = 0.01
FILE_BYTES = 200_000


async def streams(ground: Ground, random: Random) -> int:
    kept = [*ground.kept["tcp"], *ground.kept["unix"]]
    return sum(await asyncio.gather(*(converse(each, random) for each in kept)))


async def encrypted(ground: Ground, random: Random) -> int:
    """On connections that stay, and on one that is made for it."""
    connection = await ground.connect["tls"]()
    every = [*ground.kept["tls"], connection]
    count = sum(await asyncio.gather(*(converse(each, random) for each in every)))
    await close(connection[1])
    return count


async def converse(connection: Connection, random: Random, messages: int = 4) -> int:
    reader, writer = connection
    for _ in range(messages):
        sent = random.randbytes(random.choice(MESSAGE_BYTES))
        writer.write(sent)
        assert await reader.readexactly(len(sent)) == sent
        await writer.drain()
    return messages


async def datagrams(ground: Ground, random: Random, messages: int = 10) -> int:
    async def converse(questions: Any) -> None:
        for _ in range(messages):
            # Not empty: before 3.13 asyncio does not send such, and we neither.
            sent = random.randbytes(random.randint(1, DATAGRAM_BYTES_MAX))
            assert await questions.ask(sent) == sent

    await asyncio.gather(*(converse(each) for each in ground.questions))
    return messages * len(ground.questions)


async def relays(ground: Ground, random: Random) -> int:
    """On relays that stay, and on new ones, of which some end by a reset."""
    made = [await ground.connect["relayed"]() for _ in range(4)]
    every = [*ground.kept["relayed"], *made]
    count = sum(await asyncio.gather(*(converse(each, random) for each in every)))
    for _, writer in made[::2]:
        writer.transport.abort()
    for _, writer in made:
        await close(writer)
    return count


async def children(ground: Ground, random: Random) -> int:
    """One that ends by itself, one that is killed, one whose start is cancelled or not."""
    sent = random.randbytes(FILE_BYTES)
    cat = await asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
    assert await cat.communicate(sent) == (sent, None)
    assert cat.returncode == 0
    sleeper = await asyncio.create_subprocess_exec("sleep", "1000")
    sleeper.kill()
    assert await sleeper.wait() == -9
    starting = asyncio.ensure_future(asyncio.create_subprocess_exec("true"))
    if not await was_cancelled(starting, random):
        assert await starting.result().wait() == 0
    return 3


async def was_cancelled(task: asyncio.Future[Any], random: Random, turns: int = 6) -> bool:
    """Cancels it some turns from now; whether it had not ended by then."""
    for _ in range(random.randrange(turns)):
        await asyncio.sleep(0)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    return task.cancelled()


async def timers(ground: Ground, random: Random) -> int:
    """Half of them are cancelled; the last one comes when all others have."""
    loop = asyncio.get_running_loop()
    fired: list[int] = []
    handles = [
        loop.call_later(random.random() * TIMER_S_MAX, fired.append, number)
        for number in range(TIMERS)
    ]
    for handle in handles[::2]:
        handle.cancel()
    await asyncio.sleep(TIMER_S_MAX)
    assert sorted(fired) == list(range(1, TIMERS, 2))
    with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(loop.create_future(), random.random() * TIMER_S_MAX)
    return TIMERS


async def churn(ground: Ground, random: Random, count: int = 10) -> int:
    """Connections that last for one message, each kind in turn; some are not closed but cut."""

    async def once(number: int) -> None:
        reader, writer = await ground.connect[("tcp", "unix")[number % 2]]()
        await converse((reader, writer), random, messages=1)
        if number % 3 == 0:
            writer.transport.abort()
        await close(writer)

    await asyncio.gather(*(once(number) for number in range(count)))
    return count


async def servers(ground: Ground, random: Random) -> int:
    """One that is closed with a connection that nobody has accepted yet."""
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    connection = await way_to(address)()
    await converse(connection, random, messages=1)
    await close(connection[1])
    with socket.create_connection(address):
        server.close()
        await server.wait_closed()
    return 1


async def cancellations(ground: Ground, random: Random, count: int = 10) -> int:
    """Of a receive, an accept and a connect; what comes afterwards goes to the next call."""
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    with ours, theirs, socket.create_server(("127.0.0.1", 0)) as listener:
        ours.setblocking(False)
        listener.setblocking(False)
        for _ in range(count):
            assert await was_cancelled(asyncio.ensure_future(loop.sock_recv(ours, 9)), random)
            theirs.send(b"for later")
            assert await loop.sock_recv(ours, 9) == b"for later"
            assert await was_cancelled(asyncio.ensure_future(loop.sock_accept(listener)), random)
            with socket.create_connection(listener.getsockname()) as client:
                accepted, address = await loop.sock_accept(listener)
                assert address == client.getsockname()
                accepted.close()
            await cancel_connect(ground, random)
    return 3 * count


async def cancel_connect(ground: Ground, random: Random) -> None:
    connecting = asyncio.ensure_future(ground.connect["tcp"]())
    if not await was_cancelled(connecting, random, turns=20):
        await close(connecting.result()[1])


async def threads(ground: Ground, random: Random, count: int = 8) -> int:
    """Work given to threads, and callbacks that come from them."""
    loop = asyncio.get_running_loop()
    called = [loop.create_future() for _ in range(count)]

    def work(number: int) -> int:
        loop.call_soon_threadsafe(called[number].set_result, number)
        return number

    given = [loop.run_in_executor(None, work, number) for number in range(count)]
    assert await asyncio.gather(*given) == await asyncio.gather(*called) == list(range(count))
    return count


async def pipes(ground: Ground, random: Random) -> int:
    loop = asyncio.get_running_loop()
    sent = random.randbytes(FILE_BYTES)
    ends = os.pipe()
    reader = asyncio.StreamReader()
    reading, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(ends[0], "rb", 0)
    )
    writing, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, os.fdopen(ends[1], "wb", 0))
    writing.write(sent)
    writing.close()
    assert await reader.read(-1) == sent
    reading.close()
    return 1


async def files(ground: Ground, random: Random) -> int:
    """A file is sent over a connection of its own."""
    path = ground.folder / "file"
    path.write_bytes(random.randbytes(FILE_BYTES))
    reader, writer = await ground.connect["tcp"]()
    with path.open("rb") as file:
        await asyncio.get_running_loop().sendfile(writer.transport, file)
    assert await reader.readexactly(FILE_BYTES) == path.read_bytes()
    await close(writer)
    return 1


LOADS: dict[str, Load] = {
    "streams": streams,
    "TLS": encrypted,
    "datagrams": datagrams,
    "relays": relays,
    "children": children,
    "timers": timers,
    "churn": churn,
    "servers": servers,
    "cancellations": cancellations,
    "threads": threads,
    "pipes": pipes,
    "files": files,
}
