"""Drives one engine through the built module, as the loop does, and checks what it says.

The harness keeps the caller's half of the contract in engine.h: it gives each operation a
token, keeps its memory until the final event, reads events before the next turn. In each
turn it asserts the engine's half: events only for operations in use, one final event each,
no more events than there is room for, `in_flight` equal to what is really unanswered.
It knows neither the loop nor which engine it drives.
"""

from __future__ import annotations

import hashlib
import ipaddress
import os
import resource
import socket
import struct
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from uringloop.driver._engine import ffi, lib

HOSTS = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}
LIMIT_S = 10.0  # for whatever a test waits for
TINY = {
    "sq_entries": 4,
    "cq_entries": 8,
    "event_capacity": 8,
    "buffer_count": 2,
    "buffer_bytes": 4096,
    "message_count": 2,
}
GENERATIONS = 1 << 24
LEAST_RESULT_OF_MORE = {
    lib.UL_OP_ACCEPT: 0,
    lib.UL_OP_RECV: 1,
    lib.UL_OP_RECVMSG: 0,
    lib.UL_OP_SEND: 0,  # with UL_ZERO_COPY
}


class Header(NamedTuple):
    """The struct ul_message before a payload."""

    name: bytes
    name_length: int
    control_length: int
    payload_length: int
    flags: int


class Event(NamedTuple):
    """An event, copied out of the engine's memory; `data` is what a receive names."""

    token: int
    result: int
    address: int
    is_final: bool
    opcode: int
    data: bytes
    header: Header | None


class Operation:
    """One command and what was answered to it, in order."""

    def __init__(self, token: int, opcode: int, memory: tuple[Any, ...], flags: int = 0) -> None:
        self.token = token
        self.opcode = opcode
        self.memory = memory  # belongs to the engine until the final event
        is_plain_send = opcode == lib.UL_OP_SEND and not flags & lib.UL_ZERO_COPY
        # Asked for one event, the final one.
        self.is_once = bool(flags & lib.UL_ONCE) or is_plain_send
        self.is_only_told = bool(flags & lib.UL_READABLE)  # may get sizes in place of bytes
        self.events: list[Event] = []
        self.state: Any = None  # RELAY: what the engine tells while it runs

    @property
    def is_done(self) -> bool:
        return bool(self.events) and self.events[-1].is_final

    @property
    def final(self) -> Event:
        assert self.is_done, f"no final event: {self!r}"
        return self.events[-1]

    @property
    def result(self) -> int:
        return self.final.result

    @property
    def results(self) -> list[int]:
        """Those of the events before the final one."""
        return [event.result for event in self.events if not event.is_final]

    @property
    def data(self) -> bytes:
        return b"".join(event.data for event in self.events)

    @property
    def messages(self) -> list[bytes]:
        """The payloads of RECVMSG."""
        return [event.data for event in self.events if event.header]

    def is_told(self, raw: Any) -> bool:
        """Whether an event tells how many bytes there are, and brings none."""
        return self.is_only_told and not raw.address

    @property
    def told(self) -> list[int]:
        """How many bytes there were, each time."""
        return [event.result for event in self.events if not (event.is_final or event.address)]

    def release(self) -> None:
        """After the final event: the memory is the caller's again."""
        self.memory = ()

    def __repr__(self) -> str:
        return f"<operation {self.opcode} token {self.token:#x}, {len(self.events)} events>"


