"""Programs of docs/frameworks.md as processes that end by themselves."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.frameworks.documented import write_files
from tests.proxy.processes import run_to_end

LIMIT_S = 40.0


def output_of(arguments: list[str], folder: Path, **changes: str) -> str:
    """What a command prints; it has to end well and to complain of nothing."""
    answer = run_to_end(arguments, folder, LIMIT_S, **changes)
    assert (answer.returncode, answer.stderr) == (0, ""), answer.stderr + answer.stdout
    return answer.stdout


def without(*plugins: str) -> list[str]:
    """Options for a pytest that loads neither these plugins nor what takes long to load."""
    names = [*plugins, "cacheprovider", "hypothesispytest", "xdist"]
    return [word for name in names for word in ("-p", f"no:{name}")]


def output_of_main(section: str, folder: Path, **changes: str) -> str:
    """The same for the section's `main.py`."""
    write_files(section, folder)
    return output_of([sys.executable, "main.py"], folder, **changes)
