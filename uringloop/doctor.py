"""`python -m uringloop doctor`: which engine a loop would use here, why, what would mend it.

Needs nothing but the package itself: it is for those for whom something does not work.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from uringloop import __version__
from uringloop.colours import coloured
from uringloop.driver.features import FEATURE_BITS
from uringloop.probe import Probe, probe

# Below this many descriptors a busy server runs out early.
_OPEN_FILES_ENOUGH = 4096


def doctor() -> int:
    """Prints what kernel and limits allow, with remedies."""
    try:
        found = probe()
    except (RuntimeError, ValueError) as error:
        print(f"{coloured('uringloop cannot run here:', 'error', sys.stdout)} {error}")
        return 1
    for line in report(found):
        print(line)
    advice = list(remedies(found))
    for line in advice:
        print(f"  {coloured('*', 'attention', sys.stdout)} {line}")
    return 1 if advice else 0


def report(found: Probe) -> Iterator[str]:
    """The record in lines for a person."""
    yield f"uringloop {__version__} on Linux {found.kernel}"
    engine = coloured(found.backend, "good" if found.io_uring else "attention", sys.stdout)
    yield f"  engine           {engine}: {found.reason}"
    yield f"  hot modules      {'compiled' if found.compiled else 'interpreted'}"
    missing = [name for name in FEATURE_BITS if name not in found.features]
    yield f"  features         {', '.join(found.features) or 'none'}"
    if found.io_uring and missing:
        yield f"  not in this kernel  {', '.join(missing)}"
    if found.disabled:
        yield f"  switched off     {', '.join(found.disabled)} (URINGLOOP_DISABLE)"
    yield f"  open files       {found.open_files_limit} of at most {found.open_files_maximum}"
    locked = found.locked_bytes_limit
    yield f"  locked memory    {'unlimited' if locked < 0 else f'{locked // 1024} KiB'}"


def remedies(found: Probe) -> Iterator[str]:
    """What would make things better here, one line each."""
    if not found.io_uring:
        yield found.refusal or "io_uring is not usable"
    elif "multishot_recv" not in found.features:
        yield "kernel 6.0 or newer would bring multishot receive; 6.1 is the first to run well"
    if not found.compiled:
        yield "the hot modules are interpreted: unset URINGLOOP_PURE, or build with a C compiler"
    if found.open_files_limit < min(_OPEN_FILES_ENOUGH, found.open_files_maximum):
        yield f"few open files: raise the limit, e.g. ulimit -n {found.open_files_maximum}"
