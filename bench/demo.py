"""The demo: a TCP proxy written with asyncio, run on uringloop and on the stdlib's loop.

    python -m bench.demo
    python -m bench.demo --loops uringloop-auto,uvloop,asyncio --seconds 2

load client --> proxy (the measured process) --> upstream echo server

Each is a process; the load compares every byte. The loops take turns, round by round, so
that the figures of one table belong together. `uringloop-auto` takes io_uring where the
kernel lets it, else epoll, and the demo prints which and why.

Exit status: 0 done, 1 a loop is missing or the proxy failed, 130 interrupted.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

if not __package__:  # run as a file: let `import bench` find the package around it
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from bench import native, tables
from bench.children import Child, Cores, choose_cores, python_command
from bench.environment import describe_environment, one_line
from bench.errors import BenchError, MissingError
from bench.load import Address, LoadPlan, run_load
from bench.options import parser_of, positive, print_progress
from bench.scenario import Sample

ANY_PORT = ["tcp", "127.0.0.1", "0"]
HEADER = (
    "proxy on",
    "connections",
    "requests/s",
    "p50 µs",
    "p99 µs",
    "MB/s each way",
    "CPU µs/request",
    "proxy busy",
)


@dataclass
class Contestant:
    """One loop of the demo, and its rounds so far."""

    name: str
    facts: dict[str, str] = field(default_factory=dict)
    results: list[Sample] = field(default_factory=list)

    @property
    def label(self) -> str:
        """What to call it in the table: with the backend, where it says one."""
        plain_name = self.name.removesuffix("-auto")
        backend = self.facts.get("backend", "")
        return f"{plain_name} ({backend})" if backend else plain_name


def run_round(contestant: Contestant, upstream: Address, plan: LoadPlan, cores: Cores) -> None:
    """Put the load on a fresh proxy, once."""
    command = python_command("bench.proxy", contestant.name, *ANY_PORT[1:], *upstream[1:])
    with Child(command, cores.measured) as proxy:
        answer = proxy.read_answer()
        if "missing" in answer:
            raise MissingError(answer["missing"])
        contestant.facts = answer["loop"]
        result = run_load(answer["address"], plan, proxy.pid, cores.load)
        contestant.results.append(result)


def run_rounds(contestants: Sequence[Contestant], plan: LoadPlan, rounds: int) -> None:
    """All rounds, interleaved, on one upstream, which shares the load's core."""
    cores = choose_cores()
    with Child([str(native.built("echo_epoll")), *ANY_PORT], cores.load) as upstream_server:
        upstream = upstream_server.read_answer()["address"]
        for number, contestant in itertools.product(range(rounds), contestants):
            run_round(contestant, upstream, plan, cores)
            print_progress(
                f"round {number + 1}/{rounds}  {contestant.label:<24}"
                f"{contestant.results[-1].rate_per_s:9.0f} requests/s"
            )


def row(contestant: Contestant, plan: LoadPlan) -> list[str]:
    rate_per_s = median(result.rate_per_s for result in contestant.results)
    return [
        contestant.label,
        str(plan.connections),
        f"{rate_per_s:.0f}",
        f"{median(result.p50_us for result in contestant.results):.0f}",
        f"{median(result.p99_us for result in contestant.results):.0f}",
        f"{rate_per_s * plan.size_bytes / 1e6:.1f}",
        f"{median(result.cpu_us_per_operation for result in contestant.results):.1f}",
        f"{median(result.busy for result in contestant.results):.0%}",
    ]


def demo_text(contestants: Sequence[Contestant], plan: LoadPlan, rounds: int) -> str:
    """What is printed at the end."""
    lines = [
        one_line(describe_environment()),
        "TCP proxy written with asyncio protocols: load client -> proxy -> echo server",
        (
            f"{tables.size(plan.size_bytes)} requests, {plan.connections} connections, every byte "
            f"compared; medians of {rounds} interleaved rounds of {plan.duration_s:g} s"
        ),
        "",
        *(tables.loop_line(contestant.facts) for contestant in contestants),
        "",
        tables.aligned(HEADER, [row(contestant, plan) for contestant in contestants]),
    ]
    return "\n".join(lines)


def parser() -> argparse.ArgumentParser:
    options = parser_of("bench.demo", __doc__)
    add = options.add_argument
    add("--loops", default="uringloop-auto,asyncio", help="default uringloop-auto,asyncio")
    add("--connections", type=positive, default=50)
    add("--size", type=positive, default=1024, help="bytes of a request and of its answer")
    add("--rounds", type=positive, default=3)
    add("--seconds", type=float, default=1.0, help="measured, for each round of each loop")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    contestants = [Contestant(name.strip()) for name in options.loops.split(",")]
    plan = LoadPlan(
        connections=options.connections,
        size_bytes=options.size,
        duration_s=options.seconds,
        verify=True,
    )
    try:
        run_rounds(contestants, plan, options.rounds)
    except BenchError as error:
        print_progress(f"bench.demo: {error}")
        return 1
    except KeyboardInterrupt:
        return 130
    print(demo_text(contestants, plan, options.rounds))
    return 0


if __name__ == "__main__":
    sys.exit(main())
