"""What kernel and process limits allow, as a record.

`python -m uringloop doctor` prints it for a person.
"""

from __future__ import annotations

import errno
import platform
import resource
from dataclasses import dataclass

from uringloop._rendering import is_compiled
from uringloop.driver.choose import choose, refusal_in_words
from uringloop.driver.features import disabled_features, feature_names, try_kernel

_SYSCTL = "/proc/sys/kernel/io_uring_disabled"


@dataclass(frozen=True)
class Probe:
    """The answers of one look at kernel and process.

    kernel               the kernel's release
    io_uring             whether io_uring passed its trial
    refusal              why it did not, in a sentence; None when it did
    failed_step          the system call that failed; None when none did
    failed_errno         its errno's name; None when none did
    features             names of the features whose trial passed
    disabled             names of the features that URINGLOOP_DISABLE switches off
    backend, reason      what a new loop would use now, and why
    io_uring_disabled    the sysctl kernel.io_uring_disabled; None where there is none
    open_files_limit     RLIMIT_NOFILE, soft
    open_files_maximum   RLIMIT_NOFILE, hard
    locked_bytes_limit   RLIMIT_MEMLOCK, soft; -1 is unlimited
    compiled             whether the compiled hot modules are in use
    """

    kernel: str
    io_uring: bool
    refusal: str | None
    failed_step: str | None
    failed_errno: str | None
    features: tuple[str, ...]
    disabled: tuple[str, ...]
    backend: str
    reason: str
    io_uring_disabled: int | None
    open_files_limit: int
    open_files_maximum: int
    locked_bytes_limit: int
    compiled: bool


def probe() -> Probe:
    """Looks at kernel, limits and environment.

    raises   RuntimeError or ValueError as new_event_loop() would in this environment
    """
    disabled = disabled_features()
    trial = try_kernel(0)
    choice = choose()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return Probe(
        kernel=platform.release(),
        io_uring=trial.error == 0,
        refusal=refusal_in_words(trial) if trial.error else None,
        failed_step=trial.step,
        failed_errno=errno.errorcode.get(trial.error) if trial.error else None,
        features=feature_names(trial.features),
        disabled=feature_names(disabled),
        backend=choice.backend,
        reason=choice.reason,
        io_uring_disabled=_read_sysctl(),
        open_files_limit=soft,
        open_files_maximum=hard,
        locked_bytes_limit=resource.getrlimit(resource.RLIMIT_MEMLOCK)[0],
        compiled=is_compiled(),
    )


def _read_sysctl() -> int | None:
    """kernel.io_uring_disabled; kernels before 6.6 have none."""
    try:
        with open(_SYSCTL) as file:
            return int(file.read())
    except (OSError, ValueError):
        return None
