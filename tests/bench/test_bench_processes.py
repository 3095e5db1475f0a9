"""Children of a benchmark: their answers, their deaths, and that none is left behind."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from bench import demo
from bench.children import ROOT, Child
from bench.errors import BenchError

LIMIT_S = 30.0
WAIT_FOR_EVER = "import threading; threading.Event().wait()"
SHORT_DEMO = ["--seconds", "0.15", "--connections", "5"]
ENDLESS_DEMO = ["--seconds", "1000000"]


def python(source: str) -> list[str]:
    return [sys.executable, "-c", source]


def test_a_child_that_ends_without_an_answer_is_reported_with_its_status() -> None:
    with Child(python("raise SystemExit(7)")) as child, pytest.raises(BenchError) as raised:
        child.read_answer(LIMIT_S)
    assert "exit status 7" in str(raised.value)


def test_a_child_that_says_nothing_is_given_up() -> None:
    with Child(python(WAIT_FOR_EVER)) as child, pytest.raises(BenchError) as raised:
        child.read_answer(0.05)
    assert "did not answer within 0.05 s" in str(raised.value)


def test_answers_are_read_line_by_line_however_they_arrive() -> None:
    with Child(python('print(\'{"a": 1}\\n{"b": 2}\')')) as child:
        assert [child.read_answer(LIMIT_S), child.read_answer(LIMIT_S)] == [{"a": 1}, {"b": 2}]


def test_a_child_that_ignores_sigterm_is_killed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("bench.children.STOP_LIMIT_S", 0.1)
    ignore = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True)"
    with Child(python(f"{ignore}; {WAIT_FOR_EVER}")) as child:
        child.read_answer(LIMIT_S)
    assert not Path(f"/proc/{child.pid}").exists()
    assert "ignored SIGTERM" in capsys.readouterr().err


def test_a_child_that_closes_its_output_and_lives_on_is_reported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("bench.children.STOP_LIMIT_S", 0.1)
    with (
        Child(python(f"import os; os.close(1); {WAIT_FOR_EVER}")) as child,
        pytest.raises(BenchError, match="closed its output and did not end"),
    ):
        child.read_answer(LIMIT_S)


def test_a_line_that_is_no_answer_is_shown() -> None:
    with (
        Child(python("print('hello from a library')")) as child,
        pytest.raises(BenchError, match=r"no answer: b'hello from a library'"),
    ):
        child.read_answer(LIMIT_S)


def test_the_last_words_of_a_child_are_the_reason_of_its_failure(
    capsys: pytest.CaptureFixture[str],
) -> None:
    source = "import sys; print('a\\nthe reason\\n', file=sys.stderr); raise SystemExit(3)"
    with (
        Child(python(source)) as child,
        pytest.raises(BenchError, match=r"exit status 3: the reason$"),
    ):
        child.read_answer(LIMIT_S)
    assert capsys.readouterr().err == "a\nthe reason\n\n"


def test_only_the_end_of_what_a_child_said_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    source = "import sys; print('x' * 10000 + 'end', file=sys.stderr, flush=True); print(1)"
    with Child(python(source)) as child:
        child.read_answer(LIMIT_S)
    shown = capsys.readouterr().err
    assert shown.endswith("xend\n") and len(shown) == 4096


def test_a_child_runs_on_the_core_it_is_given() -> None:
    core = max(os.sched_getaffinity(0))
    with Child(python("print('{}', flush=True); " + WAIT_FOR_EVER), core) as child:
        child.read_answer(LIMIT_S)
        assert os.sched_getaffinity(child.pid) == {core}


def test_the_demo_runs_the_proxy_and_prints_what_the_load_saw(
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert demo.main(SHORT_DEMO) == 0
    shown = capfd.readouterr()
    assert shown.err.startswith("$ uringloop proxy --log-level warning 127.0.0.1:")
    rows = [line.split() for line in shown.out.splitlines()[-2:]]
    assert [" ".join(row[:3]) for row in rows] == ["through the proxy", "without a proxy"]
    assert all(float(row[3]) > 0 for row in rows)


def test_the_demo_fails_when_the_proxy_does_not_run(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("URINGLOOP_BACKEND", "nonsense")
    assert demo.main(SHORT_DEMO) == 1
    assert "the proxy does not listen, exit status 5" in capfd.readouterr().err


@contextmanager
def running_demo() -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """A demo under way, with descriptors of its three children: upstream, proxy, load."""
    command = [sys.executable, "-m", "bench.demo", *ENDLESS_DEMO]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            assert process.stderr.readline().startswith("$ uringloop proxy")
            deadline = time.monotonic() + LIMIT_S
            while len(pids := children_of(process.pid)) < 3:
                assert time.monotonic() < deadline and process.poll() is None
            children = open_all(pids)
            yield process, children
            for pidfd in children:
                os.close(pidfd)
        finally:
            process.kill()


def children_of(parent: int) -> list[int]:
    """By the parent's id in /proc/PID/stat, which follows the name in parentheses."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended while we looked
        if int(fields[1]) == parent:
            found.append(int(stat.parent.name))
    return found


def open_all(pids: list[int]) -> list[int]:
    """Descriptors of those that still live: the load may have ended meanwhile."""
    pidfds = []
    for pid in pids:
        with suppress(ProcessLookupError):
            pidfds.append(os.pidfd_open(pid))
    return pidfds


def has_ended(pidfd: int) -> bool:
    """Whether the process ends within the limit: its descriptor then reads as ready."""
    return bool(select.select([pidfd], [], [], LIMIT_S)[0])


def test_an_interrupted_demo_ends_its_children_and_exits_with_130() -> None:
    with running_demo() as (process, children):
        process.send_signal(signal.SIGINT)
        assert process.wait(LIMIT_S) == 130
        assert children and all(map(has_ended, children))


def test_a_killed_demo_takes_its_children_with_it() -> None:
    with running_demo() as (process, children):
        process.kill()
        process.wait(LIMIT_S)
        assert children and all(map(has_ended, children))
