"""Errnos that nobody expects from a call: errors like all others, of the one concerned."""

from __future__ import annotations

import pytest
from children import run_program


@pytest.mark.parametrize("kind", ["epoll", "asyncio"])
def test_an_errno_that_nobody_has_heard_of_is_an_error_of_its_connection(kind: str) -> None:
    """Row 43: for receiving, sending, connecting and accepting. io_uring makes no system calls
    that a filter could answer."""
    assert run_program("odd_errnos.py", kind) == "none of them matters\n"
