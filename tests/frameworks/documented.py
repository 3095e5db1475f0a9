"""The code on docs/frameworks.md: what is written there is what the tests here run."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs" / "frameworks.md"
APP = "The app of the examples"

# The programs that a line may begin with, as this Python runs them.
_MODULES = {"uvicorn": "uvicorn", "gunicorn": "gunicorn", "python": None}


def sections() -> dict[str, str]:
    """The text below each heading, by heading."""
    _, *parts = re.split(r"^## (.+)\n", DOCUMENT.read_text(), flags=re.MULTILINE)
    return dict(zip(parts[::2], parts[1::2], strict=True))


def blocks(section: str, language: str) -> list[str]:
    """The blocks of a section in that language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", sections()[section], re.DOTALL | re.MULTILINE)


def files(section: str) -> dict[str, str]:
    """The blocks that are files, by the name in their first line."""
    found = {}
    for block in blocks(section, "python"):
        first = block.splitlines()[0]
        assert first.startswith("# "), first
        found[first[2:]] = block
    return found


def write_files(section: str, folder: Path) -> None:
    """All files of a section, which serve on any free port here."""
    for name, text in files(section).items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text.replace("8000", "0"))


def command_lines(section: str) -> list[list[str]]:
    """The lines of the section's shell blocks, as arguments for this Python."""
    lines = "".join(blocks(section, "sh")).splitlines()
    return [_for_this_python(shlex.split(line)) for line in lines]


def shown(line: list[str]) -> str:
    """The line in a test's name: without the path of this Python."""
    return " ".join(line[1:])


def _for_this_python(arguments: list[str]) -> list[str]:
    module = _MODULES[arguments[0]]
    return [sys.executable, *(["-m", module] if module else []), *arguments[1:]]
