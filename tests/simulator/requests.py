"""One operation that the simulated engine was asked for, and how each opcode is carried out.

A request is moved in small steps: each may give one event, or only make progress (a part of a
send). `is_ready` and `step` never decide when; that is the engine's.
"""

from __future__ import annotations

import errno
import os
import select
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.simulator.chance import NEVER
from tests.simulator.datagrams import DatagramSocket
from tests.simulator.kernel import Outside, Target
from tests.simulator.memory import Command, bytes_at, name_at, pieces_at, write_name_at
from tests.simulator.streams import Listener, Stream
from uringloop.driver import binding
from uringloop.driver.binding import (
    UL_NAME_BYTES,
    UL_ONCE,
    UL_READABLE,
    UL_VECTORED,
    ffi,
    lib,
)

if TYPE_CHECKING:
    from tests.simulator.engine import SimulatedEngine

NAMES: dict[int, str] = {
    binding.UL_OP_ACCEPT: "accept",
    binding.UL_OP_RECV: "recv",
    binding.UL_OP_SEND: "send",
    binding.UL_OP_CONNECT: "connect",
    binding.UL_OP_POLL: "poll",
    binding.UL_OP_RECVMSG: "recvmsg",
    binding.UL_OP_SENDMSG: "sendmsg",
    binding.UL_OP_SENDFILE: "sendfile",
    binding.UL_OP_RELAY: "relay",
}

RECEIVE_BUFFER_BYTES = 65_536
MSG_TRUNC = 0x20

# Errors after which a connection is no more; after the others it could go on. Those of a SENDFILE
# that nothing was sent by are about the file alone.
_NOT_SO = frozenset({errno.EINVAL, errno.ENOSYS, errno.ESPIPE})
_ENDS_CONNECTION = frozenset({errno.ECONNRESET, errno.EPIPE, errno.ETIMEDOUT, errno.ECONNREFUSED})


@dataclass(frozen=True)
class Answer:
    """An event: a result, what it names, whether it is final."""

    result: int
    address: int = 0
    final: bool = True


class Request:
    """A command between its turn and its final event.

    at             when it may be moved next
    fails_at       when it ends with an error, if it is still there
    forced         with which, for tests that say so
    late_answers   how often it still goes on once it is cancelled
    done           bytes sent so far
    turn           the engine's, when it was taken
    """

    def __init__(self, engine: SimulatedEngine, command: Command, target: Target) -> None:
        self.engine = engine
        self.kernel = engine.kernel
        self.command = command
        self.target: Any = target
        self.at = 0
        self.fails_at = NEVER
        self.forced = 0
        self.cancelled = False
        self.late_answers = 0
        self.done = 0
        self.turn = engine.turn_number

    @property
    def name(self) -> str:
        return NAMES[self.command.opcode]

    @property
    def is_once(self) -> bool:
        return bool(self.command.flags & UL_ONCE)

    def targets(self) -> list[Any]:
        """The sockets that it is about."""
        return [self.target]

    def is_ready(self) -> bool:
        """Whether a step would get anywhere without a cancel or an error."""
        raise NotImplementedError

    def step(self) -> Answer | None:
        """Goes on; None where there is nothing to tell yet."""
        raise NotImplementedError

    def ended(self) -> None:
        """Its final event was given."""

    def fail(self, error: int) -> Answer:
        """Ends with `error`, and does to the socket what goes with it."""
        is_harmless = self.name == "sendfile" and not self.done and error in _NOT_SO
        if isinstance(self.target, Stream) and not is_harmless:
            self.break_stream(self.target, error)
        return Answer(-error, self.done)

    def break_stream(self, stream: Stream, error: int) -> None:
        """What an errno of one of its operations means to a stream."""
        if stream.connection is None:
            return
        stream.connection.faults.append(f"{self.name}: {errno.errorcode[error]}")
        if error in _ENDS_CONNECTION and not stream.broken:
            stream.reset_peer(f"{self.name} broke the connection")
            stream.break_off(0)

    def receive_limit(self) -> int:
        length = self.command.length if self.is_once else 0
        return min(length or RECEIVE_BUFFER_BYTES, RECEIVE_BUFFER_BYTES)

    def told_error(self) -> Answer:
        """The socket's own error, told once."""
        error = self.target.error
        self.target.error = 0
        return Answer(-error, self.done)


class Accept(Request):
    target: Listener

    def is_ready(self) -> bool:
        return bool(self.target.queue)

    def step(self) -> Answer | None:
        stream = self.kernel.accept(self.target)
        own, peer = self.target.names[0], self.kernel.name_of(stream)
        if self.is_once:
            if self.command.address:
                write_name_at(self.command.address, peer)
            return Answer(stream.fd)
        without_names = self.kernel.chance.happens(self.kernel.chance.temper.shortages)
        address = 0 if without_names else self.engine.memory.lend_names(own, peer)
        return Answer(stream.fd, address, final=False)


