"""64 engines where no memory may be locked, of whatever the probe finds there.

RLIMIT_MEMLOCK is 0, and root's leave to pass it over is dropped, as far as there is one.
Prints what the probe said, as one JSON object.
"""

import ctypes
import json
import resource
import socket
import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TESTS), str(TESTS.parent)]

from driver.engine_harness import Engine
from uringloop.driver._engine import ffi, lib

CAP_IPC_LOCK = 14
LINUX_CAPABILITY_VERSION_3 = 0x20080522


def drop_leave_to_lock_memory() -> None:
    """Clears CAP_IPC_LOCK from this process, by capget and capset."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(LINUX_CAPABILITY_VERSION_3, 0)
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; low words first
    assert libc.capget(header, sets) == 0
    for i in range(3):
        sets[i] &= ~(1 << CAP_IPC_LOCK)
    assert libc.capset(header, sets) == 0


def main() -> None:
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, 0))
    drop_leave_to_lock_memory()
    result = ffi.new("struct ul_probe_result *")
    lib.ul_probe(0, result)
    engines = [Engine(features=result.features) for _ in range(64)]
    for engine in engines:
        ours, peer = socket.socketpair()
        with ours, peer:
            receiving = engine.receive(ours.fileno())
            peer.sendall(b"ping")
            engine.run_until(lambda receiving=receiving: receiving.data == b"ping")
            engine.cancel(receiving)
            engine.finish(receiving)
    for engine in engines:
        engine.audit_and_close()
    answer = {"features": result.features, "step": result.step, "error": result.error}
    print(json.dumps(answer))


main()
