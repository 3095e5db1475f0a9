"""A server whose process has no descriptor left, and then has some: `accept_emfile.py KIND WHOSE`.

The listening socket is the loop's "own", or "given" to it: io_uring asks for connections otherwise.
"""

import asyncio
import errno
import os
import resource
import socket
import sys
import time

from loops import run

WATCHED_S = 0.5


class Greeter(asyncio.Protocol):
    def connection_made(self, transport: asyncio.Transport) -> None:
        transport.write(b"hello")
        transport.close()


def take_all_descriptors() -> list[int]:
    taken = []
    try:
        while True:
            taken.append(os.dup(2))
    except OSError as error:
        assert error.errno == errno.EMFILE
    return taken


async def main() -> None:
    loop = asyncio.get_running_loop()
    reports: list[dict[str, object]] = []
    loop.set_exception_handler(lambda _, context: reports.append(context))
    if sys.argv[2] == "own":
        server = await loop.create_server(Greeter, "127.0.0.1", 0)
    else:
        server = await loop.create_server(Greeter, sock=socket.create_server(("127.0.0.1", 0)))
    peers = [socket.socket() for _ in range(3)]
    taken = take_all_descriptors()
    for peer in peers:
        peer.connect(server.sockets[0].getsockname())
    processor_s = time.thread_time()
    await asyncio.sleep(WATCHED_S)
    check(reports, time.thread_time() - processor_s)
    for fd in taken:
        os.close(fd)
    await asyncio.wait_for(asyncio.gather(*map(hello, peers)), 10)
    server.close()
    await server.wait_closed()


def check(reports: list[dict[str, object]], processor_s: float) -> None:
    assert reports, "nobody was told"
    for context in reports:
        assert context["exception"].errno == errno.EMFILE
        assert "socket.accept() out of system resource" in context["message"]
        assert context["socket"].fileno() >= 0
    assert processor_s < WATCHED_S / 3, f"spinning: {processor_s} s"
    if sys.argv[1] != "asyncio":  # which reports once per place in the backlog
        assert len(reports) == 1, len(reports)


async def hello(peer: socket.socket) -> None:
    with peer:
        peer.setblocking(False)
        assert await asyncio.get_running_loop().sock_recv(peer, 10) == b"hello"


resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
run(sys.argv[1], main)
