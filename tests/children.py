"""Child processes: programs that end badly, change their limits, or take signals.

A program in programs/ gets the kind of loop as its first argument. It passes when it ends
with status 0 and wrote nothing to stderr: warnings are errors there too.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

CHILD_LIMIT_S = 60
PROGRAMS = Path(__file__).parent / "programs"


def run_program(name: str, *arguments: str, **environment: str) -> str:
    """Runs programs/`name` to its end and returns what it printed."""
    ended = ended_program(name, *arguments, **environment)
    assert (ended.returncode, ended.stderr) == (0, ""), ended.stderr + ended.stdout
    return ended.stdout


def ended_program(
    name: str, *arguments: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    """programs/`name`, which may end badly, after its end."""
    return subprocess.run(
        _command(name, arguments),
        env=_environment(environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=CHILD_LIMIT_S,
        check=False,
    )


@contextlib.contextmanager
def started_program(
    name: str, *arguments: str, **environment: str
) -> Iterator[subprocess.Popen[str]]:
    """programs/`name` once it printed "ready"; the caller talks to it and waits for it."""
    with subprocess.Popen(
        _command(name, arguments),
        env=_environment(environment),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n", child.communicate()[1]
            yield child
        finally:
            child.kill()


def assert_no_children() -> None:
    """This process has no child: neither one that runs nor a zombie."""
    with pytest.raises(ChildProcessError):
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)


def wait_for_end(pid: int) -> None:
    """Blocks until the process has ended, without reaping it."""
    with contextlib.suppress(ChildProcessError):  # somebody was quicker
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


def _command(name: str, arguments: tuple[str, ...]) -> list[str]:
    return [sys.executable, "-W", "error", "-X", "faulthandler", str(PROGRAMS / name), *arguments]


def _environment(changes: dict[str, str]) -> dict[str, str]:
    here = str(Path(__file__).parent)
    path = os.pathsep.join([here, *filter(None, sys.path)])
    return {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", **changes}
