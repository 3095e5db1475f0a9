"""docs/api.md: the table as Markdown, and whether a written one is still true.

What a written table says of a row that the running Python has too must be what is seen now.
Between versions of Python only the checks may differ, and what asyncio itself observed. The
heading, which names versions, may always.
"""

from __future__ import annotations

import platform
import re
import sys

from tests.api import surface, table

VERSIONS = re.compile(r"CPython (\S+) on Linux")
ROW = re.compile(r"^\| `([^`]+)` \| (?:`([^`]+)`)? *\|")
ORACLE = table.COLUMNS.index("asyncio")
PYTHONS = table.COLUMNS.index("Python")
SENTENCES = table.COLUMNS.index("Checked by")

HEADING = """\
# The asyncio API on each loop

Every public method of asyncio's loops, transports, servers and handles, and every parameter: found
in the running Python by introspection, and each proven by a live check on three loops. A check
is a small program; what it observed on asyncio's own loop is in the column *asyncio*. *Same* means
that signature and observations are equal; anything else is written out. The row of a method
stands for all its checks.

Written by `python -m tests.api --write docs/api.md`; `--check docs/api.md` tells whether it is
still true. The checks are in `tests/api/checks`. How ours means to differ, beyond what these
checks look at, is listed in `tests/differences.py`.

CPython {python} on Linux {kernel}: {methods} methods, {parameters} parameters, {checks} checks.
"""

Table = dict[tuple[str, str], list[str]]


def render() -> str:
    """The whole document, from checks that run now."""
    parts = [_heading()]
    for title, rows in table.rows_by_subject().items():
        lines = [table.COLUMNS, ["---"] * len(table.COLUMNS), *map(table.cells, rows)]
        parts.append(f"\n## {title}\n")
        parts += [line(list(cells)) for cells in lines]
    return "\n".join(parts) + "\n"


def _heading() -> str:
    here = [row for row in table.rows() if row.is_here]
    return HEADING.format(
        python=platform.python_version(),
        kernel=platform.release().partition("-")[0],
        methods=sum(not row.parameter for row in here),
        parameters=sum(bool(row.parameter) for row in here),
        checks=len({check.function for row in here for check in row.checks}),
    )


def line(cells: list[str]) -> str:
    """A row in Markdown."""
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def is_newest_python() -> bool:
    """Whether the running Python has all rows; an older one would leave some out."""
    return sys.version_info[:2] >= max(version[:2] for version in surface.SINCE.values())


def read(text: str) -> Table:
    """The rows of a document by method and parameter."""
    found: Table = {}
    for line in text.splitlines():
        if match := ROW.match(line):
            cells = re.split(r"(?<!\\) \| ", line.removeprefix("| ").removesuffix(" |"))
            found[match[1], match[2] or ""] = [cell.strip() for cell in cells]
    return found


def outdated(written: str, current: str) -> list[str]:
    """What the written document says otherwise than the current one, in words."""
    then, now = of_this_python(read(written)), of_this_python(read(current))
    ignored = set() if _python(written) == _python(current) else {SENTENCES, ORACLE}
    found = [f"{_named(key)} is not in the file" for key in now if key not in then]
    found += [f"{_named(key)} is in the file only" for key in then if key not in now]
    for key in now.keys() & then.keys():
        for column, name in enumerate(table.COLUMNS):
            old, new = then[key][column], now[key][column]
            is_known = not any(cell.startswith(table.ABSENT) for cell in (old, new))
            if old != new and is_known and column not in ignored:
                found.append(f"{_named(key)}, {name}: {old!r} is now {new!r}")
    return sorted(found)


def _python(text: str) -> str:
    match = VERSIONS.search(text)
    return match[1] if match else ""


def of_this_python(rows: Table) -> Table:
    """The rows that the running Python should have."""
    return {key: cells for key, cells in rows.items() if _is_of_this_python(cells[PYTHONS])}


def _is_of_this_python(pythons: str) -> bool:
    """Understands "3.11+" and "< 3.11"."""
    version = tuple(int(each) for each in re.findall(r"\d+", pythons))
    if pythons.startswith("<"):
        return sys.version_info[: len(version)] < version
    return sys.version_info[: len(version)] >= version


def _named(key: tuple[str, str]) -> str:
    return " ".join(filter(None, key))
