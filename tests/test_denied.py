"""io_uring denied by a seccomp filter, as container runtimes do: epoll serves, and says why.

Each case is a process of its own, which then echoes on TCP, TLS and UDP and runs a child.
"""

from __future__ import annotations

import errno
import functools

import pytest
from children import run_program
from container_profiles import PROFILES
from extent import IS_LONG
from loops import io_uring_refusal

from uringloop.driver.features import FEATURE_BITS, disabled_features, feature_names

SYSCALLS = {"io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427}
ERRNOS = ["EPERM", "ENOSYS", "EACCES"]
OPCODE = 1  # the index of io_uring_register's argument

needs_io_uring = pytest.mark.skipif(
    io_uring_refusal() is not None, reason=f"nothing to deny: {io_uring_refusal()}"
)


@needs_io_uring
@pytest.mark.parametrize("error", ERRNOS)
@pytest.mark.parametrize("syscall", SYSCALLS)
def test_a_denied_system_call_means_epoll_and_a_reason(syscall: str, error: str) -> None:
    """Rows 1 and 2: all works, nothing is printed, the reason names the errno and the call."""
    number, value = SYSCALLS[syscall], getattr(errno, error)
    out = run_program("denied.py", str(number), str(value), URINGLOOP_BACKEND="auto")
    backend, reason, features, *rest = out.splitlines()
    assert (backend, features) == ("epoll", "")
    assert error in reason
    assert syscall in reason
    assert rest == ["smoke passed"]


@needs_io_uring
@pytest.mark.parametrize("error", ERRNOS)
def test_rings_that_cannot_be_enabled_mean_epoll_and_a_reason(error: str) -> None:
    """Row 2: a filter that knows single requests of io_uring_register."""
    backend, reason, features, *rest = _without_opcode(12, error)  # ENABLE_RINGS
    assert (backend, features) == ("epoll", "")
    assert f"io_uring_register: {error}" in reason
    assert rest == ["smoke passed"]


# The numbers of io_uring_register's requests, and the feature that each is for.
NOT_MISSED = {
    "IORING_REGISTER_PROBE": (8, "files"),
    "IORING_REGISTER_RESTRICTIONS": (11, "restricted_ring"),
    "IORING_REGISTER_RING_FDS": (20, "registered_ring"),
    "IORING_UNREGISTER_RING_FDS": (21, ""),
    "IORING_REGISTER_PBUF_RING": (22, "buffer_ring"),
    "IORING_UNREGISTER_PBUF_RING": (23, ""),
}


@needs_io_uring
@pytest.mark.parametrize("error", ERRNOS if IS_LONG else ERRNOS[:1])
@pytest.mark.parametrize("opcode", NOT_MISSED)
def test_a_single_denied_request_costs_no_more_than_what_it_is_for(opcode: str, error: str) -> None:
    """Row 2: io_uring goes on without it."""
    number, feature = NOT_MISSED[opcode]
    lost = feature_names(disabled_features({"URINGLOOP_DISABLE": feature}))
    backend, _, features, *rest = _without_opcode(number, error)
    assert backend == "io_uring"
    assert set(features.split(",")) == _features_here() - set(lost)
    assert rest == ["smoke passed"]


def _without_opcode(opcode: int, error: str) -> list[str]:
    arguments = SYSCALLS["io_uring_register"], getattr(errno, error), OPCODE, opcode
    return run_program("denied.py", *map(str, arguments), URINGLOOP_BACKEND="auto").splitlines()


@functools.cache
def _features_here() -> set[str]:
    """What a filter that denies a request that nobody has leaves."""
    features = set(_without_opcode(10_000, "EPERM")[2].split(","))
    assert features <= set(FEATURE_BITS)
    return features


@pytest.mark.parametrize("profile", PROFILES)
def test_the_default_profile_of_a_container_runtime_means_epoll_and_a_reason(
    profile: str,
) -> None:
    """Row 1: also all else that such a container denies is not missed."""
    error = {"docker": "EPERM", "podman": "ENOSYS"}[profile]
    out = run_program("in_container.py", profile, URINGLOOP_BACKEND="auto")
    backend, reason, *rest = out.splitlines()
    assert backend == "epoll"
    assert f"io_uring_setup: {error}" in reason
    assert rest == ["smoke passed"]


@pytest.mark.parametrize(
    ("setting", "remedy"),
    [
        ("0", "allow io_uring_setup, io_uring_enter and io_uring_register in the seccomp profile"),
        ("1", "io_uring_disabled is 1; set it to 0, or put the user into the group that"),
        ("2", "the sysctl kernel.io_uring_disabled is 2; set it to 0"),
    ],
)
def test_a_denial_by_the_sysctl_is_told_from_one_by_a_filter(setting: str, remedy: str) -> None:
    """Row 1: the kernel answers EPERM in both cases."""
    out = run_program("io_uring_disabled.py", setting, URINGLOOP_BACKEND="auto")
    if out.startswith("no mount:"):
        pytest.skip(out.strip())
    found, backend, reason, *rest = out.splitlines()
    assert (found, backend) == (setting, "epoll")
    assert "io_uring_setup: EPERM" in reason
    assert remedy in reason
    assert rest == ["smoke passed"]


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
