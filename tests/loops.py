"""The loops that every behaviour is asked of, and the only place that looks inside ours.

stdlib asyncio is the oracle: a test that it cannot pass is either wrong or belongs to a
difference that is meant and listed in differences.py.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import sys
from collections.abc import Callable
from typing import Any

import pytest

OURS = ("io_uring", "epoll")
ALL = (*OURS, "asyncio")

LoopFactory = Callable[[], asyncio.AbstractEventLoop]

SYSCALL_IO_URING_SETUP = 425  # the same number on every architecture
IO_URING_PARAMS_BYTES = 120
FEATURES_OFFSET = 20  # of `features` in struct io_uring_params
FEAT_RSRC_TAGS = 1 << 10  # the newest bit that 5.13 has


def make_loop(kind: str) -> asyncio.AbstractEventLoop:
    if kind == "asyncio":
        return asyncio.SelectorEventLoop()
    import uringloop

    return uringloop.new_event_loop(backend=kind)


def run(kind: str, main: Callable[[], object]) -> object:
    """asyncio.run(main()) on a loop of `kind`, on every Python: Runner came with 3.11."""
    if sys.version_info >= (3, 11):
        with asyncio.Runner(loop_factory=lambda: make_loop(kind)) as runner:
            return runner.run(main())
    asyncio.set_event_loop_policy(_policy(kind))
    return asyncio.run(main())


def _policy(kind: str) -> asyncio.AbstractEventLoopPolicy:
    class Policy(asyncio.DefaultEventLoopPolicy):
        def _loop_factory(self) -> asyncio.AbstractEventLoop:
            return make_loop(kind)

    return Policy()


def driver_leftovers(loop: asyncio.AbstractEventLoop) -> list[str]:
    """What the driver of an open loop of ours holds beyond what each loop has for itself.

    asyncio's loops have no driver, and that of a closed loop holds nothing by definition.
    """
    if not hasattr(loop, "driver_state"):
        return []
    state = loop.driver_state()
    counts = {
        "in flight": state.in_flight - loop._watches.is_armed,
        "watched descriptors": len(loop._watches) - loop._signals.is_watched,
        "receive buffers": state.buffers_held,
    }
    return [f"{name}: {count}" for name, count in counts.items() if count]


def parameter(kind: str) -> Any:
    """`kind` to parametrize a test by; skipped where the kernel refuses it."""
    refusal = io_uring_refusal() if kind == "io_uring" else None
    marks = [pytest.mark.skip(reason=refusal)] if refusal else []
    return pytest.param(kind, id=kind, marks=marks)


def io_uring_refusal() -> str | None:
    """Why the kernel has no io_uring for us, or None. Asks it, not our own probe."""
    libc = ctypes.CDLL(None, use_errno=True)
    params = ctypes.create_string_buffer(IO_URING_PARAMS_BYTES)
    fd = libc.syscall(SYSCALL_IO_URING_SETUP, 1, params)
    if fd < 0:
        return f"io_uring_setup: {os.strerror(ctypes.get_errno())}"
    os.close(fd)
    features = int.from_bytes(params.raw[FEATURES_OFFSET : FEATURES_OFFSET + 4], sys.byteorder)
    return None if features & FEAT_RSRC_TAGS else "the kernel's io_uring is older than 5.13's"
