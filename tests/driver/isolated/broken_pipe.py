"""Writes to pipes and sockets without a reader, where SIGPIPE would end the process.

A signal that was pending before, and blocked, is still pending after. Prints "ok".
"""

import errno
import os
import signal
import socket
import sys
import tempfile
from pathlib import Path

TESTS = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TESTS), str(TESTS.parent)]

from driver.engine_harness import Engine
from uringloop.driver._engine import ffi, lib


def answers_epipe(engine: Engine, file: int) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    ours, peer = socket.socketpair()
    peer.close()
    sends = [
        engine.send(writer, b"to nobody", lib.UL_FILE),
        engine.send_file(writer, file, flags=lib.UL_FILE),
        engine.send_file(ours.fileno(), file),
        engine.send_message(ours.fileno(), b"to nobody"),
    ]
    engine.finish(*sends)
    assert [send.result for send in sends] == [-errno.EPIPE] * 4
    os.close(writer)
    ours.close()


def main() -> None:
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    found = ffi.new("struct ul_probe_result *")
    lib.ul_probe(0, found)
    engine = Engine(features=found.features)
    with tempfile.TemporaryFile() as file:
        file.write(b"content")
        file.flush()
        answers_epipe(engine, file.fileno())
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGPIPE})
        answers_epipe(engine, file.fileno())
        assert signal.sigpending() == set()
        signal.raise_signal(signal.SIGPIPE)
        answers_epipe(engine, file.fileno())
        assert signal.sigpending() == {signal.SIGPIPE}
    engine.audit_and_close()
    print("ok")


main()
