"""hypercorn as users start it; HTTP/2 over TLS with httpx."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.frameworks.documented import APP, command_lines, write_files
from tests.frameworks.serving import load, serving

pytest.importorskip("hypercorn")

SECTION = "hypercorn"
ANY_PORT = ["--bind", "127.0.0.1:0"]

pytestmark = pytest.mark.ours


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_files(APP, tmp_path)
    write_files(SECTION, tmp_path)
    return tmp_path


def test_the_documented_program_serves_on_our_loop(folder: Path, loop_kind: str) -> None:
    command = [sys.executable, "serve.py"]
    with serving(command, folder, URINGLOOP_BACKEND=loop_kind) as served:
        assert load(served.address) == {f"uringloop.loop {loop_kind}"}


def test_the_documented_line_serves_on_our_loop(folder: Path, loop_kind: str) -> None:
    (line,) = command_lines(SECTION)
    with serving([*line, *ANY_PORT], folder, URINGLOOP_BACKEND=loop_kind) as served:
        assert load(served.address) == {f"uringloop.loop {loop_kind}"}
