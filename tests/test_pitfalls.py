"""Each row of the list of pitfalls is named by a test, or in DESIGN.md with the reason why not."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROWS = range(1, 46)

# One number, or several with commas and an "and" between them.
NAMED = re.compile(r"\brows?((?:,? (?:and )?\d+)+)", re.IGNORECASE)


@functools.cache
def rows_of_tests() -> frozenset[int]:
    return frozenset(_rows_of_tests())


def _rows_of_tests() -> Iterator[int]:
    for path in (ROOT / "tests").rglob("test_*.py"):
        if path != Path(__file__):
            for rows in NAMED.findall(path.read_text()):
                yield from map(int, re.findall(r"\d+", rows))


def rows_of_the_design() -> frozenset[int]:
    """The first column of the table in the section on pitfalls."""
    design = (ROOT / "DESIGN.md").read_text()
    section = design.partition("\n## Known pitfalls")[2].partition("\n## ")[0]
    return frozenset(map(int, re.findall(r"^\| (\d+) \| \w", section, re.MULTILINE)))


@pytest.mark.parametrize("row", ROWS)
def test_a_row_is_named_by_a_test_or_explained(row: int) -> None:
    assert (row in rows_of_tests()) != (row in rows_of_the_design())


def test_no_row_is_named_that_the_list_does_not_have() -> None:
    assert rows_of_tests() | rows_of_the_design() == set(ROWS)
