"""What the kernel says about our own threads, and about the requests of io_uring that it knows."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
import time

from loops import IO_URING_PARAMS_BYTES, SYSCALL_IO_URING_SETUP

_SYSCALL_IO_URING_REGISTER = 427
_REGISTER_PROBE = 8
_OPERATIONS_MAX = 256
_HEAD_BYTES, _OPERATION_BYTES = 16, 8  # of struct io_uring_probe, and of each entry behind it
_IS_SUPPORTED = 1  # in an entry's 16 bits of flags, behind its first two bytes

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


def io_uring_knows(operation: int) -> bool:
    """Whether the kernel's list of requests (IORING_REGISTER_PROBE, Linux 5.6) has IORING_OP_*
    number `operation`; False where it denies io_uring."""
    libc = ctypes.CDLL(None)
    params = ctypes.create_string_buffer(IO_URING_PARAMS_BYTES)
    ring = libc.syscall(SYSCALL_IO_URING_SETUP, 1, params)
    if ring < 0:
        return False
    answer = ctypes.create_string_buffer(_HEAD_BYTES + _OPERATION_BYTES * _OPERATIONS_MAX)
    result = libc.syscall(
        _SYSCALL_IO_URING_REGISTER, ring, _REGISTER_PROBE, answer, _OPERATIONS_MAX
    )
    os.close(ring)
    flags = _HEAD_BYTES + _OPERATION_BYTES * operation + 2
    is_supported = int.from_bytes(answer.raw[flags : flags + 2], sys.byteorder) & _IS_SUPPORTED
    return result == 0 and bool(is_supported)
