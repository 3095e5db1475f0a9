"""Short connections as scenarios: connect, 64 bytes there and back, end, and the next one.

The servers are those of the echo benchmark: bytes are cheap here, and what costs is
accepting, making a transport and its protocol or streams, and closing. The load is
native/churn.c.
"""

from __future__ import annotations

from dataclasses import dataclass

from bench import native
from bench.children import Child, Cores
from bench.echo import server_command
from bench.errors import BenchError
from bench.load import Address
from bench.loops import NATIVE_SERVERS
from bench.scenario import Sample, Scenario

# What the load may need beyond warm-up and measuring: its own limit at the end is 5 s.
SLACK_S = 15.0
ANY_PORT = ["tcp", "127.0.0.1", "0"]


@dataclass(frozen=True)
class ChurnPlan:
    """The load on one server, the same for each loop."""

    at_once: int = 10
    size_bytes: int = 64
    warmup_s: float = 0.1
    duration_s: float = 0.5


def run_churn(address: Address, plan: ChurnPlan, measured_pid: int, core: int | None) -> Sample:
    """Put the load on an echo server and wait for its end.

    raises      BenchError: an answer was lost, changed or too long, or a connection did not
                end. The load's own words are on stderr.
    """
    command = [str(native.built("churn")), *_arguments(plan, measured_pid), *address]
    with Child(command, core) as child:
        answer = child.read_answer(plan.warmup_s + plan.duration_s + SLACK_S)
    if answer["connections"] == 0:
        raise BenchError("not one connection ended while measuring")
    latency_us = {name: value / 1e3 for name, value in answer["latency_ns"].items()}
    return Sample(
        operations=answer["connections"],
        seconds=answer["seconds"],
        measured_cpu_s=answer["measured_cpu_ns"] / 1e9,
        p50_us=latency_us["p50"],
        p99_us=latency_us["p99"],
        p99_9_us=latency_us["p99_9"],
    )


def _arguments(plan: ChurnPlan, measured_pid: int) -> list[str]:
    options = {
        "-c": plan.at_once,
        "-s": plan.size_bytes,
        "-w": max(1, round(plan.warmup_s * 1e3)),
        "-d": max(1, round(plan.duration_s * 1e3)),
        "-p": measured_pid,
    }
    return [text for option, value in options.items() for text in (option, str(value))]


class Churn:
    """One of the echo servers, and connections that come and go."""

    operation = "connection"

    def __init__(self, mode: str, plan: ChurnPlan) -> None:
        self.title = f"connect, {plan.size_bytes} B echo, close, {mode}, {plan.at_once} at once"
        self._mode = mode
        self._plan = plan

    def runs_on(self, loop: str) -> bool:
        """The C servers have no modes: they are the limit of the table of protocols."""
        return loop not in NATIVE_SERVERS or self._mode == "protocol"

    def run_round(self, loop: str, cores: Cores) -> Sample:
        with Child(server_command(loop, self._mode, ANY_PORT), cores.measured) as server:
            address = server.read_answer()["address"]
            return run_churn(address, self._plan, server.pid, cores.load)


def scenarios(extent: str) -> list[Scenario]:
    """Protocols and streams for half a second, or protocols for less."""
    if extent == "quick":
        return [Churn("protocol", ChurnPlan(warmup_s=0.05, duration_s=0.2))]
    return [Churn(mode, ChurnPlan()) for mode in ("protocol", "streams")]
