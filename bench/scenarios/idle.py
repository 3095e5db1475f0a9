"""Idle connections as scenarios: what each occupies, and what they cost the busy ones.

An echo server gets thousands of connections that each were used once and then do nothing.
What it occupies is read before and after. Then an echo load runs on a few connections more:
its cost for a message shows whether a turn depends on how many there are.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from bench.children import Child, Cores, python_command
from bench.echo import server_command
from bench.errors import MissingError
from bench.load import Address, LoadPlan, run_load
from bench.loops import NATIVE_SERVERS, is_python
from bench.scenario import Sample, Scenario
from bench.scenarios.idle_clients import SIGNAL
from bench.scenarios.memory import Memory, memory_of

ANY_PORT = ["tcp", "127.0.0.1", "0"]
# Open files of server and clients beside the connections.
SPARE_FILES = 200
# Long enough for some messages on a busy machine: none would be an error.
WARMUP_S = 0.2
# Opening all, or a message over each, however slow the server.
OPEN_LIMIT_S = 60.0


class IdleConnections:
    """One of the echo servers with many idle connections and a few busy ones."""

    operation = "message"

    def __init__(self, mode: str, idle: int, plan: LoadPlan) -> None:
        self.title = f"{idle} idle connections, {plan.connections} busy, echo {mode}"
        self._mode = mode
        self._idle = idle
        self._plan = plan

    def runs_on(self, loop: str) -> bool:
        """The C servers have no modes: they are the limit of the table of protocols."""
        return is_python(loop) or (loop in NATIVE_SERVERS and self._mode == "protocol")

    def run_round(self, loop: str, cores: Cores) -> Sample:
        with Child(server_command(loop, self._mode, ANY_PORT), cores.measured) as server:
            allow_open_files(server.pid, self._idle + SPARE_FILES)
            address = server.read_answer()["address"]
            # Memory for what is done at all is not memory for a connection.
            run_load(address, replace(self._plan, duration_s=WARMUP_S), server.pid, cores.load)
            with idle_clients(address, self._idle, cores.load) as clients:
                before = memory_of(server.pid)
                with opened(clients):
                    after = memory_of(server.pid)
                    sample = run_load(address, self._plan, server.pid, cores.load)
        return replace(sample, extra=memory_figures(before, after, self._idle))


@contextmanager
def idle_clients(address: Address, count: int, core: int | None) -> Iterator[Child]:
    """The process that will have the idle connections, before it opens them: it maps what a
    server maps, so it must be there when the server's share is first read."""
    command = python_command("bench.scenarios.idle_clients", *address[1:], str(count))
    with Child(command, core) as clients:
        allow_open_files(clients.pid, count + SPARE_FILES)
        clients.read_answer()
        yield clients


@contextmanager
def opened(clients: Child) -> Iterator[None]:
    """With all idle connections open; at the end each must still answer."""
    os.kill(clients.pid, SIGNAL)
    clients.read_answer(OPEN_LIMIT_S)
    yield
    os.kill(clients.pid, SIGNAL)
    clients.read_answer(OPEN_LIMIT_S)


def allow_open_files(pid: int, count: int) -> None:
    """Raise a process's limit to at least that many.

    raises      MissingError: more than this user may have.
    """
    soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    if soft >= count:
        return
    try:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (count, max(hard, count)))
    except (PermissionError, ValueError) as error:
        raise MissingError(
            f"{count} open files are more than the {hard} that this user may have "
            f"(ulimit -Hn, or nofile in limits.conf)"
        ) from error


def memory_figures(
    before: Memory, after: Memory, count: int, noun: str = "connection"
) -> dict[str, float]:
    """Figures by name and unit. In the slab both ends of a connection count,
    and whatever else the machine does meanwhile."""
    figures = {
        f"KiB per {noun}": (after.pss - before.pss) / count,
        f"KiB of the machine's slab per {noun}": (after.slab - before.slab) / count,
    }
    if after.rings:
        figures["KiB of rings"] = after.rings
    if after.locked:
        figures["KiB locked"] = after.locked
    return figures


def scenarios(extent: str) -> list[Scenario]:
    """10 000 connections, or 1000. Of protocols: streams add the same objects on every loop."""
    if extent == "quick":
        return [IdleConnections("protocol", 1000, LoadPlan(10, warmup_s=0.05, duration_s=0.2))]
    return [IdleConnections("protocol", 10_000, LoadPlan(10, warmup_s=0.1, duration_s=0.5))]
