"""All connections of one process: accepted, counted, held back at the limit, drained, cut.

    proxy = Proxy(Configuration(upstreams=(...)))
    await proxy.start(listeners.sockets[0])
    ...
    proxy.stop_accepting()
    await proxy.drained()

Runs inside a loop of ours. Signals, processes and the terminal are others' business.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Sequence

from uringloop.proxy.configuration import Configuration
from uringloop.proxy.connection import GOOD_ENDS, ClientProtocol, Connection
from uringloop.proxy.counters import Counters, UpstreamCounters
from uringloop.proxy.listening import BACKLOG
from uringloop.proxy.upstreams import Upstreams
from uringloop.servers import Server

CUT_AGAIN_S = 0.1


class Proxy:
    """The proxy.

    clock    for the back-off of upstreams: seconds, monotonic
    """

    def __init__(
        self, configuration: Configuration, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._configuration = configuration
        self.upstreams = Upstreams(configuration.upstreams, configuration.balance, clock)
        self._servers: list[Server] = []
        self._connections: dict[asyncio.Task[None], Connection] = {}
        self._is_paused = False
        self._emptied = asyncio.Event()
        self._emptied.set()
        self.open = 0
        self._accepted = 0
        self._failed = 0
        self._bytes_up = 0  # of connections that have ended
        self._bytes_down = 0

    async def start(self, sockets: Sequence[socket.socket]) -> None:
        """Accepts from these listening sockets, which are the proxy's from now on."""
        loop = asyncio.get_running_loop()
        for sock in sockets:
            server = await loop.create_server(self._new_protocol, sock=sock, backlog=BACKLOG)
            assert isinstance(server, Server)
            self._servers.append(server)

    def stop_accepting(self) -> None:
        """Closes the listening sockets; connections go on."""
        for server in self._servers:
            server.close()
        self._servers.clear()

    async def drained(self) -> None:
        """Waits until no connection is left."""
        await self._emptied.wait()

    async def cut(self) -> None:
        """Ends all connections, at once and with a reset."""
        while self.open:
            for task in self._connections:
                task.cancel()
            # Again for the few that had just got an answer: the wait_for() of Python 3.11
            # drops a cancel that comes together with one.
            await asyncio.wait({asyncio.ensure_future(self.drained())}, timeout=CUT_AGAIN_S)

    def counters(self) -> Counters:
        """What was counted up to now, the connections under way included."""
        under_way = self._connections.values()
        now = self.upstreams.clock()
        return Counters(
            open=self.open,
            accepted=self._accepted,
            failed=self._failed,
            bytes_up=self._bytes_up + sum(each.bytes_up for each in under_way),
            bytes_down=self._bytes_down + sum(each.bytes_down for each in under_way),
            upstreams=tuple(
                UpstreamCounters(each.open, each.failures, int(not each.back_off.is_over(now)))
                for each in self.upstreams.all
            ),
        )

    def _new_protocol(self) -> ClientProtocol:
        """Counts here, not when the connection is made: that may be after the next accept."""
        self.open += 1
        self._accepted += 1
        self._emptied.clear()
        self._hold_back()
        return ClientProtocol(self._made)

    def _made(self, protocol: ClientProtocol) -> None:
        connection = Connection(self._configuration, self.upstreams, protocol)
        task = asyncio.get_running_loop().create_task(connection.serve())
        self._connections[task] = connection
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        connection = self._connections.pop(task)
        connection.finish()
        self._bytes_up += connection.bytes_up
        self._bytes_down += connection.bytes_down
        self._failed += connection.end not in GOOD_ENDS
        self.open -= 1
        if self.open == 0:
            self._emptied.set()
        self._hold_back()
        if not task.cancelled():
            task.result()  # a fault of ours goes to the loop's exception handler

    def _hold_back(self) -> None:
        """Pauses accepting at the limit and resumes it below.

        Not by Server.set_connection_limit(): the limit is of all servers together, and a
        connection is open until its upstream's side is, too.
        """
        is_full = self.open >= self._configuration.connections_max
        if is_full == self._is_paused:
            return
        self._is_paused = is_full
        for server in self._servers:
            if self._is_paused != is_full:
                break  # what the server before this one had held was enough to be full again
            if is_full:
                server.pause_accepting()
            else:
                server.resume_accepting()
