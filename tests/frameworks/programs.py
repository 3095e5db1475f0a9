"""Programs of docs/frameworks.md as processes that end by themselves."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.frameworks.documented import write_files
from tests.proxy.processes import environment

LIMIT_S = 40.0


def output_of(arguments: list[str], folder: Path, **changes: str) -> str:
    """What a command prints; it has to end well and to complain of nothing."""
    ended = subprocess.run(
        arguments,
        cwd=folder,
        env=environment(**changes),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, ""), ended.stderr + ended.stdout
    return ended.stdout


def without(*plugins: str) -> list[str]:
    """Options for a pytest that loads neither these plugins nor what takes long to load."""
    names = [*plugins, "cacheprovider", "hypothesispytest", "xdist"]
    return [word for name in names for word in ("-p", f"no:{name}")]


def output_of_main(section: str, folder: Path, **changes: str) -> str:
    """The same for the section's `main.py`."""
    write_files(section, folder)
    return output_of([sys.executable, "main.py"], folder, **changes)
