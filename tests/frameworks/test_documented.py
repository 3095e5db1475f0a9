"""docs/frameworks.md as a whole: no section that no test runs, no block of an unknown kind."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.frameworks.documented import APP, DOCUMENT, sections

KINDS = {"python", "sh", "json"}
HERE = Path(__file__).parent


@pytest.mark.parametrize("section", [name for name in sections() if name != APP])
def test_a_section_is_run_by_a_test(section: str) -> None:
    if "```" in sections()[section]:
        tests = [path for path in HERE.glob("test_*.py") if path != Path(__file__)]
        assert any(f'"{section}"' in path.read_text() for path in tests)


def test_each_block_is_of_a_kind_that_tests_run() -> None:
    opened = re.findall(r"^```(\w+)$", DOCUMENT.read_text(), re.MULTILINE)
    assert set(opened) == KINDS
    assert DOCUMENT.read_text().count("```") == 2 * len(opened)
