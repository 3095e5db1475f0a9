"""Which engine a loop gets, and why. Every reason is kept, in words for a person."""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass

from uringloop.driver.features import IO_URING, Trial, disabled_features, try_kernel

BACKENDS = ("auto", "io_uring", "epoll")

_SYSCTL = "/proc/sys/kernel/io_uring_disabled"


@dataclass(frozen=True)
class Choice:
    """A decided engine.

    backend    "io_uring" or "epoll"
    reason     a sentence
    features   bits for ul_open
    demanded   whether another engine would be against the user's will
    """

    backend: str
    reason: str
    features: int
    demanded: bool = False


def choose(backend: str | None = None, environment: Mapping[str, str] = os.environ) -> Choice:
    """Decides between the engines.

    backend   "auto", "io_uring" or "epoll"; None asks URINGLOOP_BACKEND, default "auto"
    raises    ValueError for another name; RuntimeError, with the remedy, when io_uring is
              demanded and cannot be had
    """
    source = "the argument backend"
    if backend is None:
        source = "URINGLOOP_BACKEND"
        backend = environment.get(source) or "auto"
    if backend not in BACKENDS:
        raise ValueError(f"{source} is {backend!r}; it must be one of: {', '.join(BACKENDS)}")
    if backend == "epoll":
        return Choice("epoll", f"{source} asks for epoll", 0, demanded=True)
    refusal, features = _io_uring_refusal(environment)
    if refusal is None:
        demanded = backend == "io_uring"
        return Choice("io_uring", "io_uring passed its trial", features, demanded)
    if backend == "io_uring":
        raise RuntimeError(
            f"{source} demands io_uring, but {refusal}. Mend that, or choose 'auto' or 'epoll'."
        )
    return Choice("epoll", f"{refusal}; using epoll", 0)


def _io_uring_refusal(environment: Mapping[str, str]) -> tuple[str | None, int]:
    """Why io_uring is not used, None when it is; and its features."""
    disabled = disabled_features(environment)
    if disabled & IO_URING:
        return "URINGLOOP_DISABLE switches io_uring off", 0
    if struct.calcsize("P") != 8:
        return "io_uring is only used on 64-bit machines", 0
    trial = try_kernel(disabled)
    if trial.error:
        return refusal_in_words(trial), 0
    return None, trial.features & ~disabled


def refusal_in_words(trial: Trial) -> str:
    """What a failed trial means and, where that is known, what would mend it."""
    name = errno.errorcode.get(trial.error, str(trial.error))
    return f"io_uring is not usable ({trial.step}: {name}{_cause(trial.error)})"


def _cause(error: int) -> str:
    if error == errno.ENOSYS:
        return ": the kernel has no io_uring, or a container's profile or sandbox hides it"
    if error == errno.EOPNOTSUPP:
        return ": the kernel's io_uring is too old; it is used from Linux 5.13 on"
    if error == errno.ENOMEM:
        return ": not enough memory may be locked; raise RLIMIT_MEMLOCK"
    if error == errno.EMFILE:
        return ": the process has no descriptors left; raise RLIMIT_NOFILE"
    if error not in (errno.EPERM, errno.EACCES):
        return ""
    try:
        with open(_SYSCTL) as file:
            setting = file.read().strip()
    except OSError:
        setting = "0"
    if setting == "1":
        return (
            ": the sysctl kernel.io_uring_disabled is 1; set it to 0, or put the user into the"
            " group that kernel.io_uring_group names"
        )
    if setting != "0":
        return f": the sysctl kernel.io_uring_disabled is {setting}; set it to 0"
    return (
        ": a seccomp filter denies it, as container runtimes do by default; allow io_uring_setup,"
        " io_uring_enter and io_uring_register in the seccomp profile"
    )
