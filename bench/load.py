"""The load generators seen from Python: what to ask of them, what they answer.

The work is done by native/load.c (messages over lasting connections) and native/churn.c (short
connections); this only starts them and reads their line.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bench import native
from bench.children import Child
from bench.errors import BenchError
from bench.scenario import Sample

# What a load may need beyond warm-up and measuring: connecting, and getting back
# what is under way at the end (its own limit for that is 5 s).
SLACK_S = 15.0

# ["tcp", host, port], ["unix", path] or ["udp", host, port], as native/endpoint.c reads it.
Address = list[str]


@dataclass(frozen=True)
class LoadPlan:
    """The load on one server, the same for each loop. Of each message its last `answer_bytes`
    come back, or all of it."""

    connections: int = 10
    size_bytes: int = 1024
    pipeline: int = 1
    warmup_s: float = 0.2
    duration_s: float = 0.5
    verify: bool = False
    is_tls: bool = False
    answer_bytes: int | None = None

    def arguments(self) -> list[str]:
        options = {
            **common_options(self.connections, self.size_bytes, self.warmup_s, self.duration_s),
            "-r": self.answer_bytes or self.size_bytes,
            "-k": self.pipeline,
        }
        return [*words(options), "-v"] if self.verify else words(options)


@dataclass(frozen=True)
class ChurnPlan:
    """A load of short connections on one server, the same for each loop."""

    at_once: int = 10
    size_bytes: int = 64
    warmup_s: float = 0.1
    duration_s: float = 0.5

    def arguments(self) -> list[str]:
        options = common_options(self.at_once, self.size_bytes, self.warmup_s, self.duration_s)
        return words(options)


def common_options(
    connections: int, size_bytes: int, warmup_s: float, duration_s: float
) -> dict[str, int]:
    return {
        "-c": connections,
        "-s": size_bytes,
        "-w": max(1, round(warmup_s * 1e3)),
        "-d": max(1, round(duration_s * 1e3)),
    }


def words(options: Mapping[str, int]) -> list[str]:
    return [text for option, value in options.items() for text in (option, str(value))]


def run_load(address: Address, plan: LoadPlan, measured_pid: int, core: int | None) -> Sample:
    """Put the load on a server and wait for its end. An operation is a message.

    raises      BenchError: a message was lost, changed or invented, the server closed a
                connection or stood still. MissingError: the load cannot be built.
    """
    program = native.built("load_tls" if plan.is_tls else "load")
    return _run(program, plan, address, measured_pid, core)


def run_churn(address: Address, plan: ChurnPlan, measured_pid: int, core: int | None) -> Sample:
    """Put the load on an echo server and wait for its end. An operation is a connection.

    raises      BenchError: an answer was lost, changed or too long, or a connection did not
                end. The load's own words are on stderr.
    """
    return _run(native.built("churn"), plan, address, measured_pid, core)


def _run(
    program: Path,
    plan: LoadPlan | ChurnPlan,
    address: Address,
    measured_pid: int,
    core: int | None,
) -> Sample:
    command = [str(program), *plan.arguments(), "-p", str(measured_pid), *address]
    with Child(command, core) as child:
        answer = child.read_answer(plan.warmup_s + plan.duration_s + SLACK_S)
    if answer["operations"] == 0:
        raise BenchError("the load had not one answer while measuring")
    latency_us = {name: value / 1e3 for name, value in answer["latency_ns"].items()}
    return Sample(
        operations=answer["operations"],
        seconds=answer["seconds"],
        measured_cpu_s=answer["measured_cpu_ns"] / 1e9,
        p50_us=latency_us["p50"],
        p99_us=latency_us["p99"],
        p99_9_us=latency_us["p99_9"],
    )
