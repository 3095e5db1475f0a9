"""From rounds to figures: medians with their spread, and ratios paired round by round.

Pure. A ratio is taken within each round, where both loops met the same machine, and then
summarised; a ratio of two medians would compare minutes that had different weather.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from bench.scenario import Sample

FIGURES = ("cpu_us_per_operation", "rate_per_s", "busy")
LATENCIES = ("p50_us", "p99_us", "p99_9_us")

Rounds = Mapping[str, Sequence[Sample]]  # by loop; round i of each ran side by side


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

    The key `cpu_ratio` is missing where the baseline did not run, a latency where there is
    none.
    """
    return {name: _summary_of(samples, rounds.get(baseline)) for name, samples in rounds.items()}


def _summary_of(samples: Sequence[Sample], baseline: Sequence[Sample] | None) -> dict[str, Any]:
    summary: dict[str, Any] = {"rounds": [_round(sample) for sample in samples]}
    for figure in (*FIGURES, *LATENCIES):
        values = [getattr(sample, figure) for sample in samples]
        if None not in values:
            summary[figure] = asdict(Spread.of(values))
    summary["extra"] = {
        name: asdict(Spread.of([sample.extra[name] for sample in samples]))
        for name in samples[0].extra
        if all(name in sample.extra for sample in samples)
    }
    if baseline:
        summary["cpu_ratio"] = asdict(Spread.of(_ratios(samples, baseline)))
    return summary


def _round(sample: Sample) -> dict[str, Any]:
    return asdict(sample) | {figure: getattr(sample, figure) for figure in FIGURES}


def _ratios(samples: Sequence[Sample], baseline: Sequence[Sample]) -> list[float]:
    return [
        mine.cpu_us_per_operation / theirs.cpu_us_per_operation
        for mine, theirs in zip(samples, baseline, strict=True)
    ]