class Receive(Request):
    target: Stream

    def __init__(self, engine: SimulatedEngine, command: Command, target: Target) -> None:
        super().__init__(engine, command, target)
        self._is_only_told = bool(command.flags & UL_READABLE)

    def is_ready(self) -> bool:
        return self.target.is_readable()

    def step(self) -> Answer | None:
        stream = self.target
        if stream.error:
            return self.told_error()
        if not stream.inbox:
            return Answer(0)
        size = self.kernel.chance.part_of(min(len(stream.inbox), self.receive_limit()))
        if stream.ended or self.kernel.chance.happens(self.kernel.chance.temper.shortages):
            self._is_only_told = False
        if self._is_only_told:
            self.engine.met["bytes that were only told"] += 1
            stream.lend(size)
            return Answer(size, final=False)
        data = bytes(stream.inbox[:size])
        del stream.inbox[:size]
        return Answer(size, self.engine.memory.lend_bytes(data), final=self.is_once)


class SendBase(Request):
    """What goes into a stream until all of it is there."""

    target: Stream

    def is_ready(self) -> bool:
        return self.target.is_writable() or self._is_complete()

    def step(self) -> Answer | None:
        stream = self.target
        if stream.error:
            return self.told_error()
        if stream.broken or stream.shut:
            return Answer(-errno.EPIPE, self.done)
        room = stream.send_room()
        if room and not self._is_complete():
            data = self._read(self.kernel.chance.part_of(room))
            stream.outbox += data
            self.done += len(data)
        return Answer(self.done) if self._is_complete() else None

    def _is_complete(self) -> bool:
        raise NotImplementedError

    def _read(self, limit: int) -> bytes:
        """What comes after the `done` bytes, at most `limit`, out of the program's memory."""
        raise NotImplementedError


class Send(SendBase):
    def _pieces(self) -> list[tuple[int, int]]:
        command = self.command
        if command.flags & UL_VECTORED:
            return pieces_at(command.address, command.length)
        return [(command.address, command.length)]

    def _is_complete(self) -> bool:
        return self.done >= sum(size for _, size in self._pieces())

    def _read(self, limit: int) -> bytes:
        skipped = self.done
        data = bytearray()
        for address, size in self._pieces():
            begin = min(skipped, size)
            skipped -= begin
            count = min(size - begin, limit - len(data))
            if count:
                data += bytes_at(address + begin, count)
        return bytes(data)


class SendFile(SendBase):
    def _is_complete(self) -> bool:
        end = min(self.command.address + self.command.length, self._file_bytes())
        return self.command.address + self.done >= end

    def _file_bytes(self) -> int:
        return os.fstat(self.command.argument).st_size

    def _read(self, limit: int) -> bytes:
        limit = min(limit, self.command.length - self.done)
        return os.pread(self.command.argument, limit, self.command.address + self.done)


class Connect(Request):
    target: Stream

    def __init__(self, engine: SimulatedEngine, command: Command, target: Target) -> None:
        super().__init__(engine, command, target)
        self._name = bytes_at(command.address, command.length)

    def is_ready(self) -> bool:
        return True

    def step(self) -> Answer | None:
        return Answer(self.kernel.connect(self.target, self._name))


