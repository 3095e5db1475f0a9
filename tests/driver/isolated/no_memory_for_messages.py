"""RECVMSG where there is no memory for its ring, but for single messages. Prints "ok".

argument   the features not to use
"""

import resource
import socket
import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TESTS), str(TESTS.parent)]

from driver.engine_harness import Engine
from uringloop.driver._engine import ffi, lib

LEFT_BYTES = 12 << 20  # less than 64 messages need, more than 16


def limit_memory() -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + LEFT_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))


def main() -> None:
    found = ffi.new("struct ul_probe_result *")
    lib.ul_probe(int(sys.argv[1]), found)
    engine = Engine(features=found.features)
    ours, peer = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, peer:
        limit_memory()
        receiving = engine.receive_messages(ours.fileno())
        for number in range(20):
            peer.send(b"%d" % number)
            engine.run_until(lambda number=number: len(receiving.messages) == number + 1)
        assert receiving.messages == [b"%d" % number for number in range(20)]
        assert not engine.shared.features & lib.UL_FEATURE_MULTISHOT_RECVMSG
        engine.audit_and_close()
    print("ok")


main()
