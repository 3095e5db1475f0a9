"""A program that makes its loop and then gives up making rings: `sealed.py`, by io_uring.

What is left to it is a ring that the kernel refuses all but the loop's own requests.
"""

import asyncio
import errno
import os

from loops import io_uring_refusal
from seccomp_filter import IO_URING_SETUP, deny
from smoke import limited_smoke

import uringloop


async def main() -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, uringloop.EventLoop)
    deny({IO_URING_SETUP: errno.EPERM})
    print(loop.backend, "restricted_ring" in loop.driver_state().features)
    print(io_uring_refusal() == f"io_uring_setup: {os.strerror(errno.EPERM)}")
    await limited_smoke()
    print("smoke passed")


uringloop.run(main())
