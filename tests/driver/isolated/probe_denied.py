"""Prints what the probe says where one system call is denied: NUMBER ERRNO.

Also opens an engine of what the probe found, and echoes once with it: whatever is denied,
something must work. One JSON object on standard output.
"""

import json
import socket
import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TESTS), str(TESTS.parent)]

from driver.engine_harness import Engine
from seccomp_filter import deny
from uringloop.driver._engine import ffi, lib


def echo(features: int) -> bool:
    ours, peer = socket.socketpair()
    with ours, peer:
        engine = Engine(features=features)
        receiving = engine.receive(ours.fileno())
        peer.sendall(b"ping")
        engine.run_until(lambda: receiving.data == b"ping")
        engine.finish(engine.send(ours.fileno(), receiving.data))
        engine.audit_and_close()
        return peer.recv(100) == b"ping"


def main() -> None:
    number, error = (int(argument) for argument in sys.argv[1:])
    deny({number: error})
    result = ffi.new("struct ul_probe_result *")
    lib.ul_probe(0, result)
    answer = {"features": result.features, "step": result.step, "error": result.error}
    print(json.dumps({**answer, "echoes": echo(result.features)}))


main()
