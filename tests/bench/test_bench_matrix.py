"""The matrix: its cells, a short run of the command, its files and its exit status."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from bench import chart, echo, matrix, report
from bench.children import ROOT, Cores
from bench.errors import BenchError, MissingError
from bench.loops import is_python
from bench.scenario import Sample, Scenario

ONE_CELL = ["--only", "protocol, TCP, 1 KiB, 10 c", "--seconds", "0.1", "--rounds", "1"]
ON_ASYNCIO = ["--loops", "asyncio", "--baseline", "asyncio"]


class Failing:
    """A scenario that no loop passes."""

    title = "failing"
    operation = "thing"

    def runs_on(self, loop: str) -> bool:
        return True

    def run_round(self, loop: str, cores: Cores) -> Sample:
        raise BenchError("it fell over")


def short_run(folder: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
    """The exit status and the report of one cell."""
    status = matrix.main([*ONE_CELL, *ON_ASYNCIO, "--output", str(folder), *arguments])
    return status, json.loads((folder / "quick.json").read_text())


@pytest.mark.parametrize("extent", ["quick", "full"])
def test_the_titles_of_the_matrix_are_all_different(extent: str) -> None:
    titles = [scenario.title for scenario in matrix.scenarios(extent)]
    assert len(titles) == len(set(titles))


def test_the_quick_cells_of_echo_are_among_the_full_ones() -> None:
    full = {scenario.title for scenario in echo.scenarios("full")}
    assert {scenario.title for scenario in echo.scenarios("quick")} <= full


def test_every_family_of_scenarios_is_in_the_matrix() -> None:
    """Whatever stands in bench/scenarios and has scenarios is found without a list."""
    titles = {scenario.title for scenario in matrix.scenarios("full")}
    assert {scenario.title for scenario in echo.scenarios("full")} < titles


def test_every_python_loop_is_asked_everything() -> None:
    loops = [name for name in matrix.LOOPS["full"] if is_python(name)]
    for scenario in echo.scenarios("full"):
        assert [name for name in loops if not scenario.runs_on(name)] == []


def test_scenarios_are_chosen_by_a_part_of_their_titles() -> None:
    def titles(*only: str) -> list[str]:
        return [each.title for each in matrix.chosen_scenarios("full", only, None)]

    assert titles("udp, 1 kib, 1 connection") == ["echo UDP, 1 KiB, 1 connection"]
    assert set(titles("UDP", "TLS")) == set(titles("UDP")) | set(titles("TLS"))
    assert titles("no such cell") == []


def test_the_time_of_a_round_can_be_chosen() -> None:
    (scenario,) = matrix.chosen_scenarios("full", ["UDP, 1 KiB, 10 "], 0.125)
    assert isinstance(scenario, echo.EchoScenario) and scenario.seconds == 0.125
    fixed: Scenario = Failing()
    assert matrix.lasting(fixed, 0.125) is fixed


def test_a_run_writes_its_figures_thrice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib", reason="the chart needs matplotlib")
    status, written = short_run(tmp_path / "made")
    printed = capsys.readouterr()
    assert status == 0
    assert [each["title"] for each in written["scenarios"]] == [
        "echo protocol, TCP, 1 KiB, 10 connections"
    ]
    text = (tmp_path / "made" / "quick.md").read_text()
    assert "| asyncio |" in text and written["environment"]["kernel"] in text
    assert "echo protocol" in printed.out and "round 1/1" in printed.err
    picture = ElementTree.parse(tmp_path / "made" / "quick.svg").getroot()
    assert picture.tag.endswith("svg")


def test_without_matplotlib_there_is_no_chart_and_everything_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    status, _ = short_run(tmp_path)
    assert status == 0
    assert "no chart: the chart needs matplotlib" in capsys.readouterr().err
    assert not (tmp_path / "quick.svg").exists()


@pytest.mark.parametrize(
    ("own", "status"), [("asyncio", 1), ("uringloop", 0)], ids=["ours", "another's"]
)
def test_only_a_failure_of_our_own_loop_is_a_failure_of_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: str, status: int
) -> None:
    """asyncio stands for both: what is compared is the beginning of its name."""
    monkeypatch.setattr(matrix, "OWN", own)
    monkeypatch.setattr(matrix, "scenarios", lambda extent: [Failing()])
    arguments = [*ON_ASYNCIO, "--output", str(tmp_path)]
    assert matrix.main(arguments) == status
    text = (tmp_path / "quick.md").read_text()
    assert "| asyncio | failed |" in text and "- asyncio failed: it fell over" in text


def test_nothing_to_measure_is_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    assert matrix.main(["--only", "no such cell", *ON_ASYNCIO]) == 1
    assert "there is no such scenario" in capsys.readouterr().err


def test_the_titles_can_be_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert matrix.main(["--full", "--list"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        scenario.title for scenario in matrix.scenarios("full")
    ]


def test_bars_are_drawn_only_where_a_loop_has_figures() -> None:
    cells = [{"loops": {"a": {"cpu_ratio": {"median": 0.5}}}}, {"loops": {}}]
    assert chart.ratios_of(cells, "a") == [(0, 0.5)]
    assert chart.ratios_of(cells, "b") == []


def test_a_chart_without_the_baseline_says_so(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the chart needs matplotlib")
    empty = {"scenarios": [{"baseline": "uvloop", "loops": {"asyncio": {}}}]}
    with pytest.raises(MissingError, match="the loop that ratios refer to has no figures"):
        chart.write_chart(empty, tmp_path / "chart.svg")


# ---- the READMEs -------------------------------------------------------------------


def root_with(tmp_path: Path, text: str) -> Path:
    root = tmp_path / "root"
    (root / "bench").mkdir(parents=True)
    for readme in (root / "README.md", root / "bench" / "README.md"):
        readme.write_text(text)
    return root


def test_the_chart_of_the_top_readme_has_cells_and_loops_of_the_matrix() -> None:
    titles = {each.title for each in matrix.scenarios("full")}
    assert titles >= set(report.CHARTED) and titles >= set(report.CHOSEN)
    given = [{"title": each} for each in ("another cell", *report.CHARTED)]
    loops = [{"name": name} for name in (*matrix.LOOPS["full"], *report.CHARTED_LOOPS)]
    part = report.charted({"scenarios": given, "loops": loops, "settings": {}})
    assert [each["title"] for each in part["scenarios"]] == list(report.CHARTED)
    assert {each["name"] for each in part["loops"]} == set(report.CHARTED_LOOPS)


def test_a_report_replaces_the_figures_of_both_readmes_and_nothing_else(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the chart needs matplotlib")
    root = root_with(tmp_path, f"before\n{report.BEGIN}\nold figures\n{report.END}\nafter\n")
    short_run(tmp_path)
    assert report.main([str(tmp_path / "quick.json"), "--root", str(root)]) == 0
    top, own = (root / "README.md").read_text(), (root / "bench" / "README.md").read_text()
    for text in (top, own):
        assert text.startswith(f"before\n{report.BEGIN}\n")
        assert text.endswith(f"{report.END}\nafter\n") and "old figures" not in text
    assert "| CPU µs per operation | asyncio |" in top
    assert "| echo protocol, TCP, 1 KiB, 10 connections |" in top
    assert "| loop | CPU µs/message |" in own
    assert (root / "bench" / report.CHART).exists() and f"]({report.CHART})" in own


@pytest.mark.parametrize(
    ("data", "words"),
    [({"format": 1}, "the results have format 1"), (None, "are not both there")],
    ids=["format", "markers"],
)
def test_a_report_that_cannot_be_written_changes_nothing(
    tmp_path: Path, data: dict[str, Any] | None, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    root = root_with(tmp_path, "no markers")
    results = tmp_path / "quick.json"
    if data:
        results.write_text(json.dumps(data))
    else:
        short_run(tmp_path)
    assert report.main([str(results), "--root", str(root)]) == 1
    assert words in capsys.readouterr().err
    assert (root / "README.md").read_text() == "no markers"


@pytest.mark.parametrize("readme", ["README.md", "bench/README.md"])
def test_the_projects_own_readmes_have_the_markers(readme: str) -> None:
    assert "figures" in report.with_figures((ROOT / readme).read_text(), "figures")


def test_the_cells_of_the_top_readme_are_in_the_full_matrix() -> None:
    assert set(report.CHOSEN) <= {scenario.title for scenario in matrix.scenarios("full")}


def test_the_command_installs_the_peers_that_the_matrix_compares() -> None:
    (line,) = [
        line for line in (ROOT / "bench" / "run").read_text().splitlines() if line[:6] == "peers="
    ]
    assert set(line.partition("=")[2].strip("'").split()) == {"uvloop", *matrix.PEERS}
