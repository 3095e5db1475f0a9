"""The border between engine and kernel, as border.h has it."""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from tests.simulator.chance import Temper
from uringloop.driver.binding import ffi, lib
from uringloop.errors import ANSWERS

FAULTS_AT_ONCE = 64
LOSING_MAX = 700  # in a thousand: a cancel has to win in the end

# A relay is made of receives and sends.
OPERATIONS: dict[str, int] = {
    name: getattr(lib, f"UB_{name.upper()}") for name in ANSWERS if name != "relay"
}
NAMES = {number: name for name, number in OPERATIONS.items()}

# epoll_ctl(2): what any operation ends with that cannot wait for its descriptor.
REGISTER = "register"
REGISTER_ANSWERS = frozenset({errno.ENOMEM, errno.ENOSPC})


class Fault(NamedTuple):
    """An errno that was made up; `operation` is a name of errors.py, or REGISTER."""

    fd: int
    operation: str
    error: int


@contextmanager
def faults(seed: int, temper: Temper) -> Iterator[None]:
    """Inside, the border is as `temper` says; the same seed makes the same choices."""
    settings = ffi.new(
        "struct ub_temper *",
        {
            "errors": temper.errors,
            "not_now": temper.interrupts,
            "cuts": temper.cuts,
            "shortages": temper.shortages,
            "interrupts": temper.interrupts,
            "losing": min(temper.losing, LOSING_MAX),
            "delays": temper.delays,
        },
    )
    lib.ub_begin(seed, settings)
    try:
        yield
    finally:
        lib.ub_end()


def allow(answers: dict[str, frozenset[int]]) -> None:
    """Which errnos each operation may be given; one that is missing is given none."""
    for name, number in OPERATIONS.items():
        errnos = sorted(answers.get(name, ()))
        lib.ub_allow(number, errnos, len(errnos))
    errnos = sorted(answers.get(REGISTER, ()))
    lib.ub_allow(lib.UB_REGISTER, errnos, len(errnos))


def take_faults() -> list[Fault]:
    """The errnos that were made up since the last call."""
    taken: list[Fault] = []
    array = ffi.new("struct ub_fault[]", FAULTS_AT_ONCE)
    while count := lib.ub_take_faults(array, FAULTS_AT_ONCE):
        for fault in array[0:count]:
            taken.append(Fault(fault.fd, NAMES.get(fault.operation, REGISTER), fault.error))
    return taken


def met() -> Counter[str]:
    """How often each kind of fault came since the border was opened; kinds that did not are 0."""
    counts: Counter[str] = Counter()
    for kind in range(lib.UB_KINDS):
        name = lib.ub_kind_name(kind)
        if name != ffi.NULL:
            counts[ffi.string(name).decode()] = lib.ub_count(kind)
    return counts
