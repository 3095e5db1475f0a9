"""CPython's asyncio tests on CPython's own loop, through the same harness.

A failure here is a fault of the harness, or of CPython, not of our loops.
"""

from __future__ import annotations

from .adapters import classes_under_test

for _case in classes_under_test("asyncio"):
    globals()[_case.__name__] = _case
