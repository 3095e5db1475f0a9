"""An echo for peers that send and do not read: `echo_within_memory.py KIND COUNT FLOW GROUP`.

FLOW is "controlled", or "ignored": then nobody minds pause_writing(). GROUP is the file that puts
a process into a cgroup. Prints "ready", its port, "all paused" when each of COUNT connections has
been told to pause, and "all lost" when they are gone.
"""

import asyncio
import os
import sys
from pathlib import Path

Path(sys.argv[4]).write_text(str(os.getpid()))

from loops import run  # noqa: E402 - what it takes counts for the group
from peers import limit_buffers  # noqa: E402
from smoke import smoke  # noqa: E402

KIND, COUNT, IS_CONTROLLED = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "controlled"
SOCKET_BUFFER_BYTES = 65_536


class Echo(asyncio.Protocol):
    paused = 0
    lost = 0
    all_lost: "asyncio.Future[None]"

    def connection_made(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        self.was_paused = False

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)

    def pause_writing(self) -> None:
        if IS_CONTROLLED:
            self.transport.pause_reading()
        Echo.paused += not self.was_paused
        if Echo.paused == COUNT and not self.was_paused:
            print("all paused")
        self.was_paused = True

    def resume_writing(self) -> None:
        if IS_CONTROLLED:
            self.transport.resume_reading()

    def connection_lost(self, error: "Exception | None") -> None:
        Echo.lost += 1
        if Echo.lost == COUNT:
            Echo.all_lost.set_result(None)


async def main() -> None:
    loop = asyncio.get_running_loop()
    Echo.all_lost = loop.create_future()
    await smoke()
    server = await loop.create_server(Echo, "127.0.0.1", 0, backlog=COUNT)
    for sock in server.sockets:
        limit_buffers(sock, SOCKET_BUFFER_BYTES)  # connections inherit it
    print("ready")
    print(server.sockets[0].getsockname()[1])
    await Echo.all_lost
    server.close()
    await server.wait_closed()
    await smoke()
    print("all lost")


run(KIND, main)
