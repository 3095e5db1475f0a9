"""Subinterpreters: a clear refusal, from which the main interpreter takes no harm."""

from __future__ import annotations

import pytest
from children import run_program


@pytest.mark.parametrize("when", ["first", "later"])
def test_a_subinterpreter_is_refused_by_its_number(when: str) -> None:
    """asyncio's own modules make CPython 3.12.1 crash in its end: nothing may be imported."""
    *refusals, imported = run_program("subinterpreter.py", when).splitlines()
    assert imported == "uringloop"
    assert refusals == [
        "uringloop works in the main interpreter only, and this is subinterpreter "
        f"{number}; run loops in threads or processes instead"
        for number in (1, 2)
    ]
