"""A program that ends in the middle of something: `leaving.py KIND SCENARIO`.

What Python has to say of that goes to stderr, and is the same on asyncio.
"""

import asyncio
import atexit
import os
import sys
import threading
from asyncio.subprocess import PIPE

from certificates import contexts
from loops import make_loop

KIND = sys.argv[1]
loop = make_loop(KIND)
kept: list[object] = []


class Echo(asyncio.Protocol):
    def connection_made(self, transport: asyncio.Transport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


async def ping_pong() -> None:
    """For ever."""
    server = await loop.create_server(Echo, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    while True:
        writer.write(b"ping")
        await reader.readexactly(4)
        kept.clear()
        kept.append(server)


def with_pending_tasks() -> None:
    kept.extend(loop.create_task(asyncio.sleep(3600)) for _ in range(10))
    loop.run_until_complete(asyncio.sleep(0))


def with_a_busy_executor() -> None:
    """Its thread ends later than the program, and then calls a loop that nobody runs."""
    kept.append(loop.run_in_executor(None, sum, range(3_000_000)))
    loop.run_until_complete(asyncio.sleep(0))


def with_a_child() -> None:
    async def start() -> None:
        kept.append(await asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE))

    loop.run_until_complete(start())


def with_tls_and_datagrams() -> None:
    async def start() -> None:
        server = await loop.create_server(Echo, "127.0.0.1", 0, ssl=contexts().server)
        address = server.sockets[0].getsockname()
        # Its handshake never ends: nobody answers it.
        kept.append(await asyncio.open_connection(*address))
        kept.append(server)
        datagrams = await loop.create_datagram_endpoint(
            asyncio.DatagramProtocol, remote_addr=address
        )
        datagrams[0].sendto(b"to nobody")
        kept.append(datagrams)

    loop.run_until_complete(start())


def by_exit_in_a_callback() -> None:
    loop.create_task(ping_pong())
    loop.call_later(0.01, sys.exit, 3)
    loop.run_forever()


def by_exit_in_a_task() -> None:
    async def end() -> None:
        await asyncio.sleep(0.01)
        sys.exit(3)

    loop.create_task(ping_pong())
    loop.run_until_complete(end())


def by_exit_at_once() -> None:
    loop.create_task(ping_pong())
    loop.call_later(0.01, os._exit, 3)
    loop.run_forever()


def with_a_last_run() -> None:
    async def last() -> None:
        await asyncio.sleep(0.001)
        print("ran")

    def run_and_close() -> None:
        loop.run_until_complete(last())
        loop.close()

    atexit.register(run_and_close)


def with_a_busy_thread() -> None:
    """Its loop is in the middle of a turn whenever it is looked at."""
    threading.Thread(target=lambda: loop.run_until_complete(ping_pong()), daemon=True).start()
    while not kept:
        pass


print("leaving")
globals()[sys.argv[2]]()
