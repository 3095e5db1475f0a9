"""Results as text: aligned for a terminal, or as Markdown for the README. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bench.environment import one_line

Row = Sequence[str]

COLUMNS = (
    "loop",
    "CPU µs/msg",
    "min - max",
    "vs {baseline}",
    "min - max",
    "msg/s",
    "p50 µs",
    "p99 µs",
    "p99.9 µs",
    "busy",
)


def aligned(header: Row, rows: Sequence[Row]) -> str:
    """Columns padded to their widest cell; the first to the left, figures to the right."""
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    lines = []
    for row in (header, ["-" * width for width in widths], *rows):
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def markdown(header: Row, rows: Sequence[Row]) -> str:
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def case_title(case: dict[str, Any]) -> str:
    pipeline = f", pipeline {case['pipeline']}" if case["pipeline"] > 1 else ""
    return (
        f"{case['mode']}, {case['family']}, {size(case['size_bytes'])}, "
        f"{case['connections']} connections{pipeline}"
    )


def case_table(case: dict[str, Any]) -> tuple[Row, list[Row]]:
    """The header and the rows of one case of the echo benchmark."""
    header = [column.format(baseline=case["baseline"]) for column in COLUMNS]
    return header, [_row(name, summary) for name, summary in case["loops"].items()]


def _row(name: str, summary: dict[str, Any]) -> Row:
    cpu, ratio = summary["cpu_us_per_message"], summary.get("cpu_ratio")
    return [
        name,
        f"{cpu['median']:.2f}",
        f"{cpu['min']:.2f} - {cpu['max']:.2f}",
        f"{ratio['median']:.2f}" if ratio else "",
        f"{ratio['min']:.2f} - {ratio['max']:.2f}" if ratio else "",
        f"{summary['rate_per_s']['median']:.0f}",
        f"{summary['p50_us']['median']:.0f}",
        f"{summary['p99_us']['median']:.0f}",
        f"{summary['p99_9_us']['median']:.0f}",
        f"{summary['busy']['median']:.0%}",
    ]


def size(size_bytes: int) -> str:
    for unit, unit_bytes in (("MiB", 1024 * 1024), ("KiB", 1024)):
        if size_bytes >= unit_bytes and size_bytes % unit_bytes == 0:
            return f"{size_bytes // unit_bytes} {unit}"
    return f"{size_bytes} B"


def introduction(report: dict[str, Any]) -> str:
    """What was measured, where and when: the lines above every table."""
    settings = report["settings"]
    placement = (
        "server and load on a core each"
        if settings["server_core"] is not None
        else "server and load share one core"
    )
    method = (
        f"{settings['rounds']} interleaved rounds of {settings['seconds']:g} s, {placement}; "
        "medians over the rounds; CPU time of the server process alone"
    )
    lines = [one_line(report["environment"]), method]
    lines += [loop_line(loop) for loop in report["loops"]]
    lines += [f"missing: {entry['reason']}" for entry in report["missing"]]
    return "\n".join(lines)


def loop_line(loop: dict[str, str]) -> str:
    version = f" {loop['version']}" if loop["version"] else ""
    backend = f" ({loop['backend']}: {loop['backend_reason']})" if loop["backend"] else ""
    return f"{loop['name']}{version}{backend}"


def report_text(report: dict[str, Any]) -> str:
    """The whole report for a terminal."""
    parts = [introduction(report)]
    for case in report["cases"]:
        parts.append(f"{case_title(case)}\n{aligned(*case_table(case))}")
    return "\n\n".join(parts)


def report_markdown(report: dict[str, Any]) -> str:
    """The whole report for the README."""
    parts = ["\n".join(f"- {line}" for line in introduction(report).splitlines())]
    for case in report["cases"]:
        parts.append(f"**{case_title(case)}**\n\n{markdown(*case_table(case))}")
    return "\n\n".join(parts)
