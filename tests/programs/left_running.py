"""A program that ends with a loop not closed and operations in flight."""

import asyncio
import socket
import sys
import warnings

from loops import make_loop

warnings.simplefilter("ignore", ResourceWarning)  # which say that things were left, as meant
loop = make_loop(sys.argv[1])


async def main() -> None:
    server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
    peers.append(socket.create_connection(server.sockets[0].getsockname()))
    peers.append(await loop.create_connection(asyncio.Protocol, *server.sockets[0].getsockname()))
    loop.call_later(3600, print)


peers: list[object] = []
loop.run_until_complete(main())
print("end of program")
