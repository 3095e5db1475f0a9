"""What the kernel says about our own threads."""

from __future__ import annotations

import os
import platform
import time

# poll-like system calls that a loop waits in, by machine: epoll_wait, epoll_pwait,
# epoll_pwait2, io_uring_enter.
_WAITS = {"x86_64": {232, 281, 441, 426}, "aarch64": {22, 441, 426}}


def wait_until_asleep(native_id: int, limit_s: float = 5.0) -> None:
    """Returns when the thread sleeps in the system call that its loop waits in.

    Call it from another thread. Raises TimeoutError when that does not happen.
    """
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        if _is_waiting(native_id):
            return
        os.sched_yield()
    raise TimeoutError(f"thread {native_id} never went to sleep")


def _is_waiting(native_id: int) -> bool:
    with open(f"/proc/self/task/{native_id}/syscall") as file:
        number = file.read().split()[0]
    return number.isdigit() and int(number) in _WAITS[platform.machine()]
