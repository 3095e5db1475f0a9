"""The interpreter ends while a loop, its transports and its thread are alive: no hang, no crash."""

from __future__ import annotations

import subprocess
import sys

import pytest
from children import ended_program
from loops import OURS, parameter

PROGRAM = """
import asyncio, sys, threading
import uringloop

kept = []
ready = threading.Event()

async def connect():
    server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(bytes(1_000_000))
    kept.append((server, reader, writer))
    ready.set()

loop = uringloop.new_event_loop(backend=sys.argv[1])

def run():
    loop.run_until_complete(connect())
    if sys.argv[2] == "thread":
        loop.run_forever()

if sys.argv[2] == "thread":
    threading.Thread(target=run, daemon=True).start()
    ready.wait(10)
else:
    run()
print("leaving", len(kept))
"""


@pytest.mark.parametrize("where", ["main", "thread"])
@pytest.mark.parametrize("backend", [parameter(kind) for kind in OURS])
def test_the_interpreter_ends_with_live_transports(backend: str, where: str) -> None:
    answer = subprocess.run(
        [sys.executable, "-c", PROGRAM, backend, where],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert (answer.returncode, answer.stdout) == (0, "leaving 1\n"), answer.stderr


ENDS = {
    "with_pending_tasks": (0, ""),
    "with_a_busy_executor": (0, ""),
    "with_a_child": (0, ""),
    "with_tls_and_datagrams": (0, ""),
    "with_a_last_run": (0, "ran\n"),
    "with_a_busy_thread": (0, ""),
    "by_exit_in_a_callback": (3, ""),
    "by_exit_in_a_task": (3, ""),
    "by_exit_at_once": (3, ""),
}


@pytest.mark.parametrize("scenario", ENDS)
def test_the_interpreter_ends_in_the_middle_of_anything(scenario: str, loop_kind: str) -> None:
    """With its own status; Python may complain of what was left, but of nothing worse."""
    ended = ended_program("leaving.py", loop_kind, scenario)
    status, output = ENDS[scenario]
    assert (ended.returncode, ended.stdout) == (status, f"leaving\n{output}"), ended.stderr
    worse = ("Fatal Python error", "SystemError", "AttributeError", "TypeError", "AssertionError")
    assert not any(word in ended.stderr for word in worse), ended.stderr
