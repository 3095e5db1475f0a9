"""Loops of a user without capabilities: `unprivileged.py COUNT LOCKED_BYTES BACKEND`.

Prints how many loops are on which engine, and each reason once.
"""

import asyncio
import collections
import contextlib
import os
import resource
import sys

from smoke import limited_smoke, run

import uringloop

# A number of its own, for what users may lock is counted together for each.
USER = 60_000 + os.getpid() % 5_000


def main(count: int, backend: str) -> None:
    with contextlib.ExitStack() as stack:
        loops = []
        for _ in range(count):
            loops.append(stack.enter_context(contextlib.closing(uringloop.new_event_loop(backend))))
            loops[-1].call_soon(loops[-1].stop)
            loops[-1].run_forever()
        backends = collections.Counter(loop.backend for loop in loops)
        print(backends["io_uring"], backends["epoll"])
        print(*sorted({loop.backend_reason for loop in loops}), sep="\n")
    run()


asyncio.run(limited_smoke())  # what Python imports late is read while that is still allowed
os.environ["URINGLOOP_BACKEND"] = sys.argv[3]
resource.setrlimit(resource.RLIMIT_MEMLOCK, (int(sys.argv[2]), int(sys.argv[2])))
if os.getuid() == 0:
    os.setgroups([])
    os.setresgid(USER, USER, USER)
    os.setresuid(USER, USER, USER)
try:
    main(int(sys.argv[1]), sys.argv[3])
except RuntimeError as error:
    print(error)
