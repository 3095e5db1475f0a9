"""The load generator seen from Python: what to ask of it, what it answers.

The work is done by native/load.c; this only starts it and reads its line.
"""

from __future__ import annotations

from dataclasses import dataclass

from bench import native
from bench.children import Child
from bench.errors import BenchError

# What the load may need beyond warm-up and measuring: connecting, and getting back
# what is under way at the end (its own limit for that is 5 s).
SLACK_S = 15.0

# ["tcp", host, port], ["unix", path] or ["udp", host, port], as native/endpoint.c reads it.
Address = list[str]


@dataclass(frozen=True)
class LoadPlan:
    """The load on one server, the same for each loop."""

    connections: int = 10
    size_bytes: int = 1024
    pipeline: int = 1
    warmup_s: float = 0.2
    duration_s: float = 0.5
    verify: bool = False


@dataclass(frozen=True)
class LoadResult:
    """One measured window. CPU times and messages are of the same window."""

    messages: int
    seconds: float
    measured_cpu_s: float
    load_cpu_s: float
    p50_us: float
    p99_us: float
    p99_9_us: float
    max_us: float

    @property
    def rate_per_s(self) -> float:
        return self.messages / self.seconds

    @property
    def cpu_us_per_message(self) -> float:
        return self.measured_cpu_s * 1e6 / self.messages

    @property
    def busy(self) -> float:
        """The measured process's share of a core; well below 1 means that it waited."""
        return self.measured_cpu_s / self.seconds


def run_load(address: Address, plan: LoadPlan, measured_pid: int, core: int | None) -> LoadResult:
    """Put the load on a server and wait for its end.

    raises      BenchError: a message was lost, changed or invented, the server closed a
                connection or stood still. The load's own words are on stderr.
    """
    command = [str(native.built("load")), *_arguments(plan, measured_pid), *address]
    with Child(command, core) as child:
        answer = child.read_answer(plan.warmup_s + plan.duration_s + SLACK_S)
    if answer["messages"] == 0:
        raise BenchError("not one message came back while measuring")
    latency_us = {name: value / 1e3 for name, value in answer["latency_ns"].items()}
    return LoadResult(
        messages=answer["messages"],
        seconds=answer["seconds"],
        measured_cpu_s=answer["measured_cpu_ns"] / 1e9,
        load_cpu_s=answer["load_cpu_ns"] / 1e9,
        p50_us=latency_us["p50"],
        p99_us=latency_us["p99"],
        p99_9_us=latency_us["p99_9"],
        max_us=latency_us["max"],
    )


def _arguments(plan: LoadPlan, measured_pid: int) -> list[str]:
    options = {
        "-c": plan.connections,
        "-s": plan.size_bytes,
        "-k": plan.pipeline,
        "-w": max(1, round(plan.warmup_s * 1e3)),
        "-d": max(1, round(plan.duration_s * 1e3)),
        "-p": measured_pid,
    }
    arguments = [text for option, value in options.items() for text in (option, str(value))]
    return [*arguments, "-v"] if plan.verify else arguments
