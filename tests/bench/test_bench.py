"""The echo benchmark as a whole, its arithmetic, and how its results are written down."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench import echo, loops, report, tables
from bench.environment import cpu_model
from bench.errors import BenchError, MissingError
from bench.load import LoadResult
from bench.server import MODES
from bench.summary import summarise

ROOT = Path(echo.__file__).resolve().parent.parent
QUICK = ["--rounds", "2", "--seconds", "0.15", "--warmup", "0.05"]
RUN_LIMIT_S = 60


def run_echo(tmp_path: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
    """The exit status of a short run, and the report that it wrote."""
    file = tmp_path / "echo.json"
    status = echo.main([*QUICK, "--json", str(file), *arguments])
    return status, json.loads(file.read_text())


@pytest.mark.parametrize("family", echo.FAMILIES)
@pytest.mark.parametrize("mode", [mode for mode in MODES if mode != echo.DATAGRAM])
def test_a_run_on_asyncio_reports_plausible_counts(tmp_path: Path, mode: str, family: str) -> None:
    """Four connections cannot wait more than four windows together, but for what each began
    before the window. Half of the messages waited the median or longer, which bounds the
    median by their number: at any speed of the machine, and only if both are right."""
    status, written = run_echo(
        tmp_path,
        *("--loops", "asyncio", "--baseline", "asyncio", "--connections", "4"),
        *("--modes", mode, "--families", family),
    )
    (case,) = written["cases"]
    assert status == 0
    assert (case["mode"], case["family"], case["connections"]) == (mode, family, 4)
    summary = case["loops"]["asyncio"]
    assert len(summary["rounds"]) == 2
    assert summary["cpu_ratio"] == {"median": 1.0, "min": 1.0, "max": 1.0}
    for one in summary["rounds"]:
        assert one["messages"] > 0
        assert one["measured_cpu_s"] > 0
        assert one["rate_per_s"] == pytest.approx(one["messages"] / one["seconds"])
        assert 0 < one["p50_us"] <= one["p99_us"] <= one["p99_9_us"] <= one["max_us"] * 1.01
        assert one["p50_us"] / 1e6 * (one["messages"] - 2 * 4) <= 2 * 4 * one["seconds"] * 1.01


def test_the_report_says_where_when_and_what_was_measured(tmp_path: Path) -> None:
    _, written = run_echo(tmp_path, "--loops", "asyncio")
    assert written["format"] == echo.FORMAT
    assert {"cpu_model", "cores", "kernel", "python", "date"} <= written["environment"].keys()
    assert written["settings"]["rounds"] == 2
    assert [loop["name"] for loop in written["loops"]] == ["asyncio"]
    assert written["missing"] == []


def test_each_size_and_number_of_connections_is_a_case_of_its_own(tmp_path: Path) -> None:
    _, written = run_echo(
        tmp_path,
        *("--loops", "asyncio", "--rounds", "1"),
        *("--sizes", "1,300000", "--connections", "1,3", "--pipeline", "2"),
    )
    cases = [(case["size_bytes"], case["connections"]) for case in written["cases"]]
    assert cases == [(1, 1), (1, 3), (300000, 1), (300000, 3)]
    assert all(case["pipeline"] == 2 and case["verify"] for case in written["cases"])


def test_a_missing_loop_is_reported_and_the_others_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, written = run_echo(tmp_path, "--loops", "no_such_loop,asyncio")
    assert status == 0
    (entry,) = written["missing"]
    assert entry["name"] == "no_such_loop" and "No module named" in entry["reason"]
    (case,) = written["cases"]
    assert list(case["loops"]) == ["asyncio"]
    assert "cpu_ratio" not in case["loops"]["asyncio"], "the baseline, uvloop, was not asked for"
    assert "missing: no_such_loop" in capsys.readouterr().out


def test_a_run_without_any_loop_fails(capsys: pytest.CaptureFixture[str]) -> None:
    assert echo.main(["--loops", "no_such_loop"]) == 1
    assert "none of the loops named runs here" in capsys.readouterr().err


def test_a_module_that_makes_no_loops_is_missing() -> None:
    with pytest.raises(MissingError, match="json has no new_event_loop"):
        loops.factory("json")


@pytest.mark.parametrize("script", ["echo.py", "demo.py", "micro.py"])
def test_the_commands_also_run_as_files_from_anywhere(script: str, tmp_path: Path) -> None:
    if script == "micro.py":
        pytest.importorskip("pyperf", reason="the micro-benchmarks need pyperf")
    result = subprocess.run(
        [sys.executable, str(ROOT / "bench" / script), "--help"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=RUN_LIMIT_S,
        check=True,
    )
    assert "usage:" in result.stdout


def result_with(cpu_us_per_message: float) -> LoadResult:
    return LoadResult(
        messages=1000,
        seconds=2.0,
        measured_cpu_s=cpu_us_per_message / 1e3,
        load_cpu_s=1.0,
        p50_us=50.0,
        p99_us=99.0,
        p99_9_us=99.9,
        max_us=100.0,
    )


def test_ratios_are_taken_within_each_round() -> None:
    """The machine was twice as slow in the second round: the ratios do not see it."""
    summary = summarise(
        {
            "mine": [result_with(6.0), result_with(12.0), result_with(5.0)],
            "theirs": [result_with(8.0), result_with(16.0), result_with(10.0)],
        },
        baseline="theirs",
    )
    assert summary["mine"]["cpu_ratio"] == pytest.approx({"median": 0.75, "min": 0.5, "max": 0.75})
    assert summary["mine"]["cpu_us_per_message"] == pytest.approx(
        {"median": 6.0, "min": 5.0, "max": 12.0}
    )
    assert summary["mine"]["rate_per_s"]["median"] == 500.0


def test_the_processor_is_named_as_the_kernel_names_it() -> None:
    assert cpu_model("processor : 0\nmodel\t\t: 17\nmodel name\t: Fast: One\n") == "Fast: One"
    assert cpu_model("processor : 0\n") == "unknown"


def test_sizes_are_written_in_the_largest_whole_unit() -> None:
    assert [tables.size(value) for value in (1, 1000, 1024, 10240, 1 << 20)] == [
        *("1 B", "1000 B", "1 KiB", "10 KiB", "1 MiB")
    ]


def test_a_report_replaces_the_figures_of_the_readme_and_nothing_else(tmp_path: Path) -> None:
    run_echo(tmp_path, "--loops", "asyncio", "--baseline", "asyncio")
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{report.BEGIN}\nold figures\n{report.END}\nafter\n")
    assert report.main([str(tmp_path / "echo.json"), "--readme", str(readme)]) == 0
    text = readme.read_text()
    assert text.startswith(f"before\n{report.BEGIN}\n") and text.endswith(f"{report.END}\nafter\n")
    assert "| asyncio |" in text and "old figures" not in text


def test_a_readme_without_markers_is_refused() -> None:
    with pytest.raises(BenchError, match="not both there"):
        report.with_figures("no markers", "figures")


def test_the_projects_own_readme_has_the_markers() -> None:
    assert "figures" in report.with_figures(report.README.read_text(), "figures")
