"""One process that serves: a loop, a Proxy in it, and the end in order.

The first request to stop closes the listening sockets and waits for the connections, the
second cuts what is left; so does the end of the time to drain.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

import uringloop
from uringloop.proxy.configuration import DRAIN_TIMEOUT_S, Configuration
from uringloop.proxy.counters import Counters
from uringloop.proxy.errors import EngineError, ExitStatus
from uringloop.proxy.log import event, report_loop_error
from uringloop.proxy.server import Proxy

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)

# What a parent tells its worker through the pipe between them; its end means DRAIN, too.
DRAIN = b"d"
CUT = b"c"


class StopRequests:
    """What was asked for: nothing, to drain, or to cut."""

    def __init__(self) -> None:
        self.drain = asyncio.Event()
        self.cut = asyncio.Event()

    def add(self) -> None:
        """One signal: the first drains, the second cuts."""
        (self.cut if self.drain.is_set() else self.drain).set()

    def obey(self, orders: bytes) -> None:
        """What a parent wrote; b"" when it is no more."""
        self.drain.set()
        if CUT in orders:
            self.cut.set()


@dataclass(frozen=True)
class Watching:
    """Somebody who is told the counters now and then: a terminal, a parent."""

    tell: Callable[[Counters], object]
    every_s: float = 0.5


async def serve(
    proxy: Proxy,
    sockets: Sequence[socket.socket],
    requests: StopRequests,
    drain_timeout_s: float = DRAIN_TIMEOUT_S,
) -> ExitStatus:
    """Serves from the listening sockets until asked to stop, and then ends in order."""
    await proxy.start(sockets)
    await requests.drain.wait()
    proxy.stop_accepting()
    event(logging.INFO, "draining", connections=proxy.open, limit_s=drain_timeout_s)
    await _first_of(drain_timeout_s, proxy.drained(), requests.cut.wait())
    if not proxy.open:
        return ExitStatus.DRAINED
    event(logging.WARNING, "cut", connections=proxy.open)
    await proxy.cut()
    return ExitStatus.CUT


async def _first_of(timeout_s: float, *waits: Coroutine[Any, Any, object]) -> None:
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await _end(*tasks)


def run_alone(
    configuration: Configuration,
    sockets: Sequence[socket.socket],
    drain_timeout_s: float,
    watching: Watching | None,
    ready: Callable[[], object],
) -> ExitStatus:
    """The whole proxy in this process, until a signal ends it.

    ready     called as soon as signals are heard
    raises    EngineError
    """

    def listen_for_stop(requests: StopRequests) -> None:
        loop = asyncio.get_running_loop()
        for number in STOP_SIGNALS:
            loop.add_signal_handler(number, requests.add)
        ready()

    return _run(configuration, sockets, drain_timeout_s, watching, listen_for_stop)


def run_worker(
    configuration: Configuration,
    sockets: Sequence[socket.socket],
    drain_timeout_s: float,
    watching: Watching | None,
    orders_fd: int,
) -> ExitStatus:
    """One of several: the parent decides, through `orders_fd`.

    SIGTERM only drains, however often it comes: a service manager may signal parent and
    workers at once. SIGINT of a terminal, which reaches all of them, is the parent's.
    """

    def listen_for_stop(requests: StopRequests) -> None:
        loop = asyncio.get_running_loop()
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        loop.add_signal_handler(signal.SIGTERM, requests.drain.set)
        loop.add_reader(orders_fd, take_orders, loop, requests)

    def take_orders(loop: asyncio.AbstractEventLoop, requests: StopRequests) -> None:
        orders = os.read(orders_fd, 64)
        if not orders:
            loop.remove_reader(orders_fd)
        requests.obey(orders)

    return _run(configuration, sockets, drain_timeout_s, watching, listen_for_stop)


def _run(
    configuration: Configuration,
    sockets: Sequence[socket.socket],
    drain_timeout_s: float,
    watching: Watching | None,
    listen_for_stop: Callable[[StopRequests], None],
) -> ExitStatus:
    loop = _new_loop()
    loop.set_exception_handler(report_loop_error)

    async def main() -> ExitStatus:
        requests = StopRequests()
        listen_for_stop(requests)
        event(logging.INFO, "serving", pid=os.getpid(), engine=loop.backend)
        proxy = Proxy(configuration)
        watcher = None if watching is None else loop.create_task(_watch(proxy, watching))
        status = await serve(proxy, sockets, requests, drain_timeout_s)
        if watcher is not None:
            await _end(watcher)
        return status

    try:
        return loop.run_until_complete(main())
    finally:
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


def _new_loop() -> uringloop.EventLoop:
    try:
        return uringloop.new_event_loop()
    except (RuntimeError, ValueError) as error:
        raise EngineError(f"no event loop can be had here: {error}") from None


async def _end(*tasks: asyncio.Future[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


async def _watch(proxy: Proxy, watching: Watching) -> None:
    try:
        while True:
            watching.tell(proxy.counters())
            await asyncio.sleep(watching.every_s)
    finally:
        watching.tell(proxy.counters())
