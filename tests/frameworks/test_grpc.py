"""grpc.aio, in processes of their own: its threads and descriptors stay for the process's life."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.frameworks.programs import output_of, output_of_main

pytest.importorskip("grpc")

PROGRAM = Path(__file__).parent / "grpc_calls.py"


def test_calls_of_all_four_kinds_are_answered(tmp_path: Path, loop_kind: str) -> None:
    printed = output_of([sys.executable, str(PROGRAM), loop_kind], tmp_path)
    assert printed == "unary streams errors cancelled\n"


@pytest.mark.ours
def test_the_documented_program_runs_on_our_loop(tmp_path: Path, loop_kind: str) -> None:
    printed = output_of_main("grpc.aio", tmp_path, URINGLOOP_BACKEND=loop_kind)
    assert printed == f"HELLO {loop_kind}\n"
