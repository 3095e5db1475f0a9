"""The report as a picture: bars of CPU time as a share of the baseline's, grouped by cell."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench import tables
from bench.environment import one_line
from bench.errors import MissingError

WIDTH_INCHES = 10.0
BAR_INCHES = 0.09
GAP_BARS = 1.5  # between two cells
EDGE_INCHES = 1.2
SHOWN_MAX = 3.0  # a longer bar is cut, and its value written at its end


def write_chart(report: dict[str, Any], file: Path) -> None:
    """An SVG, or whatever the file's suffix says.

    raises      MissingError: matplotlib is not installed, or the baseline ran nowhere.
    """
    try:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot
    except ImportError as error:
        raise MissingError(f"the chart needs matplotlib: {error}") from error
    cells = [each for each in report["scenarios"] if each["baseline"] in each["loops"]]
    if not cells:
        raise MissingError("the loop that ratios refer to has no figures")
    matplotlib.rcParams["svg.hashsalt"] = "uringloop"  # the same figures give the same file
    names = [loop["name"] for loop in report["loops"]]
    height = EDGE_INCHES + len(cells) * (len(names) + GAP_BARS) * BAR_INCHES
    figure, axes = pyplot.subplots(figsize=(WIDTH_INCHES, height), layout="constrained")
    for number, name in enumerate(names):
        _draw_loop(axes, cells, name, number, len(names))
    _label(axes, cells, names, report)
    figure.savefig(file, metadata={"Date": None} if file.suffix == ".svg" else None)
    pyplot.close(figure)


def ratios_of(cells: list[dict[str, Any]], name: str) -> list[tuple[int, float]]:
    """(number of the cell, CPU time as a share of the baseline's), where the loop has one."""
    return [
        (number, cell["loops"][name]["cpu_ratio"]["median"])
        for number, cell in enumerate(cells)
        if name in cell["loops"]
    ]


def _draw_loop(axes: Any, cells: list[dict[str, Any]], name: str, number: int, loops: int) -> None:
    ratios = ratios_of(cells, name)
    thickness = 1 / (loops + GAP_BARS)
    places = [cell + number * thickness for cell, _ in ratios]
    widths = [min(ratio, SHOWN_MAX) for _, ratio in ratios]
    colour = f"C{number}"  # by its place, also where it has no bar
    bars = axes.barh(places, widths, thickness, align="edge", label=name, color=colour)
    words = [f"{ratio:.2f}" for _, ratio in ratios]
    axes.bar_label(bars, words, fontsize=5, padding=2)


def _label(
    axes: Any, cells: list[dict[str, Any]], names: list[str], report: dict[str, Any]
) -> None:
    middle = len(names) / (len(names) + GAP_BARS) / 2
    titles = [tables.titled(cell, report) for cell in cells]
    axes.set_yticks([number + middle for number in range(len(cells))], titles, fontsize=7)
    axes.set_ylim(len(cells), -middle / 4)
    axes.set_xlim(0, SHOWN_MAX * 1.08)
    axes.axvline(1.0, color="black", linewidth=0.6, zorder=0)
    baseline = report["settings"]["baseline"]
    axes.set_xlabel(f"CPU time of an operation, {baseline} = 1; less is better")
    axes.set_title(one_line(report["environment"]), fontsize=7)
    axes.figure.legend(loc="outside upper center", ncols=len(names), fontsize=7)
