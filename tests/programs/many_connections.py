"""A server of so many connections at once, each of which must end once: `... KIND COUNT`.

Prints "ready" and its port, "all made", and in the end "all lost".
"""

import asyncio
import resource
import sys

from audit import open_descriptors
from loops import driver_leftovers, run

KIND, COUNT = sys.argv[1], int(sys.argv[2])


class Echo(asyncio.Protocol):
    made = 0
    lost = 0
    all_lost: "asyncio.Future[None]"

    def connection_made(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        self.losses = 0
        Echo.made += 1
        if Echo.made == COUNT:
            print("all made")

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)

    def connection_lost(self, error: "Exception | None") -> None:
        self.losses += 1
        assert self.losses == 1
        Echo.lost += 1
        if Echo.lost == COUNT:
            Echo.all_lost.set_result(None)


async def main() -> None:
    loop = asyncio.get_running_loop()
    Echo.all_lost = loop.create_future()
    before = open_descriptors()
    server = await loop.create_server(Echo, "127.0.0.1", 0, backlog=1000)
    print("ready")
    print(server.sockets[0].getsockname()[1])
    await Echo.all_lost
    server.close()
    await server.wait_closed()
    await asyncio.sleep(0)
    assert Echo.made == COUNT
    assert len(open_descriptors()) <= len(before) + 1  # a loop of ours has one more by now
    assert driver_leftovers(loop) == []
    print("all lost")


hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
run(KIND, main)
