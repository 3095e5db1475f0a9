"""Which engine is chosen, and what is said about it."""

from __future__ import annotations

import dataclasses
import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

import uringloop
from uringloop.driver.choose import choose, refusal_in_words
from uringloop.driver.features import (
    FEATURE_BITS,
    Trial,
    disabled_features,
    feature_names,
)

ROOT = Path(__file__).resolve().parent.parent


def doctor(**environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "uringloop", "doctor"],
        env={**os.environ, **environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
    )


@pytest.mark.parametrize("source", ["argument", "environment"])
def test_epoll_is_used_where_it_is_asked_for(source: str) -> None:
    if source == "argument":
        choice = choose("epoll", {})
    else:
        choice = choose(None, {"URINGLOOP_BACKEND": "epoll"})
    assert (choice.backend, choice.features) == ("epoll", 0)
    assert "asks for epoll" in choice.reason


@pytest.mark.parametrize("backend", ["kqueue", "IO_URING", "uring"])
def test_an_unknown_backend_is_refused_with_the_known_ones(backend: str) -> None:
    with pytest.raises(ValueError, match="must be one of: auto, io_uring, epoll"):
        choose(None, {"URINGLOOP_BACKEND": backend})


def test_io_uring_that_is_switched_off_leaves_epoll_and_the_reason() -> None:
    choice = choose(None, {"URINGLOOP_DISABLE": "io_uring"})
    assert choice.backend == "epoll"
    assert choice.reason == "URINGLOOP_DISABLE switches io_uring off; using epoll"


def test_io_uring_that_is_demanded_and_switched_off_is_an_error_with_the_remedy() -> None:
    with pytest.raises(RuntimeError, match=r"demands io_uring, but .* choose 'auto' or 'epoll'"):
        choose("io_uring", {"URINGLOOP_DISABLE": "io_uring"})


def test_an_unknown_feature_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="names 'multishot'; the features are: io_uring, "):
        disabled_features({"URINGLOOP_DISABLE": "buffer_ring, multishot"})


def test_what_cannot_do_without_a_switched_off_feature_goes_with_it() -> None:
    names = feature_names(disabled_features({"URINGLOOP_DISABLE": "buffer_ring,single_issuer"}))
    assert set(names) == {
        "buffer_ring",
        "incremental_buffers",
        "multishot_recv",
        "multishot_recvmsg",
        "quiet_sends",
        "single_issuer",
        "defer_taskrun",
    }


@pytest.mark.parametrize("name", [name for name in FEATURE_BITS if name != "io_uring"])
def test_a_switched_off_feature_is_not_used(name: str) -> None:
    choice = choose("auto", {"URINGLOOP_DISABLE": name})
    assert name not in feature_names(choice.features)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (errno.ENOSYS, "the kernel has no io_uring"),
        (errno.EOPNOTSUPP, "io_uring is too old; it is used from Linux 5.13 on"),
        (errno.ENOMEM, "RLIMIT_MEMLOCK"),
        (errno.EINVAL, r"io_uring_setup: EINVAL\)"),
    ],
)
def test_a_refusal_names_the_errno_and_what_is_known_of_it(error: int, words: str) -> None:
    said = refusal_in_words(Trial(0, "io_uring_setup", error))
    assert errno.errorcode[error] in said
    with pytest.raises(AssertionError, match=words):
        raise AssertionError(said)


def test_probe_is_a_frozen_record_that_agrees_with_a_new_loop() -> None:
    found = uringloop.probe()
    loop = uringloop.new_event_loop()
    try:
        assert (loop.backend, loop.backend_reason) == (found.backend, found.reason)
    finally:
        loop.close()
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.kernel = "another"  # type: ignore[misc]


def test_the_doctor_names_the_engine_and_the_reason() -> None:
    found = uringloop.probe()
    answer = doctor()
    assert f"{found.backend}: {found.reason}" in answer.stdout
    assert found.kernel in answer.stdout


def test_the_doctor_tells_what_is_switched_off() -> None:
    answer = doctor(URINGLOOP_DISABLE="multishot_accept")
    assert "switched off     multishot_accept" in answer.stdout


def test_the_doctor_says_in_one_line_what_keeps_loops_from_starting() -> None:
    answer = doctor(URINGLOOP_BACKEND="nonsense")
    assert answer.returncode == 1
    assert answer.stdout.startswith("uringloop cannot run here: URINGLOOP_BACKEND is 'nonsense'")
    assert answer.stderr == ""


def test_the_doctor_advises_compiled_modules() -> None:
    answer = doctor(URINGLOOP_PURE="1")
    assert answer.returncode == 1
    assert "* the hot modules are interpreted" in answer.stdout