class Engine:
    """An open engine. `config` are fields of struct ul_config; absent means the default."""

    def __init__(self, **config: int) -> None:
        opened = ffi.new("struct ul_engine **")
        error = lib.ul_open(ffi.new("struct ul_config *", config), opened)
        if error:
            raise OSError(-error, os.strerror(-error))
        self.handle = opened[0]
        self.shared = lib.ul_shared_of(self.handle)
        self.wake_fd: int = lib.ul_wake_descriptor(self.handle)
        self.capacity = config.get("event_capacity") or 1024
        self.operations: dict[int, Operation] = {}
        self._free_slots: list[int] = []
        self._generations: list[int] = []

    # Commands

    def stage(
        self, opcode: int, fd: int = -1, *, memory: tuple[Any, ...] = (), **fields: int
    ) -> Operation:
        operation = Operation(self._new_token(), opcode, memory, fields.get("flags", 0))
        self.operations[operation.token] = operation
        self.write_command(token=operation.token, opcode=opcode, fd=fd, **fields)
        return operation

    def write_command(self, **fields: int) -> None:
        """Writes a command as it is; for those that name no operation of this harness."""
        shared = self.shared
        if shared.command_count == shared.command_capacity:
            assert lib.ul_grow_commands(self.handle) == 0
        shared.commands[shared.command_count] = {
            "token": 0,
            "address": 0,
            "length": 0,
            "argument": 0,
            "fd": -1,
            "flags": 0,
            "opcode": 0,
            "reserved": 0,
            **fields,
        }
        shared.command_count += 1

    def accept(self, fd: int, flags: int = 0) -> Operation:
        return self.stage(lib.UL_OP_ACCEPT, fd, flags=flags)

    def accept_one(self, fd: int, name: Any = None) -> Operation:
        """`name`: a struct ul_name to be filled, which the caller keeps; None: not wanted."""
        address = 0 if name is None else address_of(name)
        return self.stage(lib.UL_OP_ACCEPT, fd, flags=lib.UL_ONCE, address=address)

    def receive(self, fd: int, flags: int = 0) -> Operation:
        return self.stage(lib.UL_OP_RECV, fd, flags=flags)

    def receive_one(self, fd: int, length: int = 65_536, flags: int = 0) -> Operation:
        return self.stage(lib.UL_OP_RECV, fd, length=length, flags=flags | lib.UL_ONCE)

    def receive_messages(self, fd: int, length: int = 0, flags: int = 0) -> Operation:
        return self.stage(lib.UL_OP_RECVMSG, fd, length=length, flags=flags)

    def send_message(self, fd: int, payload: Any, receiver: bytes | None = None) -> Operation:
        """`receiver`: its sockaddr; None: the socket is connected."""
        view = ffi.from_buffer(payload)
        name = receiver and ul_name(receiver)
        return self.stage(
            lib.UL_OP_SENDMSG,
            fd,
            memory=(view, name),
            address=address_of(view),
            length=len(view),
            argument=address_of(name) if name else 0,
        )

    def send_file(
        self, fd: int, file: int, offset: int = 0, length: int = 1 << 62, flags: int = 0
    ) -> Operation:
        return self.stage(
            lib.UL_OP_SENDFILE, fd, argument=file, address=offset, length=length, flags=flags
        )

    def send(self, fd: int, data: Any, flags: int = 0) -> Operation:
        view = ffi.from_buffer(data)
        return self.stage(
            lib.UL_OP_SEND,
            fd,
            memory=(view,),
            address=address_of(view),
            length=len(view),
            flags=flags,
        )

    def send_vectored(self, fd: int, pieces: Iterable[Any], flags: int = 0) -> Operation:
        views = [ffi.from_buffer(piece) for piece in pieces]
        # struct iovec: base and length, each as wide as a pointer
        iovecs = ffi.new("uintptr_t[]", 2 * len(views) or 1)
        for i, view in enumerate(views):
            iovecs[2 * i], iovecs[2 * i + 1] = address_of(view), len(view)
        return self.stage(
            lib.UL_OP_SEND,
            fd,
            memory=(iovecs, views),
            length=len(views),
            address=address_of(iovecs),
            flags=lib.UL_VECTORED | flags,
        )

    def connect(self, fd: int, address: bytes | bytearray, flags: int = 0) -> Operation:
        view = ffi.from_buffer(address)
        return self.stage(
            lib.UL_OP_CONNECT,
            fd,
            memory=(view,),
            address=address_of(view),
            length=len(address),
            flags=flags,
        )

    def poll(self, fd: int, mask: int, flags: int = 0) -> Operation:
        return self.stage(lib.UL_OP_POLL, fd, argument=mask, flags=flags)

    def relay(self, source: int, destination: int, limit: int = 128 * 1024) -> Operation:
        """One direction; its struct ul_relay_state is `operation.state`."""
        state = ffi.new("struct ul_relay_state *")
        operation = self.stage(
            lib.UL_OP_RELAY,
            source,
            memory=(state,),
            address=address_of(state),
            length=limit,
            argument=destination,
        )
        operation.state = state
        return operation

    def cancel(self, operation: Operation) -> None:
        self.write_command(opcode=lib.UL_OP_CANCEL, argument=operation.token)

    def cancel_all(self) -> None:
        for operation in list(self.operations.values()):
            self.cancel(operation)

    # Turns

    def turn(self, timeout_s: float | None = 0) -> list[Event]:
        timeout_ns = -1 if timeout_s is None else int(timeout_s * 1e9)
        count = lib.ul_turn(self.handle, timeout_ns)
        if count < 0:
            raise OSError(-count, os.strerror(-count))
        assert count == self.shared.event_count <= self.capacity
        events = [self._take(self.shared.events[i]) for i in range(count)]
        if not self.shared.command_count:
            assert self.shared.in_flight == len(self.operations)
        return events

    def run_until(
        self,
        condition: Callable[[], bool],
        *,
        limit_s: float = LIMIT_S,
        look_every_s: float = LIMIT_S,
    ) -> None:
        """Turns until `condition` holds. Each turn may sleep as long as it likes, so that
        an engine that forgets to answer fails; `look_every_s` is for conditions that
        change outside of the engine."""
        deadline = time.monotonic() + limit_s
        while not condition():
            left_s = deadline - time.monotonic()
            assert left_s > 0, f"not within {limit_s} s; unanswered: {self.unanswered()}"
            self.turn(min(left_s, look_every_s))

    def finish(self, *operations: Operation, limit_s: float = LIMIT_S) -> None:
        waiting = list(operations)

        def all_done() -> bool:
            while waiting and waiting[-1].is_done:
                waiting.pop()
            return not waiting

        self.run_until(all_done, limit_s=limit_s)

    def unanswered(self) -> list[Operation]:
        return list(self.operations.values())[:8]

    def wake_from_any_thread(self) -> None:
        os.write(self.wake_fd, struct.pack("=Q", 1))

    # The end

    def audit_and_close(self) -> None:
        """Nothing may be in flight after a cancel of all, and every buffer home."""
        try:
            self.cancel_all()
            self.turn()
            self.run_until(lambda: not self.operations and not self.shared.command_count)
            self.turn()
            assert self.shared.in_flight == 0
            assert self.shared.buffers_held == 0
            assert self.shared.relay_buffers_held == 0
        finally:
            self.close()

    def close(self) -> None:
        lib.ul_close(self.handle)
        self.handle = ffi.NULL
        self.operations.clear()

    @property
    def is_closed(self) -> bool:
        return bool(self.handle == ffi.NULL)

    def _new_token(self) -> int:
        if not self._free_slots:
            self._free_slots.append(len(self._generations))
            self._generations.append(0)
        slot = self._free_slots.pop()
        self._generations[slot] = (self._generations[slot] + 1) % GENERATIONS
        return self._generations[slot] << 32 | slot

    def _take(self, raw: Any) -> Event:
        is_final = not raw.flags & lib.UL_MORE
        operation = self.operations.get(raw.token)
        assert operation is not None, f"an event for no operation: {raw.token:#x} {raw.result}"
        assert raw.opcode == operation.opcode
        if not is_final:
            assert raw.opcode in LEAST_RESULT_OF_MORE
            assert raw.result >= LEAST_RESULT_OF_MORE[raw.opcode]
            assert not operation.is_once
        data, header = (b"", None) if operation.is_told(raw) else received(raw)
        event = Event(raw.token, raw.result, raw.address, is_final, raw.opcode, data, header)
        operation.events.append(event)
        if is_final:
            operation.release()
            del self.operations[raw.token]
            self._free_slots.append(raw.token & 0xFFFFFFFF)
        return event


