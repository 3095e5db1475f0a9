"""The runner: its order, its arithmetic, and what becomes of a loop that fails."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from bench import runner, tables
from bench.children import Cores
from bench.errors import BenchError, MissingError
from bench.runner import Settings
from bench.scenario import Sample, Scenario
from bench.summary import summarise

NO_CORES = Cores(None, None)
LOOPS = ["asyncio", "uringloop-auto"]  # they are probed: what is measured is made up


class MadeUp:
    """A scenario whose samples come from a function of the loop and of the round."""

    operation = "thing"

    def __init__(self, title: str, sample_of: Callable[[str, int], Sample]) -> None:
        self.title = title
        self.asked: list[str] = []
        self._sample_of = sample_of

    def runs_on(self, loop: str) -> bool:
        return not loop.startswith("c-")

    def run_round(self, loop: str, cores: Cores) -> Sample:
        self.asked.append(loop)
        return self._sample_of(loop, self.asked.count(loop) - 1)


def sample_with(cpu_us_per_operation: float, **latencies: float) -> Sample:
    return Sample(1000, 2.0, cpu_us_per_operation / 1e3, **latencies)


def run(*scenarios: Scenario, rounds: int = 2, **settings: Any) -> tuple[dict[str, Any], list[str]]:
    """The report on LOOPS, and the lines of progress."""
    lines: list[str] = []
    chosen = Settings(rounds, baseline="asyncio", cores=NO_CORES, **settings)
    return runner.run(LOOPS, scenarios, chosen, lines.append), lines


def test_ratios_are_taken_within_each_round() -> None:
    """The machine was twice as slow in the second round: the ratios do not see it."""
    summary = summarise(
        {
            "mine": [sample_with(6.0), sample_with(12.0), sample_with(5.0)],
            "theirs": [sample_with(8.0), sample_with(16.0), sample_with(10.0)],
        },
        baseline="theirs",
    )
    assert summary["mine"]["cpu_ratio"] == pytest.approx({"median": 0.75, "min": 0.5, "max": 0.75})
    assert summary["mine"]["cpu_us_per_operation"] == pytest.approx(
        {"median": 6.0, "min": 5.0, "max": 12.0}
    )
    assert summary["mine"]["rate_per_s"]["median"] == 500.0


def test_other_figures_of_a_scenario_are_summed_up_by_their_names() -> None:
    """One that a round has not is left out."""
    samples = [Sample(1, 1.0, 1.0, extra={"KiB": value}) for value in (3.0, 1.0, 2.0)]
    samples[0].extra["of the first round"] = 1.0
    summary = summarise({"mine": samples}, baseline="mine")["mine"]
    assert summary["extra"] == {"KiB": {"median": 2.0, "min": 1.0, "max": 3.0}}
    assert "p50_us" not in summary


def test_the_loops_take_turns_in_every_round_of_every_scenario() -> None:
    order: list[tuple[str, str]] = []

    def noting(title: str) -> MadeUp:
        return MadeUp(title, lambda loop, _: order.append((title, loop)) or sample_with(1.0))

    run(noting("first"), noting("second"), rounds=2)
    one_round = [(title, loop) for title in ("first", "second") for loop in LOOPS]
    assert order == one_round * 2


def test_a_loop_that_fails_is_reported_with_its_reason_and_not_asked_again() -> None:
    def sample_of(loop: str, number: int) -> Sample:
        if loop == LOOPS[1] and number == 1:
            raise BenchError("a byte was lost")
        return sample_with(2.0)

    failing, faultless = (
        MadeUp("failing", sample_of),
        MadeUp("faultless", lambda *_: sample_with(2)),
    )
    report, lines = run(failing, faultless, rounds=3)
    first, second = report["scenarios"]
    assert first["failed"] == {LOOPS[1]: "a byte was lost"}
    assert list(first["loops"]) == [LOOPS[0]] and list(second["loops"]) == LOOPS
    assert failing.asked.count(LOOPS[1]) == 2
    assert [line for line in lines if "FAILED: a byte was lost" in line]
    assert runner.failures(report) == [f"failing: {LOOPS[1]}: a byte was lost"]
    assert runner.failures(report, "uvloop") == []


def test_what_cannot_be_had_is_missing_and_no_failure() -> None:
    def sample_of(loop: str, number: int) -> Sample:
        raise MissingError("no such program")

    report, _ = run(MadeUp("impossible", sample_of))
    (scenario,) = report["scenarios"]
    assert scenario["missing"] == dict.fromkeys(LOOPS, "no such program")
    assert scenario["failed"] == {} and runner.failures(report) == []
    assert "no such program" in tables.report_text(report)


def test_a_round_in_which_nothing_was_done_is_a_failure() -> None:
    report, _ = run(MadeUp("idle", lambda *_: Sample(0, 1.0, 1.0)))
    (scenario,) = report["scenarios"]
    assert scenario["failed"] == dict.fromkeys(LOOPS, "nothing was done while measuring")


def test_only_loops_that_a_scenario_runs_on_are_asked() -> None:
    scenario = MadeUp("not in C", lambda *_: sample_with(1.0))
    settings = Settings(1, baseline="asyncio", cores=NO_CORES)
    report = runner.run(["asyncio", "c-epoll"], [scenario], settings, lambda line: None)
    assert [loop["name"] for loop in report["loops"]] == ["asyncio", "c-epoll"]
    assert scenario.asked == ["asyncio"]


def test_no_round_is_begun_that_would_not_end_within_the_limit() -> None:
    def sample_of(loop: str, number: int) -> Sample:
        time.sleep(0.02)  # what a round takes is the point
        return sample_with(1.0)

    scenario = MadeUp("slow", sample_of)
    report, lines = run(scenario, rounds=1000, limit_s=0.3)
    rounds = report["settings"]["rounds"]
    assert 1 <= rounds <= 0.3 / 0.04
    assert scenario.asked == LOOPS * rounds
    assert all("left" in line for line in lines)


def test_the_first_round_runs_whatever_the_limit() -> None:
    report, _ = run(MadeUp("late", lambda *_: sample_with(1.0)), rounds=5, limit_s=1e-9)
    assert report["settings"]["rounds"] == 1


def test_tables_have_the_columns_that_a_scenario_fills() -> None:
    with_latency = MadeUp("a", lambda *_: sample_with(1.0, p50_us=5.0, p99_us=6.0, p99_9_us=7.0))
    with_extra = MadeUp("b", lambda *_: Sample(1, 1.0, 1.0, extra={"KiB each": 1.5}))
    report, _ = run(with_latency, with_extra)
    headers = [tables.scenario_table(scenario)[0] for scenario in report["scenarios"]]
    base = ["loop", "CPU µs/thing", "min - max", "vs asyncio", "min - max", "things/s"]
    assert headers[0] == [*base, "p50 µs", "p99 µs", "p99.9 µs", "busy"]
    assert headers[1] == [*base, "busy", "KiB each"]


def test_every_row_of_a_table_has_all_columns() -> None:
    def sample_of(loop: str, number: int) -> Sample:
        if loop == LOOPS[1]:
            raise BenchError("crashed")
        return sample_with(1.0, p50_us=5.0)

    report, _ = run(MadeUp("a", sample_of))
    header, rows = tables.scenario_table(report["scenarios"][0])
    assert [len(row) for row in rows] == [len(header)] * 2
    assert rows[1][:2] == [LOOPS[1], "failed"]


def test_cells_of_a_loop_are_a_column_and_named_extras_a_row() -> None:
    def sample_of(loop: str, number: int) -> Sample:
        if loop == LOOPS[1]:
            raise BenchError("crashed")
        return Sample(1000, 1.0, 0.004, extra={"KiB": 1.5, "of no interest": 2.0})

    report, _ = run(MadeUp("a", sample_of), MadeUp("b", lambda *_: sample_with(2.0)))
    header, rows = tables.cells_table(report, ["a", "b"], ["KiB"])
    assert header == ["CPU µs per operation", *LOOPS]
    assert rows == [
        ["a", "4.00 (1.00)", "failed"],
        ["a: KiB", "1.5", ""],
        ["b", "2.00 (1.00)", "2.00 (1.00)"],
    ]


class WithBaseline(MadeUp):
    """A scenario whose ratios refer to something of its own."""

    baseline = LOOPS[1]


@pytest.mark.parametrize(
    ("is_chosen", "loops", "expected"),
    [
        (False, LOOPS, LOOPS[1]),
        (True, LOOPS, LOOPS[0]),
        (False, LOOPS[:1], LOOPS[0]),
    ],
    ids=["its own", "the user chose another", "its own does not run"],
)
def test_a_scenario_may_have_a_baseline_of_its_own(
    is_chosen: bool, loops: list[str], expected: str
) -> None:
    scenario = WithBaseline("a", lambda *_: sample_with(1.0))
    settings = Settings(1, LOOPS[0], NO_CORES, is_baseline_chosen=is_chosen)
    report = runner.run(loops, [scenario], settings, lambda line: None)
    assert report["scenarios"][0]["baseline"] == expected
    _, rows = tables.cells_table(report, ["a"], [])
    suffix = "" if expected == LOOPS[0] else f" ({expected} = 1)"
    assert rows[0][0] == f"a{suffix}"


def test_operations_have_their_plural() -> None:
    words = {"message": "messages", "process": "processes", "MiB": "MiB"}
    assert {word: tables.plural(word) for word in words} == words
