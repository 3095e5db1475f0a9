"""The whole matrix: every scenario on every loop, in one run. `bench/run` starts it.

    python -m bench.matrix                          # a few cells, under a minute
    python -m bench.matrix --full                   # all cells, under half an hour
    python -m bench.matrix --full --only TLS        # those with TLS in their title
    python -m bench.matrix --loops uringloop,uvloop,rloop --rounds 9

Writes NAME.json, NAME.md and NAME.svg into the output folder, NAME being quick or full, and
prints the tables. No round is begun that would not end within --minutes; the first always
runs, and the report says how many did. A loop that cannot be had, or fails in a scenario, is
said so with its reason, and the others go on.

Exit status: 0 done, 1 uringloop failed somewhere or there was nothing to measure, 130
interrupted.
"""

from __future__ import annotations

import argparse
import importlib
import json
import pkgutil
import sys
from collections.abc import Sequence
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, cast

if not __package__:  # run as a file: let `import bench` find the package around it
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import bench.scenarios
from bench import chart, echo, options, runner, tables
from bench.children import ROOT, choose_cores
from bench.errors import BenchError, MissingError
from bench.loops import PROXIES
from bench.scenario import Scenario

OUTPUT = ROOT / "bench" / "results"
OWN = "uringloop"  # what the names of our own loops begin with
BASELINE = "uvloop"  # of scenarios that have none of their own
PEERS = ("rloop", "blazio", "talyn")
LOOPS = {
    "quick": ("uringloop", "uringloop-epoll", "uvloop", "asyncio", *PROXIES),
    "full": (
        *("uringloop", "uringloop-epoll", "uvloop", *PEERS, "asyncio"),
        *("c-io_uring", "c-epoll", *PROXIES),
    ),
}
ROUNDS = {"quick": 3, "full": 5}
# A little below what is promised: servers start and end, and the files are written.
MINUTES = {"quick": 0.9, "full": 28.0}


def scenarios(extent: str) -> list[Scenario]:
    """The scenarios of the echo benchmark, and of each module of bench/scenarios that has some."""
    found = echo.scenarios(extent)
    for each in pkgutil.iter_modules(bench.scenarios.__path__, "bench.scenarios."):
        module = importlib.import_module(each.name)
        if hasattr(module, "scenarios"):
            found += module.scenarios(extent)
    return found


def chosen_scenarios(extent: str, only: Sequence[str], seconds: float | None) -> list[Scenario]:
    """Those with one of these texts in the title, however it is capitalised."""
    wanted = [text.casefold() for text in only]
    found = [
        scenario
        for scenario in scenarios(extent)
        if not wanted or any(text in scenario.title.casefold() for text in wanted)
    ]
    return found if seconds is None else [lasting(scenario, seconds) for scenario in found]


def lasting(scenario: Scenario, seconds: float) -> Scenario:
    """Measuring that long a round, if it measures for a time: then `seconds` is a field."""
    if is_dataclass(scenario) and "seconds" in {field.name for field in fields(scenario)}:
        return cast(Scenario, replace(cast(Any, scenario), seconds=seconds))
    return scenario


def write_results(report: dict[str, Any], folder: Path, name: str) -> list[str]:
    """The files as JSON, Markdown and SVG. Returns what to say about them."""
    folder.mkdir(parents=True, exist_ok=True)
    data, text, picture = (folder / f"{name}.{suffix}" for suffix in ("json", "md", "svg"))
    data.write_text(json.dumps(report, indent=1) + "\n")
    text.write_text(tables.report_markdown(report) + "\n")
    written = [f"written: {data}", f"written: {text}"]
    try:
        chart.write_chart(report, picture)
    except MissingError as error:
        return [*written, f"no chart: {error}"]
    return [*written, f"written: {picture}"]


def parser() -> argparse.ArgumentParser:
    parser = options.parser_of("bench.matrix", __doc__)
    add = parser.add_argument
    extent = parser.add_mutually_exclusive_group()
    kinds: tuple[str, ...] = ("quick", "full")
    for kind, words in zip(kinds, ("a few cells (the default)", "all cells"), strict=True):
        extent.add_argument(
            f"--{kind}", dest="extent", action="store_const", const=kind, help=words
        )
    parser.set_defaults(extent="quick")
    add("--only", action="append", default=[], metavar="TEXT", help="in the title; may be repeated")
    add("--loops", type=options.names, help="by name; default: as the extent has them")
    add("--rounds", type=options.positive, help="at most; default 3, with --full 5")
    add("--seconds", type=options.positive_seconds, help="measured in each round of an echo")
    add("--minutes", type=options.positive_seconds, help="time limit; default 0.9, full 28")
    add("--baseline", help="what ratios refer to; default uvloop, of relays haproxy")
    add("--list", action="store_true", help="print the titles of the scenarios, and end")
    add("--output", type=Path, default=OUTPUT, metavar="FOLDER", help="default bench/results")
    return parser


def run(chosen: argparse.Namespace) -> int:
    asked_for = chosen_scenarios(chosen.extent, chosen.only, chosen.seconds)
    settings = runner.Settings(
        rounds=chosen.rounds or ROUNDS[chosen.extent],
        baseline=chosen.baseline or BASELINE,
        is_baseline_chosen=chosen.baseline is not None,
        cores=choose_cores(),
        limit_s=60 * (chosen.minutes or MINUTES[chosen.extent]),
    )
    loops = chosen.loops or LOOPS[chosen.extent]
    report = runner.run(loops, asked_for, settings, options.print_progress)
    print(tables.report_text(report), flush=True)
    for line in write_results(report, chosen.output, chosen.extent):
        options.print_progress(line)
    for line in runner.failures(report):
        options.print_progress(f"FAILED: {line}")
    return 1 if runner.failures(report, OWN) else 0


def main(arguments: Sequence[str] | None = None) -> int:
    chosen = parser().parse_args(arguments)
    if chosen.list:
        print(*(each.title for each in scenarios(chosen.extent)), sep="\n")
        return 0
    try:
        return run(chosen)
    except BenchError as error:
        options.print_progress(f"bench.matrix: {error}")
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
