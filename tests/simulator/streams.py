"""Simulated stream sockets: two ends with a bounded buffer each way, and what stands listening.

An end is moved by the engine (what it sends and receives) and by its owner, the program, whose
descriptor is one end of a socket pair; the other end of the pair, the wire, shows what the
program does without the engine: it sends directly, shuts its sending side, closes.
"""

from __future__ import annotations

import errno
import os
import select
import socket
from collections import deque

from tests.simulator.chance import NEVER

PIECE_BYTES_MAX = 1 << 20
DIRECT_BUFFER_BYTES = (4_096, 20_000, 200_000)


class Connection:
    """What the two ends of a connection have in common.

    faults   what went wrong, in words: while there is none, no byte may be missing
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.faults: list[str] = []


class Stream:
    """One end.

    fd         the program's descriptor; -1 before it has one
    inbox      what has arrived and was not received
    outbox     what was sent and is under way; both have room for so many bytes
    shut       the program has ended what it sends
    closed     the program has closed its descriptor
    ended      what the peer sends is at its end, behind the inbox
    is_lent    a part of the inbox is at the descriptor, for the program to receive by itself
    is_raw     a program works it by sock_* calls, and may close it at any time
    error      an errno that the next operation is told
    broken     after that, receiving is at its end and sending is -EPIPE
    """

    def __init__(self, number: int, room: int) -> None:
        self.number = number
        self.room = room
        self.fd = -1
        self.wire: socket.socket | None = None
        self.connection: Connection | None = None
        self.peer: Stream | None = None
        self.inbox = bytearray()
        self.outbox = bytearray()
        self.shut = self.closed = self.ended = self.broken = False
        self._end_told = self.is_raw = self.is_lent = False
        self.error = 0
        self.due_at = 0
        self.took_directly = 0

    # -- the descriptor -----------------------------------------------------------------

    def open(self, send_buffer_bytes: int) -> socket.socket:
        """Gives the end a descriptor, as a socket."""
        ours, self.wire = socket.socketpair()
        ours.setblocking(False)
        self.wire.setblocking(False)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer_bytes)
        self.fd = ours.fileno()
        return ours

    def look(self, events: int) -> None:
        """What the program did without the engine since the last look."""
        assert self.wire is not None
        while True:
            try:
                data = self.wire.recv(PIECE_BYTES_MAX)
            except BlockingIOError:
                break
            except ConnectionResetError:  # how the wire says it of what was lent
                self.reset_peer("closed with unread bytes")
                break
            if not data:
                self.shut = True
                break
            self.took_directly += len(data)
            if not self.broken:
                self.outbox += data
        if events & select.POLLHUP:
            self._owner_closed()

    def lend(self, size: int) -> None:
        """Puts the first bytes of the inbox where the program finds them by recv(2)."""
        assert self.wire is not None
        self.is_lent = True
        lent = self.wire.send(self.inbox[:size])
        assert lent == size
        del self.inbox[:size]

    def take_back(self) -> None:
        """What the program left of that is in the inbox again."""
        if not self.is_lent or self.closed:
            return
        self.is_lent = False
        with socket.socket(fileno=os.dup(self.fd)) as ours:
            try:
                self.inbox[:0] = ours.recv(PIECE_BYTES_MAX, socket.MSG_DONTWAIT)
            except BlockingIOError:
                pass

    def _owner_closed(self) -> None:
        self.shut = self.closed = True
        if self.inbox:
            self.reset_peer("closed with unread bytes")

    # -- the network --------------------------------------------------------------------

    def send_room(self) -> int:
        """How much more the outbox takes."""
        return max(self.room - len(self.outbox), 0)

    def next_at(self) -> int:
        """When something of the outbox can move; NEVER as things are."""
        if self.peer is None or self._end_told:
            return NEVER
        if self.outbox:
            return self.due_at if self.peer.inbox_room() else NEVER
        return self.due_at if self.shut else NEVER

    def inbox_room(self) -> int:
        """What the other side may send; a closed end takes anything, and answers by a reset."""
        if self.closed or self.broken:
            return PIECE_BYTES_MAX
        return max(self.room - len(self.inbox), 0)

    def move(self, size: int) -> None:
        """Lets at most `size` bytes arrive at the peer, or the end of all of them."""
        assert self.peer is not None
        if not self.outbox:
            self._end_told = True
            self.peer.ended = True
            return
        data = bytes(self.outbox[: min(size, self.peer.inbox_room())])
        del self.outbox[: len(data)]
        if self.peer.closed:
            self.peer.reset_peer("sent to a closed socket")
        elif not self.peer.broken:
            self.peer.inbox += data

    def reset_peer(self, fault: str) -> None:
        """The peer hears that this end is no more, and what was under way is lost."""
        if self.connection is not None:
            self.connection.faults.append(fault)
        self.outbox.clear()
        if self.peer is not None and not self.peer.broken:
            self.peer.break_off(errno.ECONNRESET)

    def break_off(self, error: int) -> None:
        """This end is told `error` once, and is of no use from now on."""
        self.error = error
        self.broken = self.ended = self._end_told = True
        self.inbox.clear()
        self.outbox.clear()

    def is_readable(self) -> bool:
        return bool(self.inbox or self.ended or self.error)

    def is_writable(self) -> bool:
        return self.broken or bool(self.error) or (self.peer is not None and self.send_room() > 0)

    def shut_sending(self) -> None:
        """Ends what is sent, behind the outbox; the program's descriptor shows it too."""
        self.shut = True
        with socket.socket(fileno=os.dup(self.fd)) as twin:
            twin.shutdown(socket.SHUT_WR)

    def is_over(self) -> bool:
        """Whether the program has closed it and nothing of it is under way."""
        return self.closed and self.next_at() == NEVER and not self.outbox


class Listener:
    """A listening socket and who waits to be accepted.

    sock    the program's; it is closed when the program has closed it
    names   its sockaddrs
    queue   the ends that a server is to be given
    """

    def __init__(self, number: int, sock: socket.socket, names: tuple[bytes, ...]) -> None:
        self.number = number
        self.sock = sock
        self.names = names
        self.fd = sock.fileno()
        self.queue: deque[Stream] = deque()
        self.closed = False

    def look(self) -> bool:
        """Whether it was closed since the last look: who still waited hears of it."""
        if self.sock.fileno() == self.fd or self.closed:
            return False
        self.closed = True
        while self.queue:
            self.queue.popleft().reset_peer("the listener was closed")
        return True