class Poll(Request):
    """Of datagrams: now and then told of room that is not there, as unix(7) sockets do."""

    def __init__(self, engine: SimulatedEngine, command: Command, target: Target) -> None:
        super().__init__(engine, command, target)
        may_lie = isinstance(target, DatagramSocket)
        self._lies = may_lie and self.kernel.chance.happens(self.kernel.chance.temper.cuts // 4)

    def is_ready(self) -> bool:
        return self._lies or self._mask() != 0

    def step(self) -> Answer | None:
        return Answer(self._mask() or self.command.argument)

    def _mask(self) -> int:
        target = self.target
        if isinstance(target, Outside):
            return 0
        if isinstance(target, DatagramSocket):
            ready = {select.POLLIN: bool(target.inbox), select.POLLOUT: not target.is_full()}
        else:
            ready = {select.POLLIN: target.is_readable(), select.POLLOUT: target.is_writable()}
            ready[select.POLLRDHUP] = target.ended
        mask = self.command.argument & sum(bit for bit, holds in ready.items() if holds)
        is_broken = isinstance(target, Stream) and (target.broken or bool(target.error))
        return mask | (select.POLLERR if is_broken else 0)


class ReceiveMessage(Request):
    target: DatagramSocket

    def is_ready(self) -> bool:
        return bool(self.target.inbox or self.target.error)

    def step(self) -> Answer | None:
        if self.target.error:
            return self.told_error()
        data, sender = self.target.inbox.popleft()
        self.target.delivered.append((data, sender))
        limit = self.command.length or len(data)
        flags = MSG_TRUNC if len(data) > limit else 0
        data = data[:limit]
        where = self.engine.memory.lend_message(data, sender, flags)
        return Answer(len(data), where, final=self.is_once)


class SendMessage(Request):
    target: DatagramSocket

    def is_ready(self) -> bool:
        return not self.target.is_full()

    def step(self) -> Answer | None:
        data = bytes_at(self.command.address, self.command.length)
        receiver = name_at(self.command.argument)
        assert len(receiver) <= UL_NAME_BYTES
        self.target.leave(data, receiver)
        return Answer(len(data))


class RelayRequest(Request):
    """One direction; `held` was received and is not sent. It tells its progress by no event."""

    target: Stream

    def __init__(self, engine: SimulatedEngine, command: Command, target: Target) -> None:
        super().__init__(engine, command, target)
        self.destination: Any = engine.kernel.target_of(command.argument)
        self.held = bytearray()
        self._state = ffi.cast("struct ul_relay_state *", command.address)
        ffi.memmove(self._state, ffi.new("struct ul_relay_state *"), ffi.sizeof(self._state[0]))

    def targets(self) -> list[Any]:
        return [self.target, self.destination]

    def is_ready(self) -> bool:
        return self._can_send() or self._can_receive()

    def _can_send(self) -> bool:
        return bool(self.held) and (self.destination.is_writable() or self.destination.shut)

    def _can_receive(self) -> bool:
        source = self.target
        if source.inbox and not source.error:
            return len(self.held) < self.command.length
        return bool(source.error) or (source.ended and not self.held)

    def step(self) -> Answer | None:
        sends = self._can_send() and (not self._can_receive() or self.kernel.chance.happens(500))
        answer = self._send() if sends else self._receive()
        self._state.progress_ns = self.kernel.now_ns
        self._tell()
        return answer

    def ended(self) -> None:
        self.held.clear()
        self._tell()

    def _tell(self) -> None:
        self._state.bytes = self.done
        self._state.bytes_held = len(self.held)
        self._state.buffers_held = bool(self.held)

    def _send(self) -> Answer | None:
        destination = self.destination
        if destination.error or destination.broken or destination.shut:
            error = destination.error or errno.EPIPE
            destination.error = 0
            return self._failed(binding.UL_RELAY_SEND, error)
        size = self.kernel.chance.part_of(min(len(self.held), destination.send_room()))
        destination.outbox += self.held[:size]
        del self.held[:size]
        self.done += size
        return None

    def _receive(self) -> Answer | None:
        source = self.target
        if source.error:
            error, source.error = source.error, 0
            return self._failed(binding.UL_RELAY_RECEIVE, error)
        if not source.inbox:
            return self._carry_end()
        room = self.command.length - len(self.held)
        size = self.kernel.chance.part_of(min(len(source.inbox), room))
        self.held += source.inbox[:size]
        del source.inbox[:size]
        return None

    def _carry_end(self) -> Answer:
        if self.destination.broken:
            return self._failed(binding.UL_RELAY_SEND, errno.ENOTCONN)
        self.destination.shut_sending()
        return Answer(self.done, self.done)

    def fail(self, error: int) -> Answer:
        """On either side; what is held is lost to both."""
        side = self.kernel.chance.pick((binding.UL_RELAY_RECEIVE, binding.UL_RELAY_SEND))
        for stream in self.targets():
            self.break_stream(stream, error)
        return self._failed(side, error)

    def _failed(self, side: int, error: int) -> Answer:
        self._state.failed = side
        return Answer(-error, self.done)


KINDS: dict[int, type[Request]] = {
    lib.UL_OP_ACCEPT: Accept,
    lib.UL_OP_RECV: Receive,
    lib.UL_OP_SEND: Send,
    lib.UL_OP_CONNECT: Connect,
    lib.UL_OP_POLL: Poll,
    lib.UL_OP_RECVMSG: ReceiveMessage,
    lib.UL_OP_SENDMSG: SendMessage,
    lib.UL_OP_SENDFILE: SendFile,
    lib.UL_OP_RELAY: RelayRequest,
}
TARGETS: dict[int, type] = {
    lib.UL_OP_ACCEPT: Listener,
    lib.UL_OP_RECV: Stream,
    lib.UL_OP_SEND: Stream,
    lib.UL_OP_CONNECT: Stream,
    lib.UL_OP_RECVMSG: DatagramSocket,
    lib.UL_OP_SENDMSG: DatagramSocket,
    lib.UL_OP_SENDFILE: Stream,
    lib.UL_OP_RELAY: Stream,
}
