"""fork without exec: a child gets a fresh loop or a clear error, its parent notices nothing.

Each test is a program, for a forked copy of the test runner is nobody's friend.
"""

from __future__ import annotations

import pytest
from children import run_program


@pytest.mark.parametrize("scenario", ["fork_while_running", "multiprocessing", "loop_made_before"])
def test_a_child_can_make_a_loop_of_its_own(scenario: str, loop_kind: str) -> None:
    """Row 26: the child echoes on its loop while the parent's connections wait."""
    out = run_program("forking.py", loop_kind, scenario)
    assert out.splitlines() == ["child: echo", "parent: echo"]


@pytest.mark.difference("fork")
@pytest.mark.parametrize(
    "scenario", ["run_parents_loop", "return_into_parents_loop", "close_parents_loop"]
)
def test_a_child_that_uses_its_parents_loop_is_told_and_harms_nobody(
    scenario: str, loop_kind: str
) -> None:
    """Row 26: a clear RuntimeError in the child; the parent's operations all end well."""
    out = run_program("forking.py", loop_kind, scenario)
    assert out.splitlines() == ["child: told", "parent: echo"]


@pytest.mark.difference("fork")
def test_what_a_child_no_longer_watches_its_parent_still_does(loop_kind: str) -> None:
    """Row 26: an epoll set and a pipe outlive the fork in both."""
    out = run_program("forking.py", loop_kind, "unwatch_in_child")
    assert out.splitlines() == ["parent: undisturbed"]


def test_many_children_leave_the_parents_connections_alone(loop_kind: str) -> None:
    """Row 26: forks in the middle of traffic, the children end at once."""
    out = run_program("forking.py", loop_kind, "fork_in_traffic")
    assert out.splitlines() == ["parent: echo"]