def address_of(view: Any) -> int:
    return int(ffi.cast("uintptr_t", view))


def received(raw: Any) -> tuple[bytes, Header | None]:
    """The bytes that an event names, and what is told about them."""
    if raw.opcode in (lib.UL_OP_ACCEPT, lib.UL_OP_CONNECT) and raw.address:
        names = ffi.cast("struct ul_names *", raw.address)
        return bytes(ffi.buffer(names)), None
    is_message = raw.opcode == lib.UL_OP_RECVMSG and raw.result >= 0
    if not is_message and not (raw.opcode == lib.UL_OP_RECV and raw.result > 0):
        return b"", None
    assert raw.address
    data = bytes(ffi.buffer(ffi.cast("char *", raw.address), raw.result))
    if not is_message:
        return data, None
    found = ffi.cast("struct ul_message *", raw.address - lib.UL_MESSAGE_HEADER)
    name = bytes(ffi.buffer(found.name))[: found.name_length]
    told = (found.name_length, found.control_length, found.payload_length, found.flags)
    return data, Header(name, *told)


def ul_name(address: bytes) -> Any:
    """A struct ul_name of this sockaddr."""
    name = ffi.new("struct ul_name *")
    name.length = len(address)
    ffi.memmove(name.bytes, address, len(address))
    return name


