"""Two processes that accept on one socket, one of which stops: `shared_listener.py KIND`.

A connection comes while the one that began first is busy; then it stops serving. The other
one must serve the connection.
"""

import asyncio
import os
import socket
import sys

from loops import make_loop

KIND = sys.argv[1]
LIMIT_S = 2


class NameOfProcess(asyncio.Protocol):
    def connection_made(self, transport: asyncio.Transport) -> None:
        transport.write(b"parent" if os.getpid() == parent else b"child")
        transport.close()


async def serve(listener: socket.socket) -> asyncio.Server:
    server = await asyncio.get_running_loop().create_server(NameOfProcess, sock=listener)
    await asyncio.sleep(0.01)  # the kernel has the accept
    return server


def serve_in_child(listener: socket.socket) -> int:
    if pid := os.fork():
        assert os.read(started[0], 1) == b"s"
        return pid
    own = make_loop(KIND)
    own.run_until_complete(serve(listener.dup()))
    own.call_soon(os.write, started[1], b"s")
    own.run_forever()
    os._exit(1)


async def stop_while_a_connection_comes(listener: socket.socket, server: asyncio.Server) -> bytes:
    peer = socket.create_connection(listener.getsockname(), timeout=LIMIT_S)
    server.close()
    with peer:
        return peer.recv(100)


parent = os.getpid()
started = os.pipe()
loop = make_loop(KIND)
with socket.create_server(("127.0.0.1", 0)) as listener:
    server = loop.run_until_complete(serve(listener.dup()))
    child = serve_in_child(listener)
    try:
        print(loop.run_until_complete(stop_while_a_connection_comes(listener, server)).decode())
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)
loop.run_until_complete(server.wait_closed())
loop.close()
