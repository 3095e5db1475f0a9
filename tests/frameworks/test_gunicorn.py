"""gunicorn as users start it, with uvicorn's workers and with its own."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.frameworks.documented import APP, command_lines, shown, write_files
from tests.frameworks.serving import load, serving

pytest.importorskip("gunicorn")
pytest.importorskip("uvicorn_worker")

SECTION = "gunicorn"
ANY_PORT = ["--bind", "127.0.0.1:0"]
WORKERS = 2

# What a worker says when it serves, uvicorn's and gunicorn's own. By then it has signal handlers of
# its own: a SIGTERM that comes before is lost (docs/frameworks.md), whatever the loop.
SERVING = r"(Application startup complete|ASGI server listening on)"

pytestmark = pytest.mark.ours


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_files(APP, tmp_path)
    write_files(SECTION, tmp_path)
    return tmp_path


@pytest.fixture(autouse=True)
def _home(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """gunicorn has a socket there, to be controlled by."""
    monkeypatch.setenv("HOME", str(folder))


@pytest.mark.parametrize("line", command_lines(SECTION), ids=shown)
def test_a_documented_line_serves_on_our_loop(
    line: list[str], folder: Path, loop_kind: str
) -> None:
    with serving([*line, *ANY_PORT], folder, URINGLOOP_BACKEND=loop_kind) as served:
        served.until(SERVING, WORKERS)
        assert load(served.address) == {f"uringloop.loop {loop_kind}"}
    assert served.process.returncode == 0


def test_workers_that_are_replaced_by_a_signal_serve_on(folder: Path, loop_kind: str) -> None:
    """SIGHUP starts new workers and ends the old ones, each with its loop and its accept."""
    line = command_lines(SECTION)[0]
    with serving([*line, *ANY_PORT], folder, URINGLOOP_BACKEND=loop_kind) as served:
        served.until(SERVING, WORKERS)
        assert load(served.address)
        os.kill(served.process.pid, signal.SIGHUP)
        served.until(r"Worker \(pid:\d+\) was sent SIGTERM", WORKERS)
        served.until(SERVING, 2 * WORKERS)
        assert load(served.address) == {f"uringloop.loop {loop_kind}"}
