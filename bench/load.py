"""The load generator seen from Python: what to ask of it, what it answers.

The work is done by native/load.c; this only starts it and reads its line.
"""

from __future__ import annotations

from dataclasses import dataclass

from bench import native
from bench.children import Child
from bench.errors import BenchError
from bench.scenario import Sample

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
    is_tls: bool = False


def run_load(address: Address, plan: LoadPlan, measured_pid: int, core: int | None) -> Sample:
    """Put the load on a server and wait for its end. An operation is a message.

    raises      BenchError: a message was lost, changed or invented, the server closed a
                connection or stood still. MissingError: the load cannot be built.
    """
    program = native.built("load_tls" if plan.is_tls else "load")
    command = [str(program), *_arguments(plan, measured_pid), *address]
    with Child(command, core) as child:
        answer = child.read_answer(plan.warmup_s + plan.duration_s + SLACK_S)
    if answer["messages"] == 0:
        raise BenchError("not one message came back while measuring")
    latency_us = {name: value / 1e3 for name, value in answer["latency_ns"].items()}
    return Sample(
        operations=answer["messages"],
        seconds=answer["seconds"],
        measured_cpu_s=answer["measured_cpu_ns"] / 1e9,
        p50_us=latency_us["p50"],
        p99_us=latency_us["p99"],
        p99_9_us=latency_us["p99_9"],
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
