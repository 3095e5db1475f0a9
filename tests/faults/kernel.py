"""The real kernel, with the face of the simulated one: sockets, and what went wrong with each.

Mostly Unix sockets, so that nothing is under way outside of system calls. The names of its ends
say which connection it is, on both sides: each client's socket has a name of its own.
"""

from __future__ import annotations

import os
import socket
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

from tests.faults.border import REGISTER, Fault, take_faults
from tests.simulator.chance import Chance
from tests.simulator.streams import DIRECT_BUFFER_BYTES, Connection
from uringloop.errors import ANSWERS

HOST = "127.0.0.1"


class RealKernel:
    """Sockets for one run.

    injected   how often each (operation, errno) was made up
    """

    def __init__(self, chance: Chance) -> None:
        self.chance = chance
        self.injected: Counter[tuple[str, int]] = Counter()
        self._by_name: dict[Any, Connection] = {}
        self._by_file: dict[int, Connection] = {}

    # -- sockets for programs -----------------------------------------------------------

    def stream_socket(self) -> socket.socket:
        """A stream socket that is not connected."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.bind("")
        self._prepare(sock, self._new_connection())
        return sock

    def stream_pair(self) -> tuple[socket.socket, socket.socket]:
        """Two stream sockets, connected with each other."""
        pair = socket.socketpair()
        connection = self._new_connection()
        for sock in pair:
            self._prepare(sock, connection)
        return pair

    def listening_socket(self) -> tuple[socket.socket, bytes]:
        """A bound socket, and the address to connect to."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.bind("")
        sock.setblocking(False)
        return sock, sock.getsockname()

    def tcp_listening_socket(self) -> tuple[socket.socket, str, int]:
        """The same of TCP: with the host in digits, and the port."""
        sock = socket.create_server((HOST, 0))
        sock.setblocking(False)
        return sock, *sock.getsockname()

    def run_in_another_thread(self, delay_s: float, function: Callable[[], object]) -> None:
        """Has `function` called by another thread, so much later of true time."""
        threading.Timer(delay_s, function).start()

    def _new_connection(self) -> Connection:
        return Connection(len(self._by_file))

    def _prepare(self, sock: socket.socket, connection: Connection) -> None:
        sock.setblocking(False)
        send_buffer_bytes = self.chance.pick(DIRECT_BUFFER_BYTES)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer_bytes)
        self._by_file[_file_of(sock.fileno())] = connection
        if sock.getsockname():
            self._by_name[sock.getsockname()] = connection

    # -- what goes wrong ----------------------------------------------------------------

    def connection_of(self, fd: int) -> Connection | None:
        """Of which an open descriptor is one end; None of a listener."""
        file = _file_of(fd)
        if file not in self._by_file:
            own, peer = _names_of(fd)
            if not peer:
                return None
            names = frozenset((own, peer))
            found = self._by_name.get(peer) or self._by_name.setdefault(names, Connection(-1))
            self._by_file[file] = found
        return self._by_file[file]

    def take_faults(self) -> None:
        """After a turn, before Python closes what they are about."""
        for fault in take_faults():
            self._note(fault)

    def _note(self, fault: Fault) -> None:
        names = ANSWERS if fault.operation == REGISTER else (fault.operation,)
        for name in names:
            self.injected[name, fault.error] += 1
        connection = self.connection_of(fault.fd)
        if connection is not None:
            connection.faults.append(f"{fault.operation}: {os.strerror(fault.error)}")


def _file_of(fd: int) -> int:
    return os.fstat(fd).st_ino


def _names_of(fd: int) -> tuple[Any, Any]:
    """The own name and the peer's; the latter is empty where there is none."""
    with socket.socket(fileno=os.dup(fd)) as sock:
        try:
            return sock.getsockname(), sock.getpeername()
        except OSError:
            return sock.getsockname(), ""
