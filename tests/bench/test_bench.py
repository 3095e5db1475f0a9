"""The echo benchmark as a whole: what it runs, counts and says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench import echo, loops, native, runner, tables
from bench.children import Cores
from bench.environment import cpu_model
from bench.errors import BenchError, MissingError
from bench.server import MODES, PIECE_BYTES

ROOT = Path(echo.__file__).resolve().parent.parent
QUICK = ["--rounds", "2", "--seconds", "0.15", "--warmup", "0.05"]
RUN_LIMIT_S = 60


def run_echo(tmp_path: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
    """The exit status of a short run, and the report that it wrote."""
    file = tmp_path / "echo.json"
    status = echo.main([*QUICK, "--json", str(file), *arguments])
    return status, json.loads(file.read_text())


def served() -> list[tuple[str, str]]:
    """What the echo server can be asked for."""
    return [(mode, family) for mode in MODES for family in echo.families_of(mode, echo.FAMILIES)]


def need_load_for(family: str) -> None:
    if family == "tls":
        try:
            native.built("load_tls")
        except MissingError as error:
            pytest.skip(str(error))


@pytest.mark.parametrize(("mode", "family"), served())
def test_a_run_on_asyncio_reports_plausible_counts(tmp_path: Path, mode: str, family: str) -> None:
    """Four connections cannot wait more than four windows together, but for what each began
    before the window. Half of the messages waited the median or longer, which bounds the
    median by their number: at any speed of the machine, and only if both are right."""
    need_load_for(family)
    status, written = run_echo(
        tmp_path,
        *("--loops", "asyncio", "--baseline", "asyncio", "--connections", "4"),
        *("--modes", mode, "--families", "tcp" if family == "udp" else family),
    )
    (scenario,) = written["scenarios"]
    assert (status, scenario["failed"]) == (0, {})
    assert scenario["title"] == echo.EchoScenario(mode, family, connections=4).title
    summary = scenario["loops"]["asyncio"]
    assert len(summary["rounds"]) == 2
    assert summary["cpu_ratio"] == {"median": 1.0, "min": 1.0, "max": 1.0}
    for one in summary["rounds"]:
        assert one["operations"] > 0
        assert one["measured_cpu_s"] > 0
        assert one["rate_per_s"] == pytest.approx(one["operations"] / one["seconds"])
        assert 0 < one["p50_us"] <= one["p99_us"] <= one["p99_9_us"]
        assert one["p50_us"] / 1e6 * (one["operations"] - 2 * 4) <= 2 * 4 * one["seconds"] * 1.01


def test_the_report_says_where_when_and_what_was_measured(tmp_path: Path) -> None:
    _, written = run_echo(tmp_path, "--loops", "asyncio")
    assert written["format"] == runner.FORMAT
    assert {"cpu_model", "cores", "kernel", "python", "date"} <= written["environment"].keys()
    assert written["settings"]["rounds"] == 2
    assert [loop["name"] for loop in written["loops"]] == ["asyncio"]
    assert written["missing"] == []


def test_each_size_and_number_of_connections_is_a_scenario_of_its_own(tmp_path: Path) -> None:
    _, written = run_echo(
        tmp_path,
        *("--loops", "asyncio", "--rounds", "1"),
        *("--sizes", "1,300000", "--connections", "1,3", "--pipeline", "2"),
    )
    assert [scenario["title"] for scenario in written["scenarios"]] == [
        "echo protocol, TCP, 1 B, 1 connection, pipeline 2",
        "echo protocol, TCP, 1 B, 3 connections, pipeline 2",
        "echo protocol, TCP, 300000 B, 1 connection, pipeline 2",
        "echo protocol, TCP, 300000 B, 3 connections, pipeline 2",
    ]


def test_a_missing_loop_is_reported_and_the_others_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, written = run_echo(tmp_path, "--loops", "no_such_loop,asyncio")
    assert status == 0
    (entry,) = written["missing"]
    assert entry["name"] == "no_such_loop" and "No module named" in entry["reason"]
    (scenario,) = written["scenarios"]
    assert list(scenario["loops"]) == ["asyncio"]
    summary = scenario["loops"]["asyncio"]
    assert "cpu_ratio" not in summary, "the baseline, uvloop, was not asked for"
    assert "missing: no_such_loop" in capsys.readouterr().out


def test_a_run_without_any_loop_fails(capsys: pytest.CaptureFixture[str]) -> None:
    assert echo.main(["--loops", "no_such_loop"]) == 1
    assert "none of the loops named runs here" in capsys.readouterr().err


def test_a_module_that_makes_no_loops_is_missing() -> None:
    with pytest.raises(MissingError, match="json has no new_event_loop"):
        loops.factory("json")


@pytest.mark.parametrize("script", ["echo.py", "demo.py", "matrix.py", "micro.py"])
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


def test_the_processor_is_named_as_the_kernel_names_it() -> None:
    assert cpu_model("processor : 0\nmodel\t\t: 17\nmodel name\t: Fast: One\n") == "Fast: One"
    assert cpu_model("processor : 0\n") == "unknown"


def test_sizes_are_written_in_the_largest_whole_unit() -> None:
    assert [tables.size(value) for value in (1, 1000, 1024, 10240, 1 << 20)] == [
        *("1 B", "1000 B", "1 KiB", "10 KiB", "1 MiB")
    ]


def test_an_answer_in_two_writes_is_whole_however_it_is_cut(tmp_path: Path) -> None:
    """Messages that are no multiple of a piece, several under way."""
    status, _ = run_echo(
        tmp_path,
        *("--loops", "asyncio", "--rounds", "1", "--modes", "two-writes", "--pipeline", "3"),
        *("--sizes", f"{PIECE_BYTES // 2 - 1},{PIECE_BYTES * 3 + 5}"),
    )
    assert status == 0


def test_a_hundred_connections_over_tls_are_compared_byte_by_byte(tmp_path: Path) -> None:
    """Records, and messages of many of them, more than the sockets' buffers hold."""
    need_load_for("tls")
    status, _ = run_echo(
        tmp_path,
        *("--loops", "asyncio", "--rounds", "1", "--families", "tls"),
        *("--connections", "100", "--sizes", "1,100001", "--pipeline", "3"),
    )
    assert status == 0


