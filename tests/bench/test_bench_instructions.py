"""Counting instructions: that valgrind's answer is read, for a server and for a body."""

from __future__ import annotations

import shutil

import pytest

from bench import instructions

needs_valgrind = pytest.mark.skipif(
    shutil.which("valgrind") is None, reason="valgrind is not installed"
)

ANNOTATED = """\
Profile data file 'counted'
--------------------------------------------------------------------------------
1,234,567 (100.0%)  PROGRAM TOTALS

  900,000 (72.90%)  ceval.c:eval [python]
   34,567 ( 2.80%)  engine.c:ul_turn [_engine.so]
"""


def test_counts_are_shown_for_one_operation(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    class Answer:
        stdout = ANNOTATED

    monkeypatch.setattr(instructions.subprocess, "run", lambda *_, **__: Answer)
    lines = instructions.annotated(tmp_path, 1, 1000).splitlines()
    assert [line.split() for line in lines] == [
        ["1234.6", "PROGRAM", "TOTALS"],
        ["900.0", "ceval.c:eval", "[python]"],
    ]


def test_an_empty_count_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    class Answer:
        stdout = "Profile data file 'counted'\n"

    monkeypatch.setattr(instructions.subprocess, "run", lambda *_, **__: Answer)
    with pytest.raises(instructions.BenchError, match="counted nothing"):
        instructions.annotated(tmp_path, 1, 1000)


@needs_valgrind
@pytest.mark.timeout(120)
def test_a_body_is_counted(capsys: pytest.CaptureFixture[str]) -> None:
    assert instructions.main(["call_soon batch", "--loops", "asyncio"]) == 0
    total = capsys.readouterr().out.splitlines()[1].split()
    assert total[1:] == ["PROGRAM", "TOTALS"]
    assert 100 < float(total[0]) < 1_000_000
