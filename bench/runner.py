"""Runs scenarios on loops, and tells what came of it; knows no scenario from inside.

A round is every scenario on every loop once, the loops of a scenario one after the other:
what is compared meets the same minute of the machine, and each figure comes from rounds
that are spread over the whole run. So a run may also end early, after any round, when
another one would not fit into its time limit.

A loop that fails in a scenario is not asked again there, and has no figures in it, only the
reason; everything else goes on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from bench.children import Cores
from bench.environment import describe_environment
from bench.errors import BenchError, MissingError
from bench.probe import probe_all
from bench.scenario import Sample, Scenario
from bench.summary import summarise

FORMAT = 2

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Settings:
    """What holds for the whole run."""

    rounds: int
    baseline: str
    cores: Cores
    limit_s: float | None = None  # no round is begun that would probably end later
    is_baseline_chosen: bool = False  # also for scenarios that have one of their own


@dataclass
class Entry:
    """One loop in one scenario: its rounds, or why it has none."""

    loop: str
    samples: list[Sample] = field(default_factory=list)
    failure: str = ""
    lack: str = ""

    @property
    def is_running(self) -> bool:
        return not self.failure and not self.lack


@dataclass
class Table:
    """One scenario and its loops."""

    scenario: Scenario
    entries: list[Entry]

    def running(self) -> list[Entry]:
        return [entry for entry in self.entries if entry.is_running]


class Run:
    """The tables of a run while they are filled."""

    def __init__(
        self,
        names: Sequence[str],
        scenarios: Sequence[Scenario],
        settings: Settings,
        progress: Progress,
    ) -> None:
        self.tables = [
            Table(scenario, [Entry(name) for name in names if scenario.runs_on(name)])
            for scenario in scenarios
        ]
        self.rounds_done = 0
        self._settings = settings
        self._progress = progress
        self._measured = 0
        self._started_s = time.monotonic()

    def run(self) -> None:
        """All rounds, or as many as the time limit has room for; the first in any case."""
        while self.rounds_done < self._settings.rounds:
            round_started_s = time.monotonic()
            for table, entry in list(self._running()):
                self._measure(table.scenario, entry)
            self.rounds_done += 1
            ends_s = self._elapsed_s() + time.monotonic() - round_started_s
            if self._settings.limit_s is not None and ends_s > self._settings.limit_s:
                return

    def _running(self) -> Iterator[tuple[Table, Entry]]:
        return ((table, entry) for table in self.tables for entry in table.running())

    def _elapsed_s(self) -> float:
        return time.monotonic() - self._started_s

    def _measure(self, scenario: Scenario, entry: Entry) -> None:
        try:
            sample = _checked(scenario.run_round(entry.loop, self._settings.cores))
        except MissingError as error:
            entry.lack = str(error)
            outcome = f"missing: {entry.lack}"
        except BenchError as error:
            entry.failure = str(error)
            outcome = f"FAILED: {entry.failure}"
        else:
            entry.samples.append(sample)
            outcome = f"{sample.cpu_us_per_operation:.2f} µs/{scenario.operation}"
        self._measured += 1
        self._progress(
            f"round {self.rounds_done + 1}/{self._settings.rounds}  {self._time_left():>12}"
            f"  {scenario.title}  {entry.loop}  {outcome}"
        )

    def _time_left(self) -> str:
        """By what a measurement took on the average. Rough, for scenarios differ."""
        to_come = sum(
            max(self._settings.rounds - len(entry.samples), 0) for _, entry in self._running()
        )
        left_s = self._elapsed_s() / self._measured * to_come
        if self._settings.limit_s is not None:
            left_s = min(left_s, max(self._settings.limit_s - self._elapsed_s(), 0.0))
        return f"{left_s / 60:.0f} min left" if left_s >= 90 else f"{left_s:.0f} s left"


def _checked(sample: Sample) -> Sample:
    if sample.operations < 1 or sample.measured_cpu_s <= 0:
        raise BenchError("nothing was done while measuring")
    return sample


def run(
    names: Sequence[str], scenarios: Sequence[Scenario], settings: Settings, progress: Progress
) -> dict[str, Any]:
    """The whole report, as it is written to a JSON file.

    raises      BenchError: there is nothing to measure.
    """
    environment = describe_environment()
    found, missing = probe_all(names)
    for entry in missing:
        progress(f"missing: {entry['reason']}")
    if not found:
        raise BenchError("none of the loops named runs here")
    if not scenarios:
        raise BenchError("there is no such scenario")
    measuring = Run([loop["name"] for loop in found], scenarios, settings, progress)
    measuring.run()
    return {
        "format": FORMAT,
        "environment": environment,
        "settings": {**asdict(settings), "rounds": measuring.rounds_done},
        "loops": found,
        "missing": missing,
        "scenarios": [_report_of(table, settings) for table in measuring.tables],
    }


def _report_of(table: Table, settings: Settings) -> dict[str, Any]:
    rounds = {entry.loop: entry.samples for entry in table.running()}
    own = getattr(table.scenario, "baseline", "")
    baseline = own if own in rounds and not settings.is_baseline_chosen else settings.baseline
    return {
        "title": table.scenario.title,
        "operation": table.scenario.operation,
        "baseline": baseline,
        "loops": summarise(rounds, baseline),
        "failed": {entry.loop: entry.failure for entry in table.entries if entry.failure},
        "missing": {entry.loop: entry.lack for entry in table.entries if entry.lack},
    }


def failures(report: dict[str, Any], of_loops: str = "") -> list[str]:
    """Which loops failed where, of those whose names begin so."""
    return [
        f"{scenario['title']}: {loop}: {reason}"
        for scenario in report["scenarios"]
        for loop, reason in scenario["failed"].items()
        if loop.startswith(of_loops)
    ]
