"""Every path of the io_uring engine, by switching off what the preferred one needs (row 34)."""

from __future__ import annotations

import pytest
from children import run_program
from loops import io_uring_refusal

pytestmark = pytest.mark.skipif(io_uring_refusal() is not None, reason=str(io_uring_refusal()))

FEATURES = [
    "single_issuer",
    "defer_taskrun",
    "coop_taskrun",
    "registered_ring",
    "buffer_ring",
    "incremental_buffers",
    "multishot_recv",
    "multishot_accept",
    "multishot_recvmsg",
    "quiet_sends",
    "restricted_ring",
]


@pytest.mark.parametrize("feature", FEATURES)
def test_without_one_feature_streams_work(feature: str) -> None:
    """Rows 34 and 44: what a kernel does badly can be switched off."""
    _passes_without(feature)


@pytest.mark.parametrize(
    "features",
    [
        ["multishot_recv", "multishot_accept"],
        ["single_issuer", "defer_taskrun", "coop_taskrun"],
        ["defer_taskrun", "multishot_recv"],
        FEATURES,
    ],
    ids=["one-shot", "plain ring", "one-shot without deferred work", "nothing at all"],
)
def test_without_several_features_streams_work(features: list[str]) -> None:
    """Row 34: as on an older kernel."""
    _passes_without(*features)


def _passes_without(*features: str) -> None:
    out = run_program(
        "echo_and_bulk.py",
        URINGLOOP_BACKEND="io_uring",
        URINGLOOP_DISABLE=",".join(features),
    )
    assert out.splitlines() == ["io_uring", "echo and bulk passed"]


def test_epoll_passes_the_same_program() -> None:
    out = run_program("echo_and_bulk.py", URINGLOOP_BACKEND="epoll")
    assert out.splitlines() == ["epoll", "echo and bulk passed"]


@pytest.mark.parametrize("limit", ["nofile", "memlock"])
def test_tight_limits_of_the_process_do_not_hinder(limit: str) -> None:
    """Rows 28 and 30: no memory to lock; the usual 1024 descriptors and not one more."""
    out = run_program("tight_limits.py", limit, URINGLOOP_BACKEND="io_uring")
    assert out.splitlines() == ["64 loops", "echo and bulk passed"]
