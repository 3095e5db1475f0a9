"""The asyncio API, method by method: each loop observes what asyncio's own does.

The checks are in tests/api/checks. Here they run under the audit, on each loop, and the list of
them is held against the API of the running Python, and docs/api.md against both.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.api import document, surface, table
from tests.api.checks import all_checks
from tests.api.observing import observe, on_asyncio
from tests.api.registry import Check
from tests.certificates import UNCLOSED_ON_3_10
from tests.loops import OURS, parameter

pytestmark = [pytest.mark.filterwarnings(each) for each in UNCLOSED_ON_3_10]

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "api.md"

# A program may be a check of several methods; it needs to run only once.
PROGRAMS = list({check.function: check for check in all_checks()}.values())


def name_of(check: Check) -> str:
    return f"{check.method}-{check.name}".replace(" ", "_")


@pytest.mark.parametrize("check", PROGRAMS, ids=name_of)
def test_a_loop_observes_what_asyncios_does(
    check: Check, loop_kind: str, request: pytest.FixtureRequest
) -> None:
    expected = on_asyncio(check)
    given = request.getfixturevalue(check.takes)
    assert observe(check, given) == expected


def test_every_method_and_parameter_of_this_python_is_proven() -> None:
    assert [row.key for row in table.rows() if row.is_unproven] == []


def test_what_is_not_checked_is_a_row_of_the_api_without_a_check() -> None:
    rows = {row.key: row for row in table.rows()}
    assert [key for key in table.UNCHECKED if key not in rows or rows[key].checks] == []


def test_every_check_is_about_a_method_and_parameters_that_exist() -> None:
    known = {row.key for row in table.rows()}
    named = {(check.method, name) for check in all_checks() for name in ("", *check.parameters)}
    assert named - known == set()


@pytest.mark.parametrize("kind", [parameter(kind) for kind in OURS])
def test_signatures_are_asyncios(kind: str) -> None:
    rows = [row for row in table.rows() if row.is_here]
    differing = {row.key: table.signature_difference(row, kind) for row in rows}
    assert {key: found for key, found in differing.items() if found} == {}


def test_what_came_and_went_with_a_version_is_here_accordingly() -> None:
    here = {row.key for row in table.rows() if row.is_here}
    since = {key: sys.version_info >= version for key, version in surface.SINCE.items()}
    until = {key: sys.version_info < version for key, version in surface.UNTIL.items()}
    expected = {**since, **until}
    assert {key: key in here for key in expected} == expected


def test_the_document_lists_the_rows_of_this_python() -> None:
    written = document.of_this_python(document.read(DOCUMENT.read_text(encoding="utf-8")))
    here = {row.key: row.pythons for row in table.rows() if row.is_here}
    listed = {key: cells[document.PYTHONS] for key, cells in written.items()}
    assert listed == here


def test_the_document_says_by_which_checks() -> None:
    written = document.of_this_python(document.read(DOCUMENT.read_text(encoding="utf-8")))
    said = {key: set(cells[document.SENTENCES].split("<br>")) for key, cells in written.items()}
    here = [row for row in table.rows() if row.is_here]
    unsaid = {
        row.key: set(table.sentences(row).split("<br>")) - said[row.key]
        for row in here
        if row.checks
    }
    assert {key: sentences for key, sentences in unsaid.items() if sentences} == {}


def test_the_document_says_same_of_every_row() -> None:
    """As the tests above demand it of the loops: else it was written before a repair. The Python
    that wrote it is a newer one: of what went with an earlier one it says nothing."""
    written = document.of_this_python(document.read(DOCUMENT.read_text(encoding="utf-8")))
    answers = {key: set(cells[document.ORACLE + 1 :]) for key, cells in written.items()}
    expected = {key: {table.ABSENT if key in surface.UNTIL else table.SAME} for key in answers}
    assert {key: found for key, found in answers.items() if found != expected[key]} == {}


class TestTheComparisonOfDocuments:
    """document.outdated(), which `--check` prints."""

    @pytest.fixture
    def current(self) -> str:
        return _document([["`method`", "", "", "", "`1`", table.SAME, table.SAME]])

    def test_equal_documents_are_not_outdated(self, current: str) -> None:
        assert document.outdated(current, current) == []

    def test_another_kernel_does_not_matter(self, current: str) -> None:
        assert document.outdated(current.replace("Linux 6", "Linux 7"), current) == []

    def test_a_row_that_is_missing_or_left_over_is_named(self, current: str) -> None:
        other = current.replace("`method`", "`other`")
        expected = ["method is not in the file", "other is in the file only"]
        assert document.outdated(other, current) == expected

    def test_another_result_is_named(self, current: str) -> None:
        other = current.replace(table.SAME, "✗ differs", 1)
        (found,) = document.outdated(other, current)
        assert "'✗ differs' is now '✓ same'" in found

    def test_what_asyncio_observed_matters_on_the_same_python_only(self, current: str) -> None:
        other = current.replace("`1`", "`2`")
        assert document.outdated(other, current) != []
        assert document.outdated(other.replace("CPython 3", "CPython 4"), current) == []


def _document(rows: list[list[str]]) -> str:
    heading = document.HEADING.format(
        python="3.13.0", kernel="6.1", methods=1, parameters=0, checks=1
    )
    return "\n".join([heading, *map(document.line, rows)])


def test_cells_survive_being_written_and_read() -> None:
    row = ["`method`", "`parameter`", "3.11+", "a | b", "`{'a': 1} | 2`", "✗ x<br>✗ y", ""]
    read = document.read(document.line(row))
    assert read["method", "parameter"][2:] == [cell.replace("|", "\\|") for cell in row[2:]]


def test_a_signature_differs_by_form_names_kinds_and_defaults() -> None:
    async def one(a: int, *, b: int = 1) -> None: ...
    async def renamed(c: int, *, b: int = 1) -> None: ...
    async def positional(a: int, b: int = 1) -> None: ...
    async def other_default(a: int, *, b: int = 2) -> None: ...
    def no_coroutine(a: int, *, b: int = 1) -> None: ...

    signature = surface.Signature.of(one)
    assert signature.difference(signature) == signature.parameter_difference("b", signature) == ""
    assert signature.difference(surface.Signature.of(renamed)) == "coroutine(c, b)"
    assert signature.difference(surface.Signature.of(no_coroutine)) == "function(a, b)"
    for other in (positional, other_default):
        assert signature.parameter_difference("b", surface.Signature.of(other))
    assert signature.parameter_difference("a", surface.Signature.of(renamed)) == "missing"


@pytest.mark.parametrize(
    ("pythons", "is_one"),
    [("", True), ("3.10+", True), ("4.0+", False), ("< 3.10", False), ("< 4.0", True)],
)
def test_a_row_is_of_this_python_or_not(pythons: str, is_one: bool) -> None:
    row = ["`method`", "", pythons, "", "", "", ""]
    found = document.of_this_python(document.read(document.line(row)))
    assert bool(found) is is_one
