"""From settings to processes: listening sockets, log, terminal, then one process or several.

What can fail is done before anything is forked or any loop made.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from dataclasses import dataclass
from typing import Any

from uringloop.proxy import log
from uringloop.proxy.addresses import Address
from uringloop.proxy.configuration import Configuration
from uringloop.proxy.errors import ExitStatus
from uringloop.proxy.listening import Listeners, listen
from uringloop.proxy.serving import Watching, run_alone, run_worker
from uringloop.proxy.shared_status import SharedStatus
from uringloop.proxy.supervisor import Supervisor

STDERR_FD = 2


@dataclass(frozen=True)
class Settings:
    """What the command line means: for the connections, and for the processes around them.

    log_level, log_format   keys of log.LEVELS, log.FORMATTERS
    """

    listen: Address
    connections: Configuration
    workers: int
    drain_timeout_s: float
    log_level: str
    log_format: str
    shows_status: bool


def start(settings: Settings) -> ExitStatus:
    """Runs the proxy until a signal ends it.

    raises    ProxyError when it cannot start
    """
    with contextlib.ExitStack() as stack:
        listeners = listen(settings.listen, settings.workers)
        stack.callback(listeners.close)
        display = None
        if settings.shows_status:
            display = stack.enter_context(_live_status(settings, listeners))
        write_line = write_to_stderr if display is None else display.print_line
        log.configure(settings.log_level, settings.log_format, write_line)
        if settings.workers == 1:
            return _start_alone(settings, listeners, display)
        return _start_workers(settings, listeners, display, stack)


def write_to_stderr(line: str) -> None:
    """In one call, so that lines of several processes stay whole."""
    os.write(STDERR_FD, line.encode(errors="backslashreplace") + b"\n")


def _live_status(settings: Settings, listeners: Listeners) -> Any:
    # Here, as rich is not needed where there is no terminal, and takes its time.
    from rich.console import Console

    from uringloop.proxy.status import LiveStatus

    title = f"uringloop proxy on {', '.join(map(str, listeners.names))}"
    return LiveStatus(title, settings.connections.upstreams, Console(stderr=True))


def _tell_start(settings: Settings, listeners: Listeners) -> None:
    for name in listeners.names:
        log.event(
            logging.INFO,
            "listening",
            address=name,
            upstreams=",".join(map(str, settings.connections.upstreams)),
            workers=settings.workers,
            pid=os.getpid(),
        )


def _start_alone(settings: Settings, listeners: Listeners, display: Any) -> ExitStatus:
    watching = None if display is None else Watching(display.show)
    return run_alone(
        settings.connections,
        listeners.sockets[0],
        settings.drain_timeout_s,
        watching,
        lambda: _tell_start(settings, listeners),
    )


def _start_workers(
    settings: Settings, listeners: Listeners, display: Any, stack: contextlib.ExitStack
) -> ExitStatus:
    status = None
    if display is not None:
        upstreams = len(settings.connections.upstreams)
        status = SharedStatus(display, settings.workers, upstreams)
        stack.callback(status.close)

    def work(number: int, sockets: list[socket.socket], orders_fd: int) -> int:
        watching = None if status is None else status.begin_worker(number)
        log.configure(settings.log_level, settings.log_format, write_to_stderr, worker=number)
        return run_worker(
            settings.connections, sockets, settings.drain_timeout_s, watching, orders_fd
        )

    def ready() -> None:
        _tell_start(settings, listeners)

    return Supervisor(listeners, work, settings.drain_timeout_s, ready, status).run()
