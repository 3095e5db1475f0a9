"""A moment of all that allocates, and what the engine holds when all is closed: `moment.py KIND`.

Prints how many pieces of memory that is, before the end of the last loop and after it. Needs an
engine with the border of tests/faults.
"""

import asyncio
import socket
import sys

from certificates import HOST, contexts
from loops import make_loop

import uringloop
from uringloop.driver.binding import lib

ROUNDS = 12
BULK_BYTES = 500_000


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()
    writer.close()
    await writer.wait_closed()


async def converse(*address: object, **options: object) -> None:
    """Short messages, then a long one."""
    reader, writer = await asyncio.open_connection(*address, **options)
    for number in range(ROUNDS):
        message = bytes([number]) * (1 + 100 * number)
        writer.write(message)
        assert await reader.readexactly(len(message)) == message
    writer.write(bytes(BULK_BYTES))
    assert await reader.readexactly(BULK_BYTES) == bytes(BULK_BYTES)
    writer.close()
    await writer.wait_closed()


async def relayed(upstream: tuple[str, int]) -> None:
    ended = asyncio.get_running_loop().create_future()

    async def front(*client: object) -> None:
        ended.set_result(await uringloop.relay(client, await asyncio.open_connection(*upstream)))

    async with await asyncio.start_server(front, "127.0.0.1", 0) as server:
        await converse(*server.sockets[0].getsockname())
        assert (await ended).reason is uringloop.RelayEnd.EOF


class Datagrams(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.received = asyncio.get_running_loop().create_future()

    def datagram_received(self, data: bytes, addr: object) -> None:
        self.received.set_result(data)


async def datagrams() -> None:
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_datagram_endpoint(
        Datagrams, local_addr=("127.0.0.1", 0)
    )
    transport.sendto(b"x" * 5000, transport.get_extra_info("sockname"))
    assert await protocol.received == b"x" * 5000
    transport.close()


async def calls() -> None:
    """sock_* calls, one of them cancelled."""
    loop = asyncio.get_running_loop()
    ours, peer = socket.socketpair()
    with ours, peer:
        ours.setblocking(False)
        receiving = loop.create_task(loop.sock_recv(ours, 10))
        await asyncio.sleep(0)
        receiving.cancel()
        peer.send(b"x")
        assert await loop.sock_recv(ours, 10) == b"x"


async def main() -> None:
    async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
        address = server.sockets[0].getsockname()
        await converse(*address)
        await relayed(address)
    tls = contexts()
    async with await asyncio.start_server(echo, "127.0.0.1", 0, ssl=tls.server) as server:
        address = server.sockets[0].getsockname()
        await converse(*address, ssl=tls.client, server_hostname=HOST)
    await datagrams()
    await calls()


loop = make_loop(sys.argv[1])
loop.run_until_complete(main())
held = lib.ub_memory_held()
loop.close()
print(held > 0, lib.ub_memory_held())
