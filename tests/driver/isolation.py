"""Scripts of isolated/, each in a process of its own: for what cannot be undone in the runner's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ISOLATED = Path(__file__).with_name("isolated")


def run_isolated(script: str, *arguments: object) -> str:
    """Runs a script of isolated/ to its end; answers what it printed."""
    done = subprocess.run(
        [sys.executable, "-W", "error", str(ISOLATED / script), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr or done.returncode
    return done.stdout