def test_sockets_without_transports_have_no_tls(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert echo.main(["--modes", "sock", "--families", "tls", "--loops", "asyncio"]) == 1
    assert "there is no such scenario" in capsys.readouterr().err


def test_a_thousand_connections_are_served() -> None:
    """More than the usual soft limit of descriptors leaves room for, on both sides."""
    scenario = echo.EchoScenario("protocol", "tcp", connections=1000, seconds=0.1)
    assert scenario.run_round("asyncio", Cores(None, None)).operations > 0


def test_more_connections_than_descriptors_are_said_to_be_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda _: (64, 64))
    with pytest.raises(MissingError, match=r"110 descriptors are needed, and .* is 64"):
        echo.EchoScenario("protocol", "tcp").run_round("asyncio", Cores(None, None))


def test_a_server_that_falls_is_named_with_its_last_words() -> None:
    """A datagram where a stream is expected: the server of that mode cannot begin."""
    scenario = echo.EchoScenario("streams", "udp", seconds=0.1)
    with pytest.raises(BenchError, match=r"; the server: .*Error"):
        scenario.run_round("asyncio", Cores(None, None))


def test_c_servers_are_asked_for_what_they_do() -> None:
    scenarios = [echo.EchoScenario(mode, family) for mode, family in served()]
    limits = {(each.mode, each.family) for each in scenarios if each.runs_on("c-epoll")}
    assert limits == {
        (mode, family)
        for mode in ("protocol", "buffered", "streams", "sock")
        for family in ("tcp", "unix")
    }


def test_the_cells_on_one_core_have_their_load_on_the_core_of_the_server():
    assert Cores(3, 5).shared() == Cores(3, 3)
    cells = [each for each in echo.scenarios("full") if each.is_on_one_core]
    assert cells
    assert all(each.title.endswith(", one core") for each in cells)
