"""From rounds to figures: medians with their spread, and ratios paired round by round.

Pure. A ratio is taken within each round, where both loops met the same machine, and then
summarised; a ratio of two medians would compare minutes that had different weather.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from bench.load import LoadResult

FIGURES = ("cpu_us_per_message", "rate_per_s", "p50_us", "p99_us", "p99_9_us", "busy")

Figures = dict[str, dict[str, float]]
Rounds = Mapping[str, Sequence[LoadResult]]  # by loop; round i of each ran side by side


@dataclass(frozen=True)
class Spread:
    """The median of some rounds, and how far they lie apart."""

    median: float
    min: float
    max: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(median(values), min(values), max(values))


def summarise(rounds: Rounds, baseline: str) -> dict[str, dict[str, Any]]:
    """By loop: its rounds, its figures, and its CPU time as a share of the baseline's.

    The key `cpu_ratio` is missing where the baseline did not run.
    """
    return {name: _summary_of(results, rounds.get(baseline)) for name, results in rounds.items()}


def _summary_of(
    results: Sequence[LoadResult], baseline: Sequence[LoadResult] | None
) -> dict[str, Any]:
    summary: dict[str, Any] = {"rounds": [_round(result) for result in results]}
    for figure in FIGURES:
        summary[figure] = asdict(Spread.of([getattr(result, figure) for result in results]))
    if baseline:
        summary["cpu_ratio"] = asdict(Spread.of(_ratios(results, baseline)))
    return summary


def _round(result: LoadResult) -> dict[str, float]:
    return asdict(result) | {
        "rate_per_s": result.rate_per_s,
        "cpu_us_per_message": result.cpu_us_per_message,
        "busy": result.busy,
    }


def _ratios(results: Sequence[LoadResult], baseline: Sequence[LoadResult]) -> list[float]:
    return [
        mine.cpu_us_per_message / theirs.cpu_us_per_message
        for mine, theirs in zip(results, baseline, strict=True)
    ]
