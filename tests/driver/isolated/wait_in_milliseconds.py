"""epoll without epoll_pwait2, as on kernels before 5.11: no wait may end early.

The waits are whole milliseconds then, rounded up. Prints "ok".
"""

import errno
import sys
import time
from pathlib import Path

TESTS = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TESTS), str(TESTS.parent)]

from driver.engine_harness import Engine
from seccomp_filter import deny

EPOLL_PWAIT2 = 441


def main() -> None:
    deny({EPOLL_PWAIT2: errno.ENOSYS})
    engine = Engine(features=0)
    for timeout_ns in (1, 1_000, 999_999, 1_000_000, 1_000_001, 7_300_000):
        start = time.monotonic_ns()
        assert engine.turn(timeout_ns / 1e9) == []
        took_ns = time.monotonic_ns() - start
        assert took_ns >= int(timeout_ns / 1e9 * 1e9), (timeout_ns, took_ns)
    engine.wake_from_any_thread()
    assert engine.turn(None) == []
    engine.audit_and_close()
    print("ok")


main()
