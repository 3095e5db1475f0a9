"""TCP proxies as scenarios: what relaying costs, whoever does it.

    load --> proxy (measured) --> upstream

The proxy is HAProxy, nginx, a relay in C (the limit of either kind), asyncio protocols on a loop,
or, on uringloop, uringloop.relay. The upstream is in C and shares the load's core: an echo server,
or for bulk one way a sink, which answers each MiB with its last bytes.

With a core each, a proxy that is leaner than its load waits for it, and pays for sleeping and
waking what a slower one saves, which always finds work. On one core all of them find a turn's
work when the load has slept: there the cost of a message is to be compared.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from bench import native, proxies, tables
from bench.children import Child, Cores, python_command
from bench.errors import MissingError
from bench.load import Address, ChurnPlan, LoadPlan, run_churn, run_load
from bench.loops import NATIVE_SERVERS, PROXIES
from bench.scenario import Sample, Scenario
from bench.scenarios.idle import (
    SPARE_FILES,
    WARMUP_S,
    allow_open_files,
    idle_clients,
    memory_figures,
    opened,
)
from bench.scenarios.memory import memory_of

ANY_PORT = ["tcp", "127.0.0.1", "0"]
BASELINE = "haproxy"
OWN = "uringloop"  # what the names of our own loops begin with
NATIVE_RELAYS = {"c-io_uring": "relay_uring", "c-epoll": "relay_epoll"}
# The sink's answer to a message: enough to notice that a byte before it was lost.
ANSWER_BYTES = 8


@contextmanager
def native_server(program: str, arguments: list[str], core: int | None) -> Iterator[Address]:
    with Child([str(native.built(program)), *arguments, *ANY_PORT], core) as server:
        yield server.read_answer()["address"]


@contextmanager
def proxy(name: str, upstream: Address, core: int | None) -> Iterator[tuple[Address, Child]]:
    """The proxy of that name, and where it listens.

    raises      MissingError: it is not to be had, with the reason.
    """
    if name in PROXIES:
        with proxies.running(name, upstream, core) as found:
            yield found
        return
    with Child(proxy_command(name, upstream), core) as child:
        answer = child.read_answer()
        if "missing" in answer:
            raise MissingError(answer["missing"])
        yield answer["address"], child


def proxy_command(name: str, upstream: Address) -> list[str]:
    if name in NATIVE_SERVERS:
        return [str(native.built(NATIVE_RELAYS[name])), *ANY_PORT, *upstream]
    module = "bench.relay_proxy" if name.startswith(OWN) else "bench.proxy"
    return python_command(module, name, *ANY_PORT[1:], *upstream[1:])


class Relay:
    """A load through one of the proxies."""

    baseline = BASELINE

    def runs_on(self, loop: str) -> bool:
        return True


@dataclass(frozen=True)
class RelayMessages(Relay):
    """Messages there and back, or one way, over lasting connections."""

    plan: LoadPlan
    seconds: float = 0.5
    is_on_one_core: bool = False

    @property
    def operation(self) -> str:
        is_one_way = self.plan.answer_bytes is not None
        return "MiB" if is_one_way and self.plan.size_bytes == 1024 * 1024 else "message"

    @property
    def title(self) -> str:
        place = ", one core" if self.is_on_one_core else ""
        way = "round trip" if self.plan.answer_bytes is None else "one way"
        size = tables.size(self.plan.size_bytes)
        return f"relay, {size} {way}, {self.plan.connections} connections{place}"

    def run_round(self, loop: str, cores: Cores) -> Sample:
        program, arguments = "echo_epoll", []
        if self.plan.answer_bytes is not None:
            arguments = ["-s", str(self.plan.size_bytes), "-r", str(self.plan.answer_bytes)]
            program = "sink"
        plan = replace(self.plan, duration_s=self.seconds)
        if self.is_on_one_core:
            cores = cores.shared()
        with (
            native_server(program, arguments, cores.load) as upstream,
            proxy(loop, upstream, cores.measured) as (address, child),
        ):
            return run_load(address, plan, child.pid, cores.load)


@dataclass(frozen=True)
class RelayChurn(Relay):
    """Connections that come and go; each proxied pair is made for one request. The upstream is
    a fresh one each time, so that no pair of addresses waits for its end."""

    plan: ChurnPlan
    seconds: float = 0.5
    operation: str = "connection"

    @property
    def title(self) -> str:
        size = tables.size(self.plan.size_bytes)
        return f"relay, connect, {size} round trip, close, {self.plan.at_once} at once"

    def run_round(self, loop: str, cores: Cores) -> Sample:
        plan = replace(self.plan, duration_s=self.seconds)
        with (
            native_server("echo_epoll", [], cores.load) as upstream,
            proxy(loop, upstream, cores.measured) as (address, child),
        ):
            return run_churn(address, plan, child.pid, cores.load)


@dataclass(frozen=True)
class IdlePairs(Relay):
    """Pairs that were used once and do nothing: what each occupies in the proxy, and what they
    cost the busy ones."""

    idle: int
    plan: LoadPlan
    operation: str = "message"

    @property
    def title(self) -> str:
        return f"relay, {self.idle} idle pairs, {self.plan.connections} busy"

    def run_round(self, loop: str, cores: Cores) -> Sample:
        with (
            native_server("echo_epoll", [], cores.load) as upstream,
            proxy(loop, upstream, cores.measured) as (address, child),
        ):
            allow_open_files(child.pid, 2 * self.idle + SPARE_FILES)
            warm_up = replace(self.plan, duration_s=WARMUP_S)
            run_load(address, warm_up, child.pid, cores.load)
            with idle_clients(address, self.idle, cores.load) as clients:
                before = memory_of(child.pid)
                with opened(clients):
                    after = memory_of(child.pid)
                    sample = run_load(address, self.plan, child.pid, cores.load)
        return replace(sample, extra=memory_figures(before, after, self.idle, "pair"))


KIB, MIB = 1024, 1024 * 1024
ROUND_TRIPS = RelayMessages(LoadPlan(20, KIB, warmup_s=0.1, verify=True))
LONG = RelayMessages(LoadPlan(20, 100 * KIB, warmup_s=0.1, verify=True))
BULK = RelayMessages(
    LoadPlan(4, MIB, pipeline=2, warmup_s=0.1, verify=True, answer_bytes=ANSWER_BYTES)
)
MESSAGES = (ROUND_TRIPS, LONG, BULK)


def scenarios(extent: str) -> list[Scenario]:
    """All of them, or round trips of 1 KiB for less."""
    if extent == "quick":
        return [replace(ROUND_TRIPS, seconds=0.2)]
    busy = LoadPlan(20, KIB, warmup_s=0.1)
    return [
        *(replace(each, is_on_one_core=one) for one in (False, True) for each in MESSAGES),
        RelayChurn(ChurnPlan(size_bytes=KIB)),
        IdlePairs(2000, busy),
    ]
