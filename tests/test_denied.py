"""io_uring denied by a seccomp filter, as container runtimes do: epoll serves, and says why."""

from __future__ import annotations

import errno

import pytest
from children import run_program
from loops import io_uring_refusal

SYSCALLS = {"io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427}
ERRNOS = ["EPERM", "ENOSYS", "EACCES"]

needs_io_uring = pytest.mark.skipif(
    io_uring_refusal() is not None, reason=f"nothing to deny: {io_uring_refusal()}"
)


@needs_io_uring
@pytest.mark.parametrize("error", ERRNOS)
@pytest.mark.parametrize("syscall", SYSCALLS)
def test_a_denied_system_call_means_epoll_and_a_reason(syscall: str, error: str) -> None:
    """Rows 1 and 2: TCP echo, bulk and TLS all work, nothing is printed, the reason names
    the errno and the call."""
    number, value = SYSCALLS[syscall], getattr(errno, error)
    out = run_program("denied.py", str(number), str(value), URINGLOOP_BACKEND="auto")
    backend, reason, *rest = out.splitlines()
    assert backend == "epoll"
    assert error in reason
    assert syscall in reason
    assert rest == ["echo and bulk passed"]


@needs_io_uring
@pytest.mark.parametrize("syscall", SYSCALLS)
def test_io_uring_demanded_and_denied_is_an_error_with_a_remedy(syscall: str) -> None:
    """Row 1."""
    number = str(SYSCALLS[syscall])
    out = run_program("denied.py", number, str(errno.EPERM), URINGLOOP_BACKEND="io_uring")
    kind, message = out.splitlines()
    assert kind == "RuntimeError"
    assert "EPERM" in message
    assert "seccomp" in message
    assert "URINGLOOP_BACKEND" in message


@needs_io_uring
def test_a_denial_after_the_loop_was_made_does_not_hang() -> None:
    """Row 2: a program that locks itself down at its start-up, with its loop already made."""
    out = run_program("denied_later.py")
    assert out.splitlines()[-1] in ("refused", "echo and bulk passed")
