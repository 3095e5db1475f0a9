"""Echo benchmark over any number of event loops, interleaved in one run.

    python -m bench.echo --loops uringloop,uvloop,asyncio --modes protocol,streams
    python -m bench.echo --loops uringloop,uvloop,c-io_uring --connections 10,100 --json FILE

Server and load are processes of their own, on a core each where there are two. The
figure that counts is the server's CPU time per message: rate and latency on a loopback
also measure the load. Rounds go A B C A B C, each with a fresh server, so that slow
spells of the machine and luck in memory layout fall on all loops alike. The bytes are
compared in every run unless --no-verify is given.

Exit status: 0 done, 1 nothing to measure or a server failed, 130 interrupted.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

if not __package__:  # run as a file: let `import bench` find the package around it
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from bench import loops, native, tables
from bench.children import Child, Cores, choose_cores, python_command
from bench.environment import describe_environment
from bench.errors import BenchError, MissingError
from bench.load import LoadPlan, LoadResult, run_load
from bench.server import MODES
from bench.summary import summarise

FORMAT = 1
DEFAULT_LOOPS = "uringloop,uringloop-epoll,uvloop,asyncio"
FAMILIES = ("tcp", "unix")

# Has a family of its own, whatever --families says; the C servers have none.
DATAGRAM = "datagram"

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Case:
    """One table: what is served, and under which load."""

    mode: str
    family: str
    plan: LoadPlan


@dataclass(frozen=True)
class Settings:
    """What holds for the whole run."""

    rounds: int
    seconds: float
    baseline: str
    server_core: int | None
    load_core: int | None


def server_command(name: str, mode: str, address: Sequence[str]) -> list[str]:
    if name in loops.NATIVE_SERVERS:
        return [str(native.built(loops.NATIVE_SERVERS[name])), *address]
    return python_command("bench.server", name, mode, *address)


def probe(name: str) -> dict[str, str]:
    """What a loop says of itself, asked in a process of its own.

    raises      MissingError: not installed, or it does not run here; its own words.
    """
    if name in loops.NATIVE_SERVERS:
        return _probe_native(name)
    with Child(python_command("bench.server", name, "probe")) as child:
        answer = child.read_answer()
    if "missing" in answer:
        raise MissingError(answer["missing"])
    facts: dict[str, str] = answer["loop"]
    return facts


def _probe_native(name: str) -> dict[str, str]:
    try:
        with Child(server_command(name, "", ["tcp", "127.0.0.1", "0"])) as child:
            child.read_answer()
    except BenchError as error:
        raise MissingError(f"{name}: {error}") from error
    return {"name": name, "version": "", "backend": "", "backend_reason": ""}


def probe_all(names: Sequence[str]) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """The loops that run here, and the missing ones with their reasons."""
    found, missing = [], []
    for name in names:
        try:
            found.append(probe(name))
        except MissingError as error:
            missing.append({"name": name, "reason": str(error)})
    return found, missing


def run_round(name: str, case: Case, cores: Cores) -> LoadResult:
    """One loop once: a fresh server, the load on it, and the server's end."""
    with tempfile.TemporaryDirectory(prefix="echo-") as directory:
        address = [case.family, "127.0.0.1", "0"]
        if case.family == "unix":
            address = ["unix", str(Path(directory) / "echo.sock")]
        with Child(server_command(name, case.mode, address), cores.measured) as server:
            answer = server.read_answer()
            return run_load(answer["address"], case.plan, server.pid, cores.load)


