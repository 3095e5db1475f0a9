"""The memory that Python and the simulated engine share, in engine.h's layout.

What an event names is good until the next turn: after that it is overwritten, so that a reader
who comes late reads something else and an oracle notices. It is not freed at once, which would
be a crash instead.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

from uringloop.driver.binding import UL_MESSAGE_HEADER, UL_MORE, UL_NAME_BYTES, ffi

COMMANDS_AT_OPEN = 2  # so few that the array grows in each run
POISON = 0xDD
KEPT_POISONED = 256


@dataclass(frozen=True)
class Command:
    """A struct ul_command that was taken."""

    token: int
    address: int
    length: int
    argument: int
    fd: int
    flags: int
    opcode: int


def address_of(pointer: Any) -> int:
    return int(ffi.cast("uintptr_t", pointer))


def bytes_at(address: int, size: int) -> bytes:
    """What a command names, as it is now."""
    return bytes(ffi.buffer(ffi.cast("char *", address), size))


def pieces_at(address: int, count: int) -> list[tuple[int, int]]:
    """Address and length of each struct iovec of an array."""
    numbers = ffi.cast("uint64_t *", address)
    return [(numbers[2 * index], numbers[2 * index + 1]) for index in range(count)]


def name_at(address: int) -> bytes:
    """The sockaddr in a struct ul_name."""
    name = ffi.cast("struct ul_name *", address)
    return bytes(ffi.buffer(name.bytes, name.length))


def write_name(name: Any, sockaddr: bytes) -> None:
    """Fills a struct ul_name."""
    name.length = len(sockaddr)
    ffi.memmove(name.bytes, sockaddr, len(sockaddr))


def write_name_at(address: int, sockaddr: bytes) -> None:
    write_name(ffi.cast("struct ul_name *", address), sockaddr)


class Memory:
    """A struct ul_shared and all that it leads to."""

    def __init__(self, event_capacity: int) -> None:
        self.shared = ffi.new("struct ul_shared *")
        self._commands = ffi.new("struct ul_command[]", COMMANDS_AT_OPEN)
        self._events = ffi.new("struct ul_event[]", event_capacity)
        self.shared.commands = self._commands
        self.shared.command_capacity = COMMANDS_AT_OPEN
        self.shared.events = self._events
        self._capacity = event_capacity
        self._lent: list[Any] = []
        self._poisoned: deque[Any] = deque(maxlen=KEPT_POISONED)

    def grow(self) -> None:
        """Doubles the commands, elsewhere; the old place is poisoned."""
        shared = self.shared
        commands = ffi.new("struct ul_command[]", 2 * shared.command_capacity)
        ffi.memmove(commands, self._commands, ffi.sizeof(self._commands))
        self._poison(self._commands)
        self._commands = commands
        shared.commands = commands
        shared.command_capacity *= 2

    def begin_turn(self) -> None:
        """The events of the last turn, and what they named, are over."""
        for chunk in self._lent:
            self._poison(chunk)
        self._lent.clear()
        self.shared.event_count = 0
        self.shared.buffers_held = 0

    def _poison(self, chunk: Any) -> None:
        ffi.buffer(chunk)[:] = bytes([POISON]) * ffi.sizeof(chunk)
        self._poisoned.append(chunk)

    def take_command(self) -> Command | None:
        """The first command that is left. Events must have room for what it may answer."""
        shared = self.shared
        if not shared.command_count or self.is_full():
            return None
        first = shared.commands[0]
        names = ("token", "address", "length", "argument", "fd", "flags", "opcode")
        command = Command(*(getattr(first, name) for name in names))
        shared.command_count -= 1
        rest = ffi.sizeof("struct ul_command") * shared.command_count
        ffi.memmove(shared.commands, shared.commands + 1, rest)
        return command

    def arguments_of(self, opcode: int) -> list[int]:
        """What the commands of this kind that are left name in their argument."""
        commands = (self.shared.commands[index] for index in range(self.shared.command_count))
        return [command.argument for command in commands if command.opcode == opcode]

    def is_full(self) -> bool:
        return bool(self.shared.event_count >= self._capacity)

    def give(self, command: Command, result: int, address: int, more: bool) -> None:
        """Adds one event."""
        assert not self.is_full()
        event = self.shared.events[self.shared.event_count]
        event.token = command.token
        event.address = address
        event.result = result
        event.flags = UL_MORE if more else 0
        event.opcode = command.opcode
        self.shared.event_count += 1

    # -- what events name ---------------------------------------------------------------

    def lend_bytes(self, data: bytes) -> int:
        """A receive buffer with `data`; where."""
        chunk = self._lend("char[]", max(len(data), 1))
        ffi.memmove(chunk, data, len(data))
        self.shared.buffers_held += 1
        return address_of(chunk)

    def lend_message(self, data: bytes, sender: bytes, flags: int) -> int:
        """The same with a struct ul_message before it."""
        chunk = self._lend("char[]", UL_MESSAGE_HEADER + max(len(data), 1))
        header = ffi.cast("struct ul_message *", chunk)
        header.name_length = len(sender)
        header.payload_length = len(data)
        header.flags = flags
        ffi.memmove(header.name, sender, min(len(sender), UL_NAME_BYTES))
        ffi.memmove(chunk + UL_MESSAGE_HEADER, data, len(data))
        self.shared.buffers_held += 1
        return address_of(chunk) + UL_MESSAGE_HEADER

    def lend_names(self, own: bytes, peer: bytes) -> int:
        """A struct ul_names."""
        names = self._lend("struct ul_names[]", 1)
        write_name(names[0].own, own)
        write_name(names[0].peer, peer)
        return address_of(names)

    def _lend(self, kind: str, count: int) -> Any:
        chunk = ffi.new(kind, count)
        self._lent.append(chunk)
        return chunk
