"""A steady echo on epoll, once everything is registered, without epoll_ctl.

It is denied by a filter, so that a registration would end the receive with EPERM. Prints
"ok".
"""

import errno
import platform
import socket
import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TESTS), str(TESTS.parent)]

from driver.engine_harness import Engine
from seccomp_filter import deny

EPOLL_CTL = {"x86_64": 233, "aarch64": 21}[platform.machine()]
ECHOES = 1000


def main() -> None:
    engine = Engine(features=0)
    ours, peer = socket.socketpair()
    with ours, peer:
        receiving = engine.receive(ours.fileno())
        engine.turn()
        deny({EPOLL_CTL: errno.EPERM})
        before = engine.shared.counters.submissions
        for i in range(ECHOES):
            peer.sendall(b"%03d" % i)
            engine.run_until(lambda i=i: len(receiving.events) == i + 1)
            engine.finish(engine.send(ours.fileno(), receiving.events[-1].data))
            assert peer.recv(100) == b"%03d" % i
        assert engine.shared.counters.submissions - before == 2 * ECHOES
    engine.close()
    print("ok")


main()
