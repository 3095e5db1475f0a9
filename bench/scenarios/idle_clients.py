"""Many connections that do nothing, as a child process.

    python -m bench.scenarios.idle_clients IPV4 PORT CONNECTIONS

Says that it is ready; at a first SIGUSR1 it opens all connections and sends a message over
each; at a second one it sends another, to see that none has been lost meanwhile. Each
message must come back. Between these it sleeps.
"""

from __future__ import annotations

import signal
import socket
import sys
from collections.abc import Iterator

from bench.children import die_with_parent, say
from bench.errors import BenchError

SIGNAL = signal.SIGUSR1
MESSAGE_BYTES = 64
AT_ONCE = 100
SOCKET_LIMIT_S = 20.0


def open_all(host: str, port: int, count: int) -> list[socket.socket]:
    """Connected and used once, some at a time: the server's backlog is not endless."""
    socks: list[socket.socket] = []
    for first in range(0, count, AT_ONCE):
        opened = [
            socket.create_connection((host, port), SOCKET_LIMIT_S)
            for _ in range(min(AT_ONCE, count - first))
        ]
        exchange(opened, first)
        socks += opened
    return socks


def exchange(socks: list[socket.socket], first: int) -> None:
    """A message over each, and back. `first` is the number of the first of them."""
    for number, sock in enumerate(socks, first):
        sock.sendall(message(number))
    for number, sock in enumerate(socks, first):
        found = sock.recv(MESSAGE_BYTES, socket.MSG_WAITALL)
        if found != message(number):
            raise BenchError(f"idle connection {number} answered {found!r}")


def message(number: int) -> bytes:
    return number.to_bytes(8, "little") * (MESSAGE_BYTES // 8)


def batches(socks: list[socket.socket]) -> Iterator[tuple[list[socket.socket], int]]:
    for first in range(0, len(socks), AT_ONCE):
        yield socks[first : first + AT_ONCE], first


def main(arguments: list[str]) -> None:
    die_with_parent()
    host, port, count = arguments
    signal.pthread_sigmask(signal.SIG_BLOCK, {SIGNAL})
    say({"ready": True})
    signal.sigwait({SIGNAL})
    socks = open_all(host, int(port), int(count))
    say({"open": len(socks)})
    signal.sigwait({SIGNAL})
    for some, first in batches(socks):
        exchange(some, first)
    say({"open": len(socks)})
    signal.sigwait({SIGNAL})


if __name__ == "__main__":
    main(sys.argv[1:])
