"""Servers of frameworks as processes of their own, and a client that loads them.

The client is the stdlib's blocking one, in threads: nothing of a loop is at its end.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import select
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from peers import numbered_bytes

from tests.proxy.processes import environment

LIMIT_S = 30.0
CLIENTS = 4
REQUESTS = 40
BODY_BYTES = 300_000

Address = tuple[str, int]


@dataclass
class Served:
    """A server that listens; `output` is whole once it has ended."""

    process: subprocess.Popen[bytes]
    address: Address = ("", 0)
    output: str = ""

    def until(self, pattern: str, count: int = 1) -> re.Match[str]:
        """Reads its output until there are `count` such lines; answers the last."""
        stdout = self.process.stdout
        assert stdout is not None
        deadline = time.monotonic() + LIMIT_S
        while len(found := list(re.finditer(f"{pattern}.*\n", self.output))) < count:
            ready = select.select([stdout], [], [], max(deadline - time.monotonic(), 0.0))[0]
            data = stdout.read1() if ready else b""
            assert data, f"{pattern} did not come; there was {self.output}"
            self.output += data.decode()
        return found[-1]


@contextlib.contextmanager
def serving(
    arguments: list[str], folder: Path, listener: socket.socket | None = None, **changes: str
) -> Iterator[Served]:
    """A server, which is stopped by SIGTERM in the end, has to end then, and may not have shown
    a traceback.

    listener   inherited by the server, and listens already; without one the server has to
               name its address
    """
    with subprocess.Popen(
        arguments,
        cwd=folder,
        env=environment(PYTHONUNBUFFERED="1", **changes),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        pass_fds=[listener.fileno()] if listener else [],
        start_new_session=True,
    ) as process:
        served = Served(process)
        try:
            if listener:
                served.address = listener.getsockname()
            else:
                found = served.until(r"https?://([\d.]+):(\d+)\b")
                served.address = found[1], int(found[2])
            yield served
            process.send_signal(signal.SIGTERM)
            served.output += process.communicate(timeout=LIMIT_S)[0].decode()
        finally:
            with contextlib.suppress(ProcessLookupError):  # all have ended
                os.killpg(process.pid, signal.SIGKILL)
    assert "Traceback" not in served.output, served.output
    assert process.returncode in (0, -signal.SIGTERM), served.output


def load(address: Address) -> set[str]:
    """Several clients with many requests each, one connection a client, and a large body each.
    All must be answered right; answers which loops said that they had answered."""
    with ThreadPoolExecutor(CLIENTS) as clients:
        return set().union(*clients.map(_load_once, [address] * CLIENTS))


def _load_once(address: Address) -> set[str]:
    connection = http.client.HTTPConnection(*address, timeout=LIMIT_S)
    with contextlib.closing(connection):
        loops = {_request(connection, b"", b"hello") for _ in range(REQUESTS)}
        body = numbered_bytes(BODY_BYTES)
        return loops | {_request(connection, body, body)}


def _request(connection: http.client.HTTPConnection, body: bytes, expected: bytes) -> str:
    connection.request("POST", "/", body)
    response = connection.getresponse()
    assert response.read() == expected
    assert response.status == 200
    return response.headers["x-loop"]
