"""The command ring and the event ring, through cffi: the interpreted rendering.

Python stages commands by writing structs into memory that the engine owns, and reads the
events of a turn out of another array; nothing here decides anything. rings.pyx is the
same through C pointers, with the same tests; the loop cannot tell them apart.

The current event's fields (`token`, `opcode`, `result`, `more`, `address`) are attributes:
take() moves to the next event. What `address` names is good until the next turn().
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from uringloop.driver.binding import UL_MESSAGE_HEADER, UL_MORE, UL_NAME_BYTES, ffi


class Rings:
    """The arrays of one engine; without one, stage() and turn() fail."""

    def __init__(self) -> None:
        self.token = 0
        self.address = 0
        self.result = 0
        self.opcode = 0
        self.more = False
        self.unbind()

    def bind(self, engine: int, shared: int, turn: int, grow: Callable[[], None]) -> None:
        """Points the rings at an open engine.

        engine, shared   the addresses of the engine and of its struct ul_shared
        turn             the address of ul_turn(); without arguments for cffi to look at, it is
                         called as cheaply as any C function
        grow             makes room in the command array, or raises MemoryError
        """
        self._engine: Any = ffi.cast("struct ul_engine *", engine)
        self._shared: Any = ffi.cast("struct ul_shared *", shared)
        self._turn: Any = ffi.cast("int (*)(struct ul_engine *, int64_t)", turn)
        self._grow: Any = grow
        self._next = 0
        self._count = 0

    def unbind(self) -> None:
        """Forgets the engine: it is about to be closed."""
        self._engine = None
        self._shared = None
        self._turn = None
        self._grow = None
        self._next = 0
        self._count = 0

    def stage(
        self,
        opcode: int,
        fd: int,
        token: int,
        address: int,
        length: int,
        argument: int,
        flags: int,
    ) -> None:
        """Writes one command, to be taken by the next turn; engine.h gives the meaning."""
        shared = self._shared
        if shared is None:
            raise RuntimeError("Event loop is closed")
        if shared.command_count == shared.command_capacity:
            self._grow()
        command = shared.commands[shared.command_count]
        command.token = token
        command.address = address
        command.length = length
        command.argument = argument
        command.fd = fd
        command.flags = flags
        command.opcode = opcode
        command.reserved = 0
        shared.command_count += 1

    def turn(self, timeout_ns: int) -> int:
        """One turn of the engine; forgets the events of the turn before.

        timeout_ns   how long to wait for an event; 0 only looks, negative is for ever
        returns      how many events came, or -errno
        """
        if self._engine is None:
            raise RuntimeError("Event loop is closed")
        count: int = self._turn(self._engine, timeout_ns)
        self._next = 0
        self._count = max(count, 0)
        return count

    def rest(self) -> None:
        """The time until the next turn is not the loop's: nothing is late by it."""
        if self._shared is not None:
            self._shared.held.since_ns = 0

    def has_events(self) -> bool:
        """Whether take() has another event of this turn."""
        return self._next < self._count

    def take(self) -> bool:
        """Makes the next event the current one; False when the turn's events are used up."""
        if self._next >= self._count:
            return False
        event = self._shared.events[self._next]
        self._next += 1
        self.token = event.token
        self.address = event.address
        self.result = event.result
        self.opcode = event.opcode
        self.more = (event.flags & UL_MORE) != 0
        return True

    def copy_bytes(self) -> bytes:
        """The current event's data, `result` bytes at `address`, as a new object."""
        return self.copy_rest(0)

    def copy_rest(self, offset: int) -> bytes:
        """The current event's data from `offset` on, in bytes, as a new object."""
        start = ffi.cast("char *", self.address + offset)
        return bytes(ffi.buffer(start, self.result - offset))

    def copy_name(self) -> bytes:
        """The sender's address of the current RECVMSG event, a sockaddr, as a new object.

        returns   empty where the sender has no name
        """
        header = ffi.cast("struct ul_message *", self.address - UL_MESSAGE_HEADER)
        length = min(header.name_length, UL_NAME_BYTES)
        return bytes(ffi.buffer(header.name, length))

    def copy_own_name(self) -> bytes:
        """The own address of the connection of the current ACCEPT event, a sockaddr.

        returns   empty where the kernel did not tell it
        """
        name = ffi.cast("struct ul_names *", self.address).own
        return bytes(ffi.buffer(name.bytes, name.length))

    def copy_peer_name(self) -> bytes:
        """The same of its peer's address."""
        name = ffi.cast("struct ul_names *", self.address).peer
        return bytes(ffi.buffer(name.bytes, name.length))

    def copy_into(self, target: Any, offset: int) -> int:
        """Fills the writable buffer `target` with the current event's data from `offset` on.

        returns   how many bytes went in: what is left of the data, or the size of target
        raises    BufferError, TypeError when target is not a writable contiguous buffer
        """
        with memoryview(target) as view, view.cast("B") as flat:
            size = min(self.result - offset, len(flat))
            start = ffi.cast("char *", self.address + offset)
            flat[:size] = ffi.buffer(start, size)
        return size

    def address_of(self, data: bytes) -> int:
        """Where the bytes of `data` are; good for as long as the object lives."""
        return int(ffi.cast("uintptr_t", ffi.from_buffer(data)))


class RelayState:
    """What the engine tells of one RELAY, while it runs and after: a struct ul_relay_state.

    It must be kept until the command's final event.
    """

    def __init__(self) -> None:
        self._state: Any = ffi.new("struct ul_relay_state *")

    def address(self) -> int:
        """Where it is, for the command."""
        return int(ffi.cast("uintptr_t", self._state))

    def moved_bytes(self) -> int:
        """Bytes given to the destination's socket."""
        return int(self._state.bytes)

    def buffers_held(self) -> int:
        """The pieces of memory with what is received and not given yet."""
        return int(self._state.buffers_held)

    def progress_ns(self) -> int:
        """When bytes moved last, in nanoseconds of CLOCK_MONOTONIC_COARSE; 0: not yet."""
        return int(self._state.progress_ns)

    def failed(self) -> int:
        """After an error the side that failed, UL_RELAY_*; 0: neither."""
        return int(self._state.failed)
