"""A program that has done its work leaves no memory of the engine.

The border counts what the engine allocates and maps, and what it gives back. (LeakSanitizer and
valgrind would have to tell it from what the interpreter leaves, and the former needs the right to
trace its own process.) Each run of test_faults is looked at in the same way.
"""

from __future__ import annotations

import pytest
from children import run_program
from loops import OURS


@pytest.mark.parametrize("kind", OURS)
def test_echo_relay_tls_datagrams_and_calls_leave_no_memory(kind: str):
    assert run_program("moment.py", kind) == "True 0\n"
