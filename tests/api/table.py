"""The table: what each loop observed, set beside asyncio's, as rows of cells.

Rows are the methods and parameters of the running Python, and those that older and newer ones
have. A cell says "same" where signature and observation are asyncio's, else what differs.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from tests.api import surface
from tests.api.checks import SUBJECTS, all_checks
from tests.api.observing import on_asyncio, on_ours
from tests.api.registry import Check
from tests.api.surface import Method, Version
from tests.loops import OURS

COLUMNS = ("Method", "Parameter", "Python", "Checked by", "asyncio", *OURS)
SAME = "✓ same"
ABSENT = "–"  # for what the running Python does not have
OBSERVATION_CHARACTERS_MAX = 100

# What has no check, and why. Each must be a row of the API of this Python.
UNCHECKED: dict[tuple[str, str], str] = {}
if sys.version_info < (3, 11):
    UNCHECKED["ReadTransport.is_reading", ""] = "the pipes of asyncio 3.10 do not implement it"


@dataclass(frozen=True)
class Row:
    """A method (its parameter is ""), or one of its parameters, and what proves it."""

    method: str
    parameter: str
    pythons: str
    checks: tuple[Check, ...]
    is_here: bool

    @property
    def key(self) -> tuple[str, str]:
        return self.method, self.parameter

    @property
    def is_unproven(self) -> bool:
        return self.is_here and not self.checks and self.key not in UNCHECKED


def rows() -> list[Row]:
    """This Python's rows, then those that only other versions have."""
    here = [row for method in surface.methods() for row in _rows_of(method)]
    known = {row.key for row in here}
    elsewhere = [key for key in (*surface.SINCE, *surface.UNTIL) if key not in known]
    return [*here, *(_row(*key, is_here=False) for key in elsewhere)]


def _rows_of(method: Method) -> Iterator[Row]:
    for parameter in ("", *method.parameters, *_taken_by_name(method)):
        yield _row(method.name, parameter, is_here=True)


def _taken_by_name(method: Method) -> list[str]:
    """Parameters that checks prove and only **kwargs takes, as create_task's from 3.14 on."""
    checks = [check for check in all_checks() if check.method == method.name]
    proven = {name for check in checks for name in check.parameters}
    return sorted(proven - set(method.parameters)) if method.takes_any_name else []


def _row(method: str, parameter: str, is_here: bool) -> Row:
    checks = [check for check in all_checks() if check.method == method]
    if parameter:
        checks = [check for check in checks if parameter in check.parameters]
    pythons = _pythons(surface.since(method, parameter), surface.until(method, parameter))
    return Row(method, parameter, pythons, tuple(checks), is_here)


def _pythons(since: Version, until: Version) -> str:
    """ "3.11+" for what came with 3.11, "< 3.11" for what went with it."""
    if until:
        return f"< {_dotted(until)}"
    return f"{_dotted(since)}+" if since else ""


def _dotted(version: Version) -> str:
    return ".".join(map(str, version))


def rows_by_subject() -> dict[str, list[Row]]:
    """Each row once, by the title of the subject that has its method's first check."""
    found: dict[str, list[Row]] = {subject.title: [] for subject in SUBJECTS}
    by_method: dict[str, list[Row]] = {}
    for row in rows():
        by_method.setdefault(row.method, []).append(row)
    for subject in SUBJECTS:
        for method in dict.fromkeys(check.method for check in subject.checks):
            found[subject.title] += by_method.pop(method, [])
    found["Not checked"] = [row for rest in by_method.values() for row in rest]
    return {title: found_rows for title, found_rows in found.items() if found_rows}


# -- what a row's cells say -------------------------------------------------------------------


def signature_difference(row: Row, kind: str) -> str:
    """How the signature of a loop of ours differs from asyncio's; "" when it does not."""
    mine = surface.signatures("asyncio")[row.method]
    theirs = surface.signatures(kind).get(row.method)
    if theirs is None:
        return "missing"
    if row.parameter:
        return mine.parameter_difference(row.parameter, theirs)
    return mine.difference(theirs)


@functools.cache
def _on_ours(kind: str, check: Check) -> object:
    return on_ours(kind, check)


def cells(row: Row) -> list[str]:
    """The cells of a row, by COLUMNS."""
    if row.is_here:
        answers = [_oracle_cell(row), *(_cell(row, kind) for kind in OURS)]
    else:
        answers = [ABSENT] * (1 + len(OURS))
    parameter = row.parameter and f"`{row.parameter}`"
    return [f"`{row.method}`", parameter, row.pythons, sentences(row), *answers]


def _shown(row: Row) -> list[Check]:
    """A method's row leaves those out that are shown with its parameters."""
    return [check for check in row.checks if row.parameter or not check.parameters]


def sentences(row: Row) -> str:
    """What the checks say of the row."""
    return "<br>".join(check.sentence for check in _shown(row))


def _oracle_cell(row: Row) -> str:
    return "<br>".join(_shortened(on_asyncio(check)) for check in _shown(row))


def _cell(row: Row, kind: str) -> str:
    if row.key in UNCHECKED:
        return f"{ABSENT} {UNCHECKED[row.key]}"
    if row.is_unproven:
        return "no check"
    differing = []
    if signature := signature_difference(row, kind):
        differing.append(f"signature: {signature}")
    for check in row.checks:
        if (observed := _on_ours(kind, check)) != on_asyncio(check):
            differing.append(f"{check.sentence}: {_shortened(observed)}")
    return "<br>".join(f"✗ {each}" for each in differing) or SAME


def _shortened(observation: object) -> str:
    text = " ".join(repr(observation).split())
    if len(text) > OBSERVATION_CHARACTERS_MAX:
        text = text[: OBSERVATION_CHARACTERS_MAX - 1] + "…"
    return f"`{text.replace('`', chr(39))}`"
