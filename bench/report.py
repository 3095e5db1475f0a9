"""Writes a run of the matrix into the READMEs, so that their tables are never typed.

    python -m bench.report bench/results/full.json

A table of the chosen cells goes into the top README, every table into bench/README.md, each
between its two marker lines and nowhere else; beside the latter, a chart of all cells and one of
the few that show most.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench import tables
from bench.chart import write_chart
from bench.children import ROOT
from bench.errors import BenchError
from bench.runner import FORMAT

BEGIN = "<!-- figures: begin (written by python -m bench.report) -->"
END = "<!-- figures: end -->"
CHART = "figures.svg"
SMALL_CHART = "chosen.svg"

# The cells of the top README, by title; those that a run has not are left out.
CHOSEN = (
    "echo protocol, TCP, 1 KiB, 1 connection",
    "echo protocol, TCP, 1 KiB, 10 connections",
    "echo protocol, TCP, 1 KiB, 100 connections",
    "echo protocol, TCP, 100 KiB, 10 connections",
    "echo streams, TCP, 1 KiB, 10 connections",
    "echo sock, TCP, 1 KiB, 10 connections",
    "echo protocol, TLS, 1 KiB, 10 connections",
    "echo protocol, TLS, 100 KiB, 10 connections",
    "echo protocol, TCP, 1 KiB, 1 connection, one core",
    "echo protocol, TCP, 1 KiB, 10 connections, one core",
    "echo protocol, TCP, 1 KiB, 100 connections, one core",
    "echo streams, TCP, 1 KiB, 10 connections, one core",
    "echo UDP, 1 KiB, 10 connections",
    "connect, 64 B echo, close, protocol, 10 at once",
    "HTTP hello, uvicorn with httptools, 50 connections",
    "HTTP hello, aiohttp, 50 connections",
    "10000 idle connections, 10 busy, echo protocol",
    "call_soon chain",
    "call_later and cancel",
    "sleep(0)",
    "gather of 100",
    "subprocess spawn",
    "relay, 1 KiB round trip, 20 connections",
    "relay, 100 KiB round trip, 20 connections",
    "relay, 1 MiB one way, 4 connections",
    "relay, 1 KiB round trip, 20 connections, one core",
    "relay, connect, 1 KiB round trip, close, 10 at once",
    "relay, 2000 idle pairs, 20 busy",
)
# What the chart of the top README shows, and of which loops.
CHARTED = (
    "echo protocol, TCP, 1 KiB, 1 connection, one core",
    "echo protocol, TCP, 1 KiB, 10 connections, one core",
    "echo protocol, TCP, 1 KiB, 100 connections, one core",
    "echo protocol, TCP, 100 KiB, 10 connections, one core",
    "echo streams, TCP, 1 KiB, 10 connections, one core",
    "echo sock, TCP, 1 KiB, 10 connections",
    "echo protocol, TLS, 1 KiB, 10 connections",
    "echo UDP, 1 KiB, 10 connections",
    "connect, 64 B echo, close, protocol, 10 at once",
    "HTTP hello, uvicorn with httptools, 50 connections",
    "HTTP hello, aiohttp, 50 connections",
)
CHARTED_LOOPS = ("uringloop", "uringloop-epoll", "uvloop", "blazio", "asyncio")
CHOSEN_EXTRAS = ("KiB per connection", "KiB per pair")


def with_figures(readme: str, figures: str) -> str:
    """The text with `figures` between the markers."""
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise BenchError(f"the lines {BEGIN} and {END} are not both there")
    return f"{before}{BEGIN}\n\n{figures}\n\n{END}{after}"


def chosen_figures(report: dict[str, Any]) -> str:
    """For the top README: a row for each chosen cell, a column for each loop."""
    note = f"In parentheses: the ratio to {report['settings']['baseline']}, taken round by round."
    table = tables.markdown(*tables.cells_table(report, CHOSEN, CHOSEN_EXTRAS))
    return f"{tables.introduction_markdown(report)}\n\n{table}\n\n{note}"


def all_figures(report: dict[str, Any]) -> str:
    """For bench/README.md: the chart and every table."""
    return f"![CPU time by cell]({CHART})\n\n{tables.report_markdown(report)}"


def charted(report: dict[str, Any]) -> dict[str, Any]:
    """The part of the report that the small chart shows."""
    return {
        **report,
        "scenarios": [each for each in report["scenarios"] if each["title"] in CHARTED],
        "loops": [each for each in report["loops"] if each["name"] in CHARTED_LOOPS],
    }


def write_report(report: dict[str, Any], root: Path) -> None:
    """Everything, or nothing where a marker is missing."""
    if report["format"] != FORMAT:
        raise BenchError(f"the results have format {report['format']}, not {FORMAT}")
    top, own = root / "README.md", root / "bench" / "README.md"
    texts = {
        top: with_figures(top.read_text(), chosen_figures(report)),
        own: with_figures(own.read_text(), all_figures(report)),
    }
    write_chart(report, own.with_name(CHART))
    if charted(report)["scenarios"]:  # else the run had other cells
        write_chart(charted(report), own.with_name(SMALL_CHART))
    for file, text in texts.items():
        file.write_text(text)


def main(arguments: Sequence[str] | None = None) -> int:
    options = argparse.ArgumentParser("bench.report", description=(__doc__ or "").splitlines()[0])
    options.add_argument("results", type=Path)
    options.add_argument("--root", type=Path, default=ROOT, help="the folder of the READMEs")
    chosen = options.parse_args(arguments)
    try:
        write_report(json.loads(chosen.results.read_text()), chosen.root)
    except BenchError as error:
        print(f"bench.report: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
