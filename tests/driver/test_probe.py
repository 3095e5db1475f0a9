"""ul_probe: says which step failed with what, and never crashes; then epoll does."""

from __future__ import annotations

import errno
import json

import pytest
from uringloop.driver._engine import ffi, lib

from .conftest import ALL_FEATURES, FEATURES, io_uring_refusal
from .isolation import run_isolated

IO_URING_SETUP, IO_URING_ENTER, IO_URING_REGISTER = 425, 426, 427
DENIALS = [errno.EPERM, errno.EACCES, errno.ENOSYS]
needs_io_uring = pytest.mark.skipif(io_uring_refusal() is not None, reason=str(io_uring_refusal()))


def probe(disabled=0):
    result = ffi.new("struct ul_probe_result *")
    lib.ul_probe(disabled, result)
    return result


@pytest.mark.parametrize("error", DENIALS)
def test_setup_denied_is_told_and_epoll_works(error):
    """Row 1."""
    told = json.loads(run_isolated("probe_denied.py", IO_URING_SETUP, error))
    assert told == {
        "features": 0,
        "step": lib.UL_PROBE_SETUP,
        "error": error,
        "echoes": True,
    }


@needs_io_uring
@pytest.mark.parametrize("error", DENIALS)
def test_enter_denied_is_told_and_epoll_works(error):
    """Row 2: set-up succeeds, but nothing can be submitted."""
    told = json.loads(run_isolated("probe_denied.py", IO_URING_ENTER, error))
    assert told == {
        "features": 0,
        "step": lib.UL_PROBE_ENTER,
        "error": error,
        "echoes": True,
    }


@needs_io_uring
@pytest.mark.parametrize("error", DENIALS)
def test_register_denied_leaves_what_works_without_it_or_tells_the_step(error):
    """Row 2: without io_uring_register a disabled ring cannot be enabled, and there are no
    buffer rings; a plain ring would work. Either answer is right if it is the truth."""
    told = json.loads(run_isolated("probe_denied.py", IO_URING_REGISTER, error))
    assert told["echoes"]
    if told["features"]:
        assert told["features"] & lib.UL_FEATURE_IO_URING
        assert not told["features"] & lib.UL_FEATURE_BUFFER_RING
        assert (told["step"], told["error"]) == (lib.UL_PROBE_DONE, 0)
    else:
        assert (told["step"], told["error"]) == (lib.UL_PROBE_REGISTER, error)


@needs_io_uring
def test_without_memory_to_lock_64_engines_run_on_what_the_probe_finds():
    """Row 28: kernels 5.12 to 6.13 charge no ring to RLIMIT_MEMLOCK, and those before and
    after do. The probe tells, and what it finds has to work 64 times."""
    told = json.loads(run_isolated("locked_memory.py"))
    if told["features"]:
        assert (told["step"], told["error"]) == (lib.UL_PROBE_DONE, 0)
    else:
        assert (told["step"], told["error"]) == (lib.UL_PROBE_SETUP, errno.ENOMEM)


@needs_io_uring
def test_a_kernel_with_io_uring_passes_every_step():
    result = probe()
    assert result.features & lib.UL_FEATURE_IO_URING
    assert (result.step, result.error) == (lib.UL_PROBE_DONE, 0)
    assert result.kernel_features


@needs_io_uring
@pytest.mark.parametrize("name", FEATURES)
def test_a_disabled_feature_is_not_found(name):
    """Row 34."""
    feature = getattr(lib, f"UL_FEATURE_{name.upper()}")
    result = probe(feature)
    assert result.features & lib.UL_FEATURE_IO_URING
    assert not result.features & feature


@needs_io_uring
def test_features_that_need_a_disabled_one_are_not_found():
    without_ring = probe(lib.UL_FEATURE_BUFFER_RING).features
    without_issuer = probe(lib.UL_FEATURE_SINGLE_ISSUER).features
    assert not without_ring & lib.UL_FEATURE_MULTISHOT_RECV
    assert not without_ring & lib.UL_FEATURE_MULTISHOT_RECVMSG
    assert not without_ring & lib.UL_FEATURE_INCREMENTAL_BUFFERS
    assert not without_issuer & lib.UL_FEATURE_DEFER_TASKRUN
    assert not probe(ALL_FEATURES).features & ALL_FEATURES


def test_io_uring_disabled_is_not_tried():
    assert probe(lib.UL_FEATURE_IO_URING).features == 0


@pytest.mark.usefixtures("descriptors")
def test_probing_leaves_nothing_open():
    for _ in range(20):
        probe()


def test_epoll_waits_in_milliseconds_where_nanoseconds_are_denied():
    assert run_isolated("wait_in_milliseconds.py") == "ok\n"


def test_a_steady_echo_on_epoll_registers_nothing_anew():
    """Two system calls for a message and one for a turn are what epoll needs; the script
    runs a thousand echoes with epoll_ctl denied."""
    assert run_isolated("steady_echo.py") == "ok\n"
