"""The simulated kernel: its clock, its sockets by descriptor, and what is under way between them.

It knows nothing of commands and events; the engine asks it what a socket can do, and moves it.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterable

from tests.simulator.chance import MICROSECOND, NEVER, SECOND, Chance
from tests.simulator.datagrams import HOST, DatagramSocket
from tests.simulator.streams import (
    DIRECT_BUFFER_BYTES,
    Connection,
    Listener,
    Stream,
)
from uringloop.addresses import pack_sockaddr

BEGINNING_NS = 1_000 * SECOND


class Outside:
    """A real descriptor, of which only readiness is asked: the epoll set of the loop, in which it
    has the pipe of its signals. None come in a run."""

    number = 0

    def __init__(self, fd: int) -> None:
        self.fd = fd


Target = Stream | Listener | DatagramSocket | Outside


class Kernel:
    """All simulated sockets of one run.

    now_ns     the virtual clock
    injected   how often each (operation, errno) was made up
    """

    def __init__(self, chance: Chance) -> None:
        self.chance = chance
        self.now_ns = BEGINNING_NS
        self.injected: Counter[tuple[str, int]] = Counter()
        self.streams: list[Stream] = []
        self.connections: list[Connection] = []
        self.datagrams: list[DatagramSocket] = []
        self._listeners: list[Listener] = []
        self._targets: dict[int, Target] = {}
        self._others: list[tuple[int, Callable[[], object]]] = []
        self._wires = select.poll()
        self._by_wire: dict[int, Stream] = {}
        self._numbers = 0

    def monotonic(self) -> float:
        """The virtual clock in seconds, for the driver."""
        return self.now_ns / 1e9

    def target_of(self, fd: int) -> Target | None:
        """What a program means by a descriptor; None for one that is not open."""
        try:
            os.fstat(fd)
        except OSError:
            return None
        return self._targets.get(fd) or Outside(fd)

    def pick_error(self, operation: str, possible: Iterable[int]) -> int:
        """One of the errnos, to be answered to `operation`."""
        error = self.chance.pick(sorted(possible))
        self.injected[operation, error] += 1
        return error

    # -- sockets for programs -----------------------------------------------------------

    def stream_socket(self) -> socket.socket:
        """A stream socket that is not connected."""
        stream = self._new_stream()
        return self._open(stream)

    def stream_pair(self) -> tuple[socket.socket, socket.socket]:
        """Two stream sockets, connected with each other."""
        streams = self._new_stream(), self._new_stream()
        self._join(*streams)
        return self._open(streams[0]), self._open(streams[1])

    def listening_socket(self) -> tuple[socket.socket, str]:
        """A bound socket, and the address to connect to."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.bind("")  # listen(2) wants a name, whatever it is
        sock.setblocking(False)
        number = self._next_number()
        address = f"\0simulated {number}"
        names = (
            pack_sockaddr(socket.AF_UNIX, address) or b"",
            pack_sockaddr(socket.AF_INET, (HOST, number)) or b"",
        )
        listener = Listener(number, sock, names)
        self._listeners.append(listener)
        self._targets[listener.fd] = listener
        return sock, address

    def tcp_listening_socket(self) -> tuple[socket.socket, str, int]:
        """The same, with a host in digits and a port to connect to."""
        sock, _ = self.listening_socket()
        return sock, HOST, self._listeners[-1].number

    def datagram_socket(self) -> DatagramSocket:
        sock = DatagramSocket(self, self._next_number())
        self.datagrams.append(sock)
        self._targets[sock.fd] = sock
        return sock

    def _next_number(self) -> int:
        self._numbers += 1
        return self._numbers

    def _new_stream(self) -> Stream:
        stream = Stream(self._next_number(), self.chance.temper.room)
        self.streams.append(stream)
        return stream

    def _open(self, stream: Stream) -> socket.socket:
        sock = stream.open(self.chance.pick(DIRECT_BUFFER_BYTES))
        assert stream.wire is not None
        self._targets[stream.fd] = stream
        self._by_wire[stream.wire.fileno()] = stream
        self._wires.register(stream.wire, select.POLLIN)
        return sock

    def _join(self, one: Stream, other: Stream) -> None:
        connection = Connection(len(self.connections))
        self.connections.append(connection)
        one.peer, other.peer = other, one
        one.connection = other.connection = connection

    def adopt(self, fd: int) -> Stream:
        """Has a socket that a program made by itself be a simulated one from now on. Its program
        may close it at any time."""
        stream = self._new_stream()
        with self._open(stream) as sock:
            os.dup2(sock.fileno(), fd, inheritable=False)
        del self._targets[stream.fd]
        stream.fd = fd
        stream.is_raw = True
        self._targets[fd] = stream
        return stream

    # -- other threads ------------------------------------------------------------------

    def run_in_another_thread(self, delay_s: float, function: Callable[[], object]) -> None:
        """Has `function` called by another thread while the engine waits, so much later."""
        self._others.append((self.now_ns + int(delay_s * SECOND), function))

    def let_others_run(self) -> None:
        """Those whose time has come, one after the other, each in a thread of its own."""
        due = [each for each in self._others if each[0] <= self.now_ns]
        self._others = [each for each in self._others if each[0] > self.now_ns]
        for _, function in self.chance.shuffled(due):
            thread = threading.Thread(target=function)
            thread.start()
            thread.join()

    # -- connections --------------------------------------------------------------------

    def connect(self, stream: Stream, name: bytes) -> int:
        """What connect(2) answers: 0, and the server's end is in the queue, or -errno."""
        if stream.peer is not None:
            return -errno.EISCONN
        for listener in self._listeners:
            if name in listener.names and not listener.closed:
                server_end = self._new_stream()
                self._join(stream, server_end)
                listener.queue.append(server_end)
                return 0
        return -errno.ECONNREFUSED

    def accept(self, listener: Listener) -> Stream:
        """The next connection, with a descriptor."""
        stream = listener.queue.popleft()
        self._open(stream).detach()
        return stream

    def name_of(self, stream: Stream) -> bytes:
        """Its sockaddr: the sockets of clients have no name, as unix(7) has it."""
        return socket.AF_UNIX.to_bytes(2, "little")

    # -- what goes on by itself ---------------------------------------------------------

    def look(self) -> list[Target]:
        """Takes notice of what programs did without the engine; which sockets were closed."""
        closed: list[Target] = [each for each in self._listeners if each.look()]
        closed += [each for each in self.datagrams if each.look()]
        seen = [(self._by_wire[fd], events) for fd, events in self._wires.poll(0)]
        for stream, events in sorted(seen, key=lambda pair: pair[0].number):
            stream.look(events)
            if stream.closed:
                closed.append(stream)
                self._forget(stream)
        for stream in self.streams:
            stream.take_back()
        return closed

    def _forget(self, stream: Stream) -> None:
        assert stream.wire is not None
        self._wires.unregister(stream.wire)
        del self._by_wire[stream.wire.fileno()]
        stream.wire.close()
        if self._targets.get(stream.fd) is stream:
            del self._targets[stream.fd]

    def move_streams(self) -> None:
        """Lets arrive what is due by now."""
        for stream in self.chance.shuffled(self._moving()):
            if stream.next_at() <= self.now_ns:
                stream.move(self.chance.part_of(max(len(stream.outbox), 1)))
                stream.due_at = self.now_ns + self.chance.delay_ns()

    def _moving(self) -> list[Stream]:
        return [stream for stream in self.streams if stream.next_at() < NEVER]

    def next_at(self) -> int:
        """When something will move by itself."""
        times = [stream.next_at() for stream in self._moving()]
        times += [at for at, _ in self._others]
        return min(times, default=NEVER)

    def route_datagram(self, sender: DatagramSocket, message: bytes, receiver: bytes) -> None:
        """Lets a message arrive: once, and in a storm not at all, or twice."""
        found = [sock for sock in self.datagrams if sock.name == receiver and not sock.closed]
        if not found:
            sender.error = errno.ECONNREFUSED  # as an ICMP message would
            return
        lost = self.chance.happens(self.chance.temper.errors)
        doubled = self.chance.happens(self.chance.temper.errors)
        for _ in range((not lost) + doubled):
            found[0].arrive(message, sender.name)

    def tick(self) -> None:
        """A turn takes time."""
        self.now_ns += self.chance.between(1, 20) * MICROSECOND

    # -- the end ------------------------------------------------------------------------

    def left_open(self) -> list[str]:
        """Descriptors of streams that nobody closed."""
        self.look()
        return [f"stream {stream.number}" for stream in self._by_wire.values()]

    def waiting(self) -> list[str]:
        """Connections that nobody accepted from listeners that are open."""
        return [f"stream {each.number}" for at in self._listeners for each in at.queue]

    def close(self) -> None:
        for stream in list(self._by_wire.values()):
            self._forget(stream)
