"""fork without exec: a child gets a fresh loop or a clear error, its parent notices nothing.

Each test is a program, for a forked copy of the test runner is nobody's friend.
"""

from __future__ import annotations

import pytest
from children import ended_program, run_program


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


@pytest.mark.difference("fork_that_leaves")
def test_a_child_may_end_as_any_program_does(loop_kind: str) -> None:
    """Row 26: by its interpreter's end, with its parent's transports alive in it. Python may
    complain there of what was left, and of nothing worse."""
    ended = ended_program("forking.py", loop_kind, "leave_in_child")
    assert (ended.returncode, ended.stdout) == (0, "parent: echo\n"), ended.stderr
    worse = ("Fatal Python error", "SystemError", "AttributeError", "TypeError", "AssertionError")
    assert not any(word in ended.stderr for word in worse), ended.stderr


def test_many_children_leave_the_parents_connections_alone(loop_kind: str) -> None:
    """Row 26: forks in the middle of traffic, the children end at once."""
    out = run_program("forking.py", loop_kind, "fork_in_traffic")
    assert out.splitlines() == ["parent: echo"]


def test_a_process_that_forks_beside_a_running_loop_does_not_disturb_it(loop_kind: str) -> None:
    """Row 26: the loop is in another thread, maybe in the middle of a turn."""
    out = run_program("forking.py", loop_kind, "fork_beside_a_running_loop")
    assert out.splitlines() == ["child: echo"] * 3 + ["parent: echo"]


def test_a_pool_of_forked_processes_works_for_a_running_loop(loop_kind: str) -> None:
    """Row 26."""
    assert run_program("forking.py", loop_kind, "process_pool") == "parent: echo\n"


def test_workers_forked_from_a_loaded_program_share_its_listening_socket(loop_kind: str) -> None:
    """Row 26: as gunicorn's. They are killed one after the other; the last one still serves,
    and ends in order when it is asked to."""
    assert run_program("prefork.py", loop_kind) == "served to the last\n"


def test_forked_workers_serve_in_pythons_development_mode(loop_kind: str) -> None:
    """Debug mode, a debugging allocator; how long callbacks took may be said on stderr."""
    ended = ended_program("prefork.py", loop_kind, PYTHONDEVMODE="1")
    assert (ended.returncode, ended.stdout) == (0, "served to the last\n"), ended.stderr


@pytest.mark.parametrize(
    "scenario",
    [
        "busy",
        "busy_late",
        "busy_unix",
        "busy_calls",
        "busy_thread",
        "stopping",
        "stopping_unix",
        "stopping_calls",
        "dying",
        "competing",
    ],
)
def test_a_connection_to_several_processes_is_served_by_one_that_can(
    scenario: str, loop_kind: str
) -> None:
    """Row 26: as when workers that share a socket are slow, or replaced one by one. io_uring's own
    accept would tell one process alone."""
    assert run_program("shared_listener.py", loop_kind, scenario) == "all served\n"
