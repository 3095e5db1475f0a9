"""What this kernel allows, found out by trying, and what the user switched off.

The trial takes about a millisecond and is made once a process. A version string proves
nothing: kernels are patched, and containers deny system calls.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from dataclasses import dataclass

from uringloop.driver.binding import ffi, lib

# Names as in URINGLOOP_DISABLE and in probe() records, and their bits in engine.h.
FEATURE_BITS: dict[str, int] = {
    "io_uring": lib.UL_FEATURE_IO_URING,
    "single_issuer": lib.UL_FEATURE_SINGLE_ISSUER,
    "defer_taskrun": lib.UL_FEATURE_DEFER_TASKRUN,
    "coop_taskrun": lib.UL_FEATURE_COOP_TASKRUN,
    "registered_ring": lib.UL_FEATURE_REGISTERED_RING,
    "buffer_ring": lib.UL_FEATURE_BUFFER_RING,
    "incremental_buffers": lib.UL_FEATURE_INCREMENTAL_BUFFERS,
    "multishot_recv": lib.UL_FEATURE_MULTISHOT_RECV,
    "multishot_accept": lib.UL_FEATURE_MULTISHOT_ACCEPT,
    "multishot_recvmsg": lib.UL_FEATURE_MULTISHOT_RECVMSG,
    "quiet_sends": lib.UL_FEATURE_QUIET_SENDS,
    "zero_copy": lib.UL_FEATURE_ZERO_COPY,
    "restricted_ring": lib.UL_FEATURE_RESTRICTED_RING,
    "files": lib.UL_FEATURE_FILES,
    "file_names": lib.UL_FEATURE_FILE_NAMES,
    "file_truncate": lib.UL_FEATURE_FILE_TRUNCATE,
}

IO_URING = FEATURE_BITS["io_uring"]

# What cannot be had without what.
_NEEDS = {
    "defer_taskrun": "single_issuer",
    "incremental_buffers": "buffer_ring",
    "multishot_recv": "buffer_ring",
    "multishot_recvmsg": "buffer_ring",
    "quiet_sends": "buffer_ring",
    "file_names": "files",
    "file_truncate": "files",
}

_STEPS = {
    lib.UL_PROBE_SETUP: "io_uring_setup",
    lib.UL_PROBE_REGISTER: "io_uring_register",
    lib.UL_PROBE_ENTER: "io_uring_enter",
    lib.UL_PROBE_OPERATION: "a receive through the ring",
}


@dataclass(frozen=True)
class Trial:
    """The answer of one trial of io_uring.

    features   bits of FEATURE_BITS whose trial passed
    step       what failed, as a system call's name; None when io_uring works
    error      the errno of that step, 0 when io_uring works
    """

    features: int
    step: str | None
    error: int


# Says something of this moment, not of the kernel: there may be descriptors again later.
_OUT_OF_DESCRIPTORS = frozenset({errno.EMFILE, errno.ENFILE})

_trials: dict[int, Trial] = {}


def try_kernel(disabled: int) -> Trial:
    """Tries io_uring for real, without the features whose bits are in `disabled`."""
    trial = _trials.get(disabled)
    if trial is None:
        result = ffi.new("struct ul_probe_result *")
        lib.ul_probe(disabled, result)
        trial = Trial(result.features, _STEPS.get(result.step), result.error)
        if trial.error not in _OUT_OF_DESCRIPTORS:
            _trials[disabled] = trial
    return trial


def feature_names(features: int) -> tuple[str, ...]:
    """The names of the bits that are set, in FEATURE_BITS' order."""
    return tuple(name for name, bit in FEATURE_BITS.items() if features & bit)


def disabled_features(environment: Mapping[str, str] = os.environ) -> int:
    """The bits that URINGLOOP_DISABLE names, and those that cannot do without them.

    raises   ValueError for a name that is no feature
    """
    disabled = 0
    for name in environment.get("URINGLOOP_DISABLE", "").split(","):
        name = name.strip()
        if not name:
            continue
        if name not in FEATURE_BITS:
            known = ", ".join(FEATURE_BITS)
            raise ValueError(f"URINGLOOP_DISABLE names {name!r}; the features are: {known}")
        disabled |= FEATURE_BITS[name]
    for name, needed in _NEEDS.items():
        if disabled & FEATURE_BITS[needed]:
            disabled |= FEATURE_BITS[name]
    return disabled
