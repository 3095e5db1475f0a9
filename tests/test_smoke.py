"""One of everything, in the circumstances of a whole process: threads, signals, dev mode,
dropped privileges. Denials are in test_denied.py, limits in test_limits.py."""

from __future__ import annotations

import os

import pytest
from children import run_program


def test_one_of_everything_works_in_several_threads_at_once(loop_kind: str) -> None:
    """Each with a loop of its own: TLS, a child and an executor's thread, too."""
    assert run_program("smoke_in_threads.py", loop_kind) == "smoke passed\n" * 4


def test_one_of_everything_works_in_a_storm_of_signals(loop_kind: str) -> None:
    """Row 24: three signals with handlers, SIGCHLD among them, from a process that sends
    nothing else."""
    assert run_program("signal_storm.py", loop_kind) == "weathered\n"


@pytest.mark.ours
def test_one_of_everything_works_in_pythons_development_mode(loop_kind: str) -> None:
    """Debug mode, a debugging allocator, and warnings that are errors."""
    out = run_program("smoke.py", URINGLOOP_BACKEND=loop_kind, PYTHONDEVMODE="1")
    assert out == "smoke passed\n"


@pytest.mark.skipif(os.getuid() != 0, reason="only root can drop privileges")
def test_a_loop_made_by_root_is_nobodys_when_its_process_is(loop_kind: str) -> None:
    """Row 27: the ring was made with root's credentials, and does not act with them."""
    out = run_program("privileges_dropped.py", loop_kind)
    assert out.splitlines() == ["refused"] * 3 + ["dropped"]