def run_case(
    case: Case, names: Sequence[str], settings: Settings, progress: Progress
) -> dict[str, Any]:
    """All rounds of one case, interleaved: A B C A B C."""
    title = {"mode": case.mode, "family": case.family, **asdict(case.plan)}
    progress(tables.case_title(title))
    if case.mode == DATAGRAM:
        names = [name for name in names if name not in loops.NATIVE_SERVERS]
    cores = Cores(settings.server_core, settings.load_core)
    rounds: dict[str, list[LoadResult]] = {name: [] for name in names}
    for number, name in itertools.product(range(settings.rounds), names):
        try:
            result = run_round(name, case, cores)
        except BenchError as error:
            raise BenchError(f"{name}, {tables.case_title(title)}: {error}") from error
        rounds[name].append(result)
        progress(
            f"  round {number + 1}/{settings.rounds}  {name:<16}"
            f"{result.cpu_us_per_message:8.2f} µs/msg  {result.rate_per_s:9.0f} msg/s"
        )
    baseline = settings.baseline
    return {**title, "baseline": baseline, "loops": summarise(rounds, baseline)}


def run(
    names: Sequence[str], cases: Sequence[Case], settings: Settings, progress: Progress
) -> dict[str, Any]:
    """The whole report, as it is written to the JSON file."""
    environment = describe_environment()
    found, missing = probe_all(names)
    for entry in missing:
        progress(f"missing: {entry['reason']}")
    if not found:
        raise BenchError("none of the loops named runs here")
    native.built("load")
    present = [loop["name"] for loop in found]
    results = [run_case(case, present, settings, progress) for case in cases]
    return {
        "format": FORMAT,
        "environment": environment,
        "settings": asdict(settings),
        "loops": found,
        "missing": missing,
        "cases": results,
    }


def cases_of(options: argparse.Namespace) -> list[Case]:
    return [
        Case(
            mode,
            family,
            LoadPlan(
                connections=connections,
                size_bytes=size_bytes,
                pipeline=options.pipeline,
                warmup_s=options.warmup,
                duration_s=options.seconds,
                verify=options.verify,
            ),
        )
        for mode in options.modes
        for family, size_bytes, connections in itertools.product(
            families_of(mode, options.families), options.sizes, options.connections
        )
    ]


def families_of(mode: str, families: Sequence[str]) -> Sequence[str]:
    return ("udp",) if mode == DATAGRAM else families


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _names_among(known: Sequence[str]) -> Callable[[str], list[str]]:
    def parse(text: str) -> list[str]:
        for name in _names(text):
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name} is none of {', '.join(known)}")
        return _names(text)

    return parse


def positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


def _numbers(text: str) -> list[int]:
    return [positive(number) for number in _names(text)]


def parser() -> argparse.ArgumentParser:
    summary, _, rest = (__doc__ or "").partition("\n")
    options = argparse.ArgumentParser(
        "bench.echo",
        description=summary,
        epilog=rest,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = options.add_argument
    add("--loops", type=_names, default=_names(DEFAULT_LOOPS), help=f"default {DEFAULT_LOOPS}")
    add("--modes", type=_names_among(list(MODES)), default=["protocol"], help=", ".join(MODES))
    add("--families", type=_names_among(FAMILIES), default=["tcp"], help=", ".join(FAMILIES))
    add("--sizes", type=_numbers, default=[1024], help="message sizes in bytes")
    add("--connections", type=_numbers, default=[10], help="numbers of connections")
    add("--pipeline", type=positive, default=1, help="messages under way on a connection")
    add("--rounds", type=positive, default=5)
    add("--seconds", type=float, default=1.0, help="measured, for each round of each loop")
    add("--warmup", type=float, default=0.3, help="seconds before measuring")
    add("--baseline", default="uvloop", help="the loop that ratios refer to")
    add("--no-verify", dest="verify", action="store_false", help="do not compare the bytes")
    add("--json", type=Path, metavar="FILE", help="write the full report there")
    return options


def print_progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    cores = choose_cores()
    settings = Settings(
        rounds=options.rounds,
        seconds=options.seconds,
        baseline=options.baseline,
        server_core=cores.measured,
        load_core=cores.load,
    )
    try:
        report = run(options.loops, cases_of(options), settings, print_progress)
    except BenchError as error:
        print_progress(f"bench.echo: {error}")
        return 1
    except KeyboardInterrupt:
        return 130
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    print(tables.report_text(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