def name_of(name: Any) -> bytes:
    return bytes(ffi.buffer(name.bytes))[: name.length]


def names_of(event: Event) -> tuple[bytes, bytes]:
    """The own and the peer's sockaddr of the connection that an ACCEPT or CONNECT brought."""
    names = ffi.from_buffer("struct ul_names *", event.data)
    return name_of(names.own), name_of(names.peer)


def sockaddr(address: Any) -> bytes:
    """The struct sockaddr of a Python address: a path, an abstract name (b"\\0..."),
    (IPv4, port) or (IPv6, port, ...)."""
    if isinstance(address, str | bytes):
        is_abstract = address[:1] in ("\0", b"\0")
        return (
            struct.pack("=H", socket.AF_UNIX)
            + os.fsencode(address)
            + (b"" if is_abstract else b"\0")
        )
    host, port = ipaddress.ip_address(address[0]), struct.pack("!H", address[1])
    if host.version == 4:
        return struct.pack("=H", socket.AF_INET) + port + host.packed + bytes(8)
    return struct.pack("=H", socket.AF_INET6) + port + bytes(4) + host.packed + bytes(4)


def nobody(new_socket: Callable[[], socket.socket]) -> Any:
    """The address of a UDP socket that was closed: sending there gives an ICMP error."""
    sock = new_socket()
    address = sock.getsockname()
    sock.close()
    return address


def read_rest(peer: socket.socket) -> bytes:
    """All that comes until the end."""
    data = bytearray()
    while piece := peer.recv(1 << 20):
        data += piece
    return bytes(data)


def read_digest(peer: socket.socket, total_bytes: int) -> str:
    """Reads that much; answers its digest."""
    digest = hashlib.sha256()
    buffer = bytearray(256 * 1024)
    while total_bytes:
        size = peer.recv_into(buffer, min(total_bytes, len(buffer)))
        assert size, "the end came early"
        digest.update(memoryview(buffer)[:size])
        total_bytes -= size
    return digest.hexdigest()


def abstract_name() -> bytes:
    """A name for a Unix socket outside of the file system, which no other process uses."""
    return b"\0uringloop test " + uuid.uuid4().hex.encode()


def open_descriptors() -> dict[int, str]:
    """Number and file of each open descriptor, without the one that looks."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            continue  # the listing's own
    return found


@contextmanager
def descriptors_left(count: int) -> Iterator[None]:
    """Lowers the soft limit so that only so many more can be opened, then it is EMFILE."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = [os.open("/dev/null", os.O_RDONLY) for _ in range(count + 1)]
    for fd in taken:
        os.close(fd)
    resource.setrlimit(resource.RLIMIT_NOFILE, (taken[-1], hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
