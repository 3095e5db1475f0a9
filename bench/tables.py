"""Results as text: aligned for a terminal, or as Markdown for the README. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bench.environment import one_line

Row = Sequence[str]

# Heading and key of the summary. Where no loop has that figure, there is no column.
LATENCY_COLUMNS = (("p50 µs", "p50_us"), ("p99 µs", "p99_us"), ("p99.9 µs", "p99_9_us"))


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


def scenario_table(scenario: dict[str, Any]) -> tuple[Row, list[Row]]:
    """The header and the rows of one scenario, the loops that failed at the end."""
    summaries = scenario["loops"]
    has_ratio = scenario["baseline"] in summaries
    latencies = [
        (heading, key)
        for heading, key in LATENCY_COLUMNS
        if any(key in summary for summary in summaries.values())
    ]
    extras = list(dict.fromkeys(name for each in summaries.values() for name in each["extra"]))
    operation, ratio = scenario["operation"], f"vs {scenario['baseline']}"
    header = [
        *("loop", f"CPU µs/{operation}", "min - max"),
        *([ratio, "min - max"] if has_ratio else []),
        f"{plural(operation)}/s",
        *(heading for heading, _ in latencies),
        *("busy", *extras),
    ]
    keys = [key for _, key in latencies]
    rows: list[Row] = [
        _row(name, summary, keys, extras, has_ratio) for name, summary in summaries.items()
    ]
    for word in ("failed", "missing"):
        rows += [[name, word, *[""] * (len(header) - 2)] for name in scenario[word]]
    return header, rows


def plural(operation: str) -> str:
    """A unit of bytes has none."""
    if operation.endswith("iB"):
        return operation
    return f"{operation}es" if operation.endswith("s") else f"{operation}s"


def _row(
    name: str,
    summary: dict[str, Any],
    latencies: Sequence[str],
    extras: Sequence[str],
    has_ratio: bool,
) -> Row:
    cells = [name, *_spread(summary["cpu_us_per_operation"])]
    if has_ratio:
        cells += _spread(summary["cpu_ratio"])
    cells.append(f"{summary['rate_per_s']['median']:.0f}")
    cells += [_median(summary.get(key), ".0f") for key in latencies]
    cells.append(f"{summary['busy']['median']:.0%}")
    return [*cells, *(_median(summary["extra"].get(extra), ".4g") for extra in extras)]


def _spread(figure: dict[str, float]) -> list[str]:
    return [f"{figure['median']:.2f}", f"{figure['min']:.2f} - {figure['max']:.2f}"]


def _median(figure: dict[str, float] | None, form: str) -> str:
    return "" if figure is None else format(figure["median"], form)


def reasons(scenario: dict[str, Any]) -> list[str]:
    """Why loops have no figures in this scenario, a line each."""
    return [
        f"{name} {word}: {reason}"
        for word in ("failed", "missing")
        for name, reason in scenario[word].items()
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
        "the measured process and its load on a core each"
        if settings["cores"]["measured"] is not None
        else "the measured process and its load share one core"
    )
    rounds = "1 round" if settings["rounds"] == 1 else f"{settings['rounds']} interleaved rounds"
    method = (
        f"{rounds}, {placement}; medians over the rounds; CPU time of the measured process alone"
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
    for scenario in report["scenarios"]:
        table = aligned(*scenario_table(scenario))
        parts.append("\n".join([scenario["title"], table, *reasons(scenario)]))
    return "\n\n".join(parts)


def introduction_markdown(report: dict[str, Any]) -> str:
    return "\n".join(f"- {line}" for line in introduction(report).splitlines())


def report_markdown(report: dict[str, Any]) -> str:
    """The whole report, a table for each scenario."""
    parts = [introduction_markdown(report)]
    for scenario in report["scenarios"]:
        parts.append(f"**{scenario['title']}**\n\n{markdown(*scenario_table(scenario))}")
        if reasons(scenario):
            parts.append("\n".join(f"- {line}" for line in reasons(scenario)))
    return "\n\n".join(parts)


def cells_table(
    report: dict[str, Any], titles: Sequence[str], extras: Sequence[str]
) -> tuple[Row, list[Row]]:
    """The scenarios with these titles as rows, the loops as columns: CPU time of an operation,
    and in parentheses its ratio to the baseline's. Those of their other figures that are
    named have rows of their own."""
    names = [loop["name"] for loop in report["loops"]]
    rows: list[Row] = []
    for scenario in report["scenarios"]:
        if scenario["title"] in titles:
            rows.append([titled(scenario, report), *(_cell(scenario, name) for name in names)])
            rows += [_extra_row(scenario, each, names) for each in extras_of(scenario, extras)]
    return ["CPU µs per operation", *names], rows


def titled(scenario: dict[str, Any], report: dict[str, Any]) -> str:
    """With what its ratios refer to, where that is not what the report's do."""
    if scenario["baseline"] == report["settings"]["baseline"]:
        return str(scenario["title"])
    return f"{scenario['title']} ({scenario['baseline']} = 1)"


def extras_of(scenario: dict[str, Any], wanted: Sequence[str]) -> list[str]:
    """Those that some loop has."""
    summaries = scenario["loops"].values()
    return [each for each in wanted if any(each in summary["extra"] for summary in summaries)]


def _extra_row(scenario: dict[str, Any], extra: str, names: Sequence[str]) -> Row:
    summaries = (scenario["loops"].get(name, {"extra": {}}) for name in names)
    figures = [_median(summary["extra"].get(extra), ".4g") for summary in summaries]
    return [f"{scenario['title']}: {extra}", *figures]


def _cell(scenario: dict[str, Any], name: str) -> str:
    for word in ("failed", "missing"):
        if name in scenario[word]:
            return word
    summary = scenario["loops"].get(name)
    if summary is None:
        return ""
    ratio = f" ({summary['cpu_ratio']['median']:.2f})" if "cpu_ratio" in summary else ""
    return f"{summary['cpu_us_per_operation']['median']:.2f}{ratio}"
