"""`python -m uringloop proxy` as a process of its own, read line by line."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 20.0

Event = dict[str, Any]


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-W", "error", "-m", "uringloop", *arguments]


def environment(**changes: str) -> dict[str, str]:
    path = os.pathsep.join([str(ROOT), *filter(None, sys.path)])
    return {**os.environ, "PYTHONPATH": path, **changes}


def run(*arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
    """A command of ours that ends by itself."""
    return run_to_end(command(*arguments), None, LIMIT_S, **changes)


def run_to_end(
    arguments: list[str], folder: Path | None, limit_s: float, **changes: str
) -> subprocess.CompletedProcess[str]:
    """Any command in that folder (None: in ours), after its end, which may be a bad one."""
    return subprocess.run(
        arguments,
        cwd=folder,
        env=environment(**changes),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=limit_s,
        check=False,
    )


class ProxyProcess:
    """A running proxy. Its lines are JSON; each is read once."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.seen: list[Event] = []
        self._unread = b""
        self.address: tuple[str, int] | str = ""

    def until(self, name: str, count: int = 1) -> list[Event]:
        """The events of that name up to now, once there are `count` of them."""
        deadline = time.monotonic() + LIMIT_S
        while len(found := self.of(name)) < count:
            self._read_some(deadline - time.monotonic(), name)
        return found

    def of(self, name: str) -> list[Event]:
        return [event for event in self.seen if event["event"] == name]

    def _read_some(self, left_s: float, wanted: str) -> None:
        stderr = self.process.stderr
        assert stderr is not None
        ready = select.select([stderr], [], [], max(left_s, 0.0))[0]
        data = os.read(stderr.fileno(), 65536) if ready else b""
        assert data, f"no event {wanted!r} came; there were {self.seen} and {self._unread!r}"
        *lines, self._unread = (self._unread + data).split(b"\n")
        self.seen += map(json.loads, lines)

    def rest(self) -> list[Event]:
        """All events up to the end of the process and of its children."""
        with contextlib.suppress(AssertionError):
            self.until("an event that never comes")
        assert self._unread == b""
        return self.seen

    def connect(self) -> socket.socket:
        if isinstance(self.address, str):
            peer = socket.socket(socket.AF_UNIX)
            peer.settimeout(LIMIT_S)
            peer.connect(self.address)
            return peer
        return socket.create_connection(self.address, timeout=LIMIT_S)

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def stop(self) -> int:
        self.signal(signal.SIGTERM)
        return self.process.wait(LIMIT_S)


@contextlib.contextmanager
def running_process(
    *arguments: str, listen: str = "127.0.0.1:0", **changes: str
) -> Iterator[ProxyProcess]:
    """A proxy that listens; killed at the end, if it is still there."""
    options = ["proxy", "--log-format", "json", *arguments[:-1], listen, arguments[-1]]
    with subprocess.Popen(
        command(*options),
        env=environment(**changes),
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    ) as process:
        proxy = ProxyProcess(process)
        try:
            address = proxy.until("listening")[0]["address"]
            host, _, port = address.rpartition(":")
            proxy.address = (host, int(port)) if port.isdigit() else address[len("unix:") :]
            yield proxy
        finally:
            process.kill()


@contextlib.contextmanager
def echo_upstream() -> Iterator[str]:
    """A server in a thread of this process that sends back what it gets. Its address."""
    with socket.create_server(("127.0.0.1", 0), backlog=200) as listener:
        threading.Thread(target=_serve, args=[listener], daemon=True).start()
        yield "{}:{}".format(*listener.getsockname())
        listener.shutdown(socket.SHUT_RDWR)


def _serve(listener: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while True:
            peer = listener.accept()[0]
            threading.Thread(target=_echo, args=[peer], daemon=True).start()


def _echo(peer: socket.socket) -> None:
    with peer, contextlib.suppress(ConnectionError):
        while data := peer.recv(65536):
            peer.sendall(data)


def check_echo(peer: socket.socket, data: bytes = b"hello") -> None:
    peer.sendall(data)
    assert peer.recv(len(data), socket.MSG_WAITALL) == data


def wait_for_end(pidfd: int) -> bool:
    """Whether the process ends within the limit."""
    return bool(select.select([pidfd], [], [], LIMIT_S)[0])
