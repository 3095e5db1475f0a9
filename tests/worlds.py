"""A transport of one kind of loop with all that surrounds it, moved one step at a time.

Two worlds are given the same steps and must show the same. What could make that a matter of
luck is left out: the peer is the other end of a socket pair and is worked from the same
thread, so bytes have arrived when its call returns; a step is over only when its effects are
there and nothing has moved for QUIET_TURNS turns. Nothing here knows which loop it moves.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from loops import driver_leftovers, make_loop
from peers import limit_buffers, numbered_bytes

QUIET_TURNS = 8  # the longest chain is cancel, answer, connection_lost
SETTLE_LIMIT_S = 5
KERNEL_BYTES = 100 * 1024  # SO_SNDBUF, which the kernel doubles

RAISED: dict[str, type[BaseException]] = {
    "ValueError": ValueError,
    "OSError": OSError,
    "CancelledError": asyncio.CancelledError,
}


@dataclass
class Seen:
    """What can be observed of a world once it is quiet."""

    calls: list[str]
    received: dict[int, int]  # bytes, by the protocol's number
    flow: list[str]
    errors: list[str]
    reports: list[tuple[str, str]]
    peer_ended: bool
    closing: bool
    reading: bool
    protocol_is_set: bool


class Player(asyncio.Protocol):
    """Tells its world of each call, and plays the reaction that the world has armed."""

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.number = number

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.world.transport = transport
        self.world.called(self, "made")

    def data_received(self, data: bytes) -> None:
        self.world.take(self, data)
        self.world.called(self, "data")

    def eof_received(self) -> bool:
        self.world.called(self, "eof")
        return self.world.keep_open

    def pause_writing(self) -> None:
        self.world.called(self, "pause")

    def resume_writing(self) -> None:
        self.world.called(self, "resume")

    def connection_lost(self, exc: BaseException | None) -> None:
        self.world.called(self, "lost", f"lost {self.world.name_of_loss(exc)}")


class BufferedPlayer(Player, asyncio.BufferedProtocol):  # type: ignore[misc]
    """The same, with a buffer of `buffer_bytes` to receive into."""

    def __init__(self, world: World, number: int, buffer_bytes: int) -> None:
        super().__init__(world, number)
        self.buffer = bytearray(buffer_bytes)

    def get_buffer(self, sizehint: int) -> memoryview:
        return memoryview(self.buffer)

    def buffer_updated(self, nbytes: int) -> None:
        self.data_received(bytes(self.buffer[:nbytes]))


@dataclass
class Peer:
    """The other end: a socket that never blocks, and what it still has to send."""

    sock: socket.socket
    outbox: deque[bytes | None] = field(default_factory=deque)  # None: the end of sending
    sent_bytes: int = 0
    received_bytes: int = 0
    arrived_whole: bool = True  # in order, nothing lost, nothing twice
    reads: bool = True
    ended: bool = False  # it has seen the end of what we send
    shut: bool = False  # it has ended, or will end, what it sends
    closed: bool = False

    def send(self, size: int) -> None:
        self.outbox.append(numbered_bytes(size, self.sent_bytes))
        self.sent_bytes += size

    def half_close(self) -> None:
        self.outbox.append(None)
        self.shut = True

    def close(self) -> None:
        """With unread bytes, this is a reset."""
        self.sock.close()
        self.closed = self.shut = True

    def pump(self) -> bool:
        """Sends and reads what it can; whether anything moved."""
        if self.closed:
            return False
        moved = self._send_some()
        return (self.reads and not self.ended and self._read_some()) or moved

    def _send_some(self) -> bool:
        moved = False
        try:
            while self.outbox:
                piece = self.outbox.popleft()
                if piece is None:
                    self.sock.shutdown(socket.SHUT_WR)
                else:
                    self._send_piece(piece)
                moved = True
        except BlockingIOError:
            assert piece is not None
            self.outbox.appendleft(piece)
        except ConnectionError:
            self.outbox.clear()  # our side is closed
        return moved

    def _send_piece(self, piece: bytes) -> None:
        sent = self.sock.send(piece)
        if sent < len(piece):
            self.outbox.appendleft(piece[sent:])

    def _read_some(self) -> bool:
        moved = False
        try:
            while piece := self.sock.recv(1 << 20):
                expected = numbered_bytes(len(piece), self.received_bytes)
                self.arrived_whole = self.arrived_whole and piece == expected
                self.received_bytes += len(piece)
                moved = True
            self.ended = True
        except BlockingIOError:
            return moved
        except ConnectionResetError:  # our side closed with bytes unread
            self.ended = True
        return True


class World:
    """A loop, a transport, its protocols, the peer. See Seen for what can be looked at."""

    def __init__(self, kind: str, buffered_bytes: int | None = None) -> None:
        self.kind = kind
        self.loop = make_loop(kind)
        self.loop.set_exception_handler(self._report)
        self.transport: Any = None
        self.calls: list[str] = []
        self.received: dict[int, int] = {}
        self.flow: list[str] = []
        self.errors: list[str] = []
        self.reports: list[tuple[str, str]] = []
        self.reactions: dict[str, str] = {}
        self.keep_open = False
        self.loses = False
        # Sending and receiving both meet a reset: the kernel tells the first that asks of
        # it, the other that the pipe is broken.
        self.loss_is_either = False
        self.written_bytes = 0
        self._players = 0
        ours, theirs = socket.socketpair()
        for end in (ours, theirs):
            end.setblocking(False)
            limit_buffers(end, KERNEL_BYTES)
        self.peer = Peer(theirs)
        self.loop.run_until_complete(self._connect(ours, buffered_bytes))

    async def _connect(self, ours: socket.socket, buffered_bytes: int | None) -> None:
        first = self._player(buffered_bytes)
        await self.loop.connect_accepted_socket(lambda: first, ours)
        await self._settle()

    def _player(self, buffered_bytes: int | None) -> Player:
        self._players += 1
        if buffered_bytes is None:
            return Player(self, self._players)
        return BufferedPlayer(self, self._players, buffered_bytes)

    def _report(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        message = context["message"].split(" callback ")[0]  # whose name is the loop's own
        self.reports.append((message, type(context.get("exception")).__name__))

    # -- steps --------------------------------------------------------------------------

    def step(self, *actions: str, loses: bool = False) -> None:
        """Does `actions`, such as "write bytes 10", within one callback; ends when quiet.

        loses   the connection is lost by this: waits for it. A send that is cancelled in the
                kernel may take a while, although nothing moves.
        """
        self.loses = loses
        self.loop.run_until_complete(self._step(actions))

    async def _step(self, actions: tuple[str, ...]) -> None:
        for action in actions:
            self.attempt(action)
        await self._settle()

    def attempt(self, action: str) -> None:
        try:
            self.act(action)
        except (TypeError, ValueError, RuntimeError) as error:
            self.errors.append(f"{action}: {type(error).__name__}")

    def act(self, action: str) -> None:
        name, *arguments = action.split()
        getattr(self, f"_do_{name}")(*arguments)

    def _do_write(self, kind: str, size: str) -> None:
        make: Callable[[bytes], Any] = {
            "bytes": bytes,
            "bytearray": bytearray,
            "memoryview": memoryview,
            "str": bytes.hex,
        }[kind]
        self._written(self.transport.write, make(self._next_bytes(int(size))), int(size))

    def _do_writelines(self, *sizes: str) -> None:
        pieces = []
        start = self.written_bytes
        for size in sizes:
            pieces.append(numbered_bytes(int(size), start))
            start += int(size)
        self._written(self.transport.writelines, pieces, start - self.written_bytes)

    def _written(self, write: Callable[[Any], None], data: Any, size: int) -> None:
        """Counts first: the write may call the protocol, which writes what comes after."""
        self.written_bytes += size
        try:
            write(data)
        except BaseException:
            self.written_bytes -= size
            raise

    def _next_bytes(self, size: int) -> bytes:
        return numbered_bytes(size, self.written_bytes)

    def _do_call(self, method: str) -> None:
        getattr(self.transport, method)()

    def _do_limits(self, high: str, low: str) -> None:
        limits = [None if limit == "-" else int(limit) for limit in (high, low)]
        self.transport.set_write_buffer_limits(*limits)

    def _do_protocol(self, buffered_bytes: str) -> None:
        size = None if buffered_bytes == "-" else int(buffered_bytes)
        self.transport.set_protocol(self._player(size))

    def _do_raise(self, name: str) -> None:
        raise RAISED[name](name)

    def _do_peer(self, method: str, *sizes: str) -> None:
        getattr(self.peer, method)(*map(int, sizes))

    def take(self, player: Player, data: bytes) -> None:
        """A protocol received `data`, which must be what the peer sent next."""
        assert type(data) is bytes
        if data != numbered_bytes(len(data), sum(self.received.values())):
            self.errors.append(f"{self.kind}: received something else")
        self.received[player.number] = self.received.get(player.number, 0) + len(data)

    def called(self, player: Player, call: str, described: str = "") -> None:
        """A protocol was called: remembers it, then plays what is armed for it, once."""
        entry = f"{player.number} {described or call}"
        if call in ("pause", "resume"):
            self.flow.append(entry)
        elif call != "data" or self.calls[-1] != entry:
            self.calls.append(entry)  # how the data was cut into pieces is the loop's affair
        reaction = self.reactions.pop(call, None)
        if reaction is not None:
            self.calls.append(f"{player.number} plays {reaction}")
            self.act(reaction)

    def name_of_loss(self, error: BaseException | None) -> str:
        either = isinstance(error, (ConnectionResetError, BrokenPipeError))
        return "reset or broken" if either and self.loss_is_either else type(error).__name__

    # -- becoming quiet -----------------------------------------------------------------

    async def _settle(self) -> None:
        deadline = time.monotonic() + SETTLE_LIMIT_S
        quiet = 0
        before: object = None
        while quiet < QUIET_TURNS or not self._has_arrived():
            assert time.monotonic() < deadline, f"{self.kind} does not come to rest: {self}"
            moved = self.peer.pump()
            await asyncio.sleep(0)
            now = self._progress()
            quiet = 0 if moved or now != before else quiet + 1
            before = now

    def _progress(self) -> object:
        received = sum(self.received.values())
        buffered = self.transport.get_write_buffer_size()
        return (len(self.calls), received, len(self.flow), buffered)

    def _has_arrived(self) -> bool:
        """Whether all that must happen without further ado has happened."""
        if self.is_lost():
            return True
        if self.loses:
            return False
        if self.transport.is_closing():
            return not (self.peer.reads or self.peer.closed)
        return self._has_arrived_here() and self._has_arrived_there()

    def _has_arrived_here(self) -> bool:
        if not self.transport.is_reading() or self.has_ended():
            return True
        received = sum(self.received.values())
        return received == self.peer.sent_bytes and not self.peer.shut

    def _has_arrived_there(self) -> bool:
        if self.peer.closed or not self.peer.reads:
            return True
        return self.peer.received_bytes == self.written_bytes

    def is_lost(self) -> bool:
        return self._was_called("lost")

    def has_ended(self) -> bool:
        return self._was_called("eof")

    def _was_called(self, call: str) -> bool:
        return any(entry.split()[1] == call for entry in self.calls)

    # -- looking ------------------------------------------------------------------------

    def unread_bytes(self) -> int:
        """What the peer has sent and no protocol has seen."""
        return self.peer.sent_bytes - sum(self.received.values())

    def seen(self) -> Seen:
        return Seen(
            calls=list(self.calls),
            received=dict(self.received),
            flow=list(self.flow),
            errors=list(self.errors),
            reports=list(self.reports),
            peer_ended=self.peer.ended,
            closing=self.transport.is_closing(),
            reading=self.transport.is_reading(),
            protocol_is_set=self.transport.get_protocol() is not None,
        )

    def __str__(self) -> str:
        peer = f"peer has {self.peer.received_bytes} of {self.written_bytes} bytes"
        return f"{self.transport!r}, {peer}, {self.calls} {self.flow} {self.errors}"

    def end(self) -> None:
        """Ends what is left and closes the loop; nothing may be in flight then."""
        self.reactions.clear()
        self.peer.reads = True
        self.step("call close")
        assert self.is_lost()
        self.peer.sock.close()
        self.loop.close()
        assert driver_leftovers(self.loop) == []
