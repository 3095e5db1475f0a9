"""Commands that make no sense, in any order, to one engine: it must answer each, and go on.

Tokens that are in use, stale or wild; descriptors of every kind, closed under their operations,
never open; lengths and flags beside the mark; cancels of anything. What an address names is real
memory or none at all: to read from a wrong address is what C does.

Each command is owed one final event, no event may be about anything else, and at the end nothing
is in flight. Prints "ok"; before each example its steps go to the file PATH, for the case that
the process does not live to tell.

arguments   FEATURES EXAMPLES SEED PATH
"""

from __future__ import annotations

import contextlib
import mmap
import os
import socket
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TESTS), str(TESTS.parent)]

import hypothesis
from driver.engine_harness import LIMIT_S, TINY, address_of, open_descriptors, sockaddr
from hypothesis import strategies as st
from uringloop.driver._engine import ffi, lib

FEATURES, EXAMPLES, SEED = (int(argument) for argument in sys.argv[1:4])
LAST_STEPS = Path(sys.argv[4])

WAITS_NS = (0, 0, 1_000, 1_000_000, 5_000_000)
PAGE = mmap.PAGESIZE
ARENA_BYTES = 64 * PAGE
NO_MEMORY = 8  # an address at which there is none
OPCODES = (*range(lib.UL_OP_ACCEPT, lib.UL_OP_RELAY + 1), 0, lib.UL_OP_RELAY + 1, 1 << 31)
LENGTHS = (0, 1, 16, 28, 100, 129, 4096, 1 << 20, 1 << 31, 1 << 32, (1 << 63) - 1, (1 << 64) - 1)
MASKS = (0, 1, 4, 5, 2, 0x2000, 0x10, 1 << 30, 1 << 31, 1 << 28, (1 << 64) - 1)
NO_DESCRIPTORS = (-1, -(1 << 31), (1 << 31) - 1, 1 << 20)
GENERATION = 1 << 32

numbers = st.integers(0, 1 << 16)
command = st.tuples(
    st.just("command"),
    st.sampled_from(OPCODES),
    st.sampled_from(("fresh", "fresh", "fresh", "fresh", "known", "stale", "wild")),
    numbers,  # which descriptor
    st.sampled_from(("memory", "memory", "end", "none", "nowhere")),
    st.sampled_from(LENGTHS),
    numbers,  # argument
    st.integers(0, 31),  # flags
)
cancel = st.tuples(st.just("cancel"), st.sampled_from(("known", "stale", "wild")), numbers)
turn = st.tuples(st.just("turn"), st.sampled_from(WAITS_NS))
closing = st.tuples(st.just("close"), numbers)
opening = st.tuples(st.just("open"), numbers)
peer = st.tuples(st.just("peer"), numbers, st.sampled_from((1, 100, 100_000)))
steps = st.lists(
    st.one_of(command, command, command, command, turn, turn, cancel, closing, opening, peer),
    min_size=20,
    max_size=80,
)


def guarded_arena() -> tuple[int, Any]:
    """Memory behind which there is none: where it ends, and what keeps it."""
    arena = mmap.mmap(-1, ARENA_BYTES + PAGE)
    start = address_of(ffi.from_buffer(arena))
    libc = ffi_libc()
    assert libc.mprotect(ffi.cast("void *", start + ARENA_BYTES), PAGE, 0) == 0
    return start + ARENA_BYTES, arena


def ffi_libc() -> Any:
    from cffi import FFI

    declarations = FFI()
    declarations.cdef("int mprotect(void *, size_t, int);")
    return declarations.dlopen(None)


class Descriptors:
    """Descriptors of every kind; their peers are kept open, and read and written."""

    def __init__(self) -> None:
        self._open: list[Any] = []
        self._peers: list[socket.socket] = []
        self._closed: list[int] = []
        for kind in range(8):
            self.open(kind)

    def _stream(self) -> None:
        ours, peer = socket.socketpair()
        ours.setblocking(len(self._open) % 2 == 0)
        self._open += [ours, peer]
        self._peers.append(peer)

    def _listener(self) -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        client = socket.create_connection(listener.getsockname())
        self._open += [listener, client]
        self._peers.append(client)

    def _datagrams(self) -> None:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("127.0.0.1", 0))
        sock.connect(sock.getsockname())
        self._open.append(sock)
        self._peers.append(sock)

    def _messages(self) -> None:
        ours, peer = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._open += [ours, peer]
        self._peers.append(peer)

    def _pipe(self) -> None:
        reading, writing = os.pipe()
        self._open += [os.fdopen(reading, "rb", 0), os.fdopen(writing, "wb", 0)]

    def _file(self) -> None:
        file = tempfile.TemporaryFile()  # noqa: SIM115
        file.write(bytes(10_000))
        file.flush()
        self._open.append(file)

    def _unconnected(self) -> None:
        self._open.append(socket.socket(socket.AF_INET, socket.SOCK_STREAM))

    def _counter(self) -> None:
        self._open.append(os.fdopen(os.eventfd(0), "rb", 0))

    def open(self, kind: int) -> None:
        makers = (
            *(self._stream, self._listener, self._datagrams, self._messages),
            *(self._pipe, self._file, self._unconnected, self._counter),
        )
        makers[kind % len(makers)]()

    def pick(self, which: int) -> int:
        """Mostly one that is open."""
        if which % 8 == 0:
            candidates = [*NO_DESCRIPTORS, *self._closed]
            return candidates[which // 8 % len(candidates)]
        return int(self._open[which % len(self._open)].fileno()) if self._open else -1

    def close(self, which: int) -> None:
        if self._open:
            file = self._open.pop(which % len(self._open))
            self._closed.append(file.fileno())
            file.close()

    def let_peer_act(self, which: int, size: int) -> None:
        peer = self._peers[which % len(self._peers)]
        if peer.fileno() < 0:
            return
        with contextlib.suppress(OSError):
            if which % 2:
                peer.send(bytes(size), socket.MSG_DONTWAIT)
            else:
                peer.recv(size, socket.MSG_DONTWAIT)

    def close_all(self) -> None:
        while self._open:
            self.close(0)


class Fuzzed:
    """One engine, and what it owes."""

    def __init__(self, sizes: dict[str, int]) -> None:
        opened = ffi.new("struct ul_engine **")
        config = ffi.new("struct ul_config *", {"features": FEATURES, **sizes})
        assert lib.ul_open(config, opened) == 0
        self.handle = opened[0]
        self.shared = lib.ul_shared_of(self.handle)
        self.owed: Counter[int] = Counter()
        self.accepted: list[int] = []
        self._memory: list[Any] = []
        self._tokens: list[int] = []
        self._arena_end, self._arena = guarded_arena()
        self.descriptors = Descriptors()

    # -- steps --------------------------------------------------------------------------

    def command(
        self,
        opcode: int,
        whose: str,
        which: int,
        where: str,
        length: int,
        argument: int,
        flags: int,
    ) -> None:
        token = self._token(whose, argument)
        self._write(
            opcode=opcode,
            token=token,
            fd=self.descriptors.pick(which),
            address=self._address(opcode, where, length, flags),
            length=length,
            argument=self._argument(opcode, argument),
            flags=flags,
        )
        if opcode != lib.UL_OP_CANCEL:
            self.owed[token] += 1

    def cancel(self, whose: str, which: int) -> None:
        self._write(opcode=lib.UL_OP_CANCEL, argument=self._token(whose, which))

    def turn(self, timeout_ns: int) -> None:
        count = lib.ul_turn(self.handle, timeout_ns)
        assert count == self.shared.event_count, count
        for event in self.shared.events[0:count]:
            assert self.owed[event.token], f"an event of {event.token:#x}, which is owed none"
            if not event.flags & lib.UL_MORE:
                self.owed[event.token] -= 1
            if event.opcode == lib.UL_OP_ACCEPT and event.result >= 0:
                os.close(event.result)
            if event.opcode == lib.UL_OP_RECV and event.result > 0:
                bytes(ffi.buffer(ffi.cast("char *", event.address), event.result))

    def close(self, which: int) -> None:
        self.descriptors.close(which)

    def open(self, kind: int) -> None:
        self.descriptors.open(kind)

    def peer(self, which: int, size: int) -> None:
        self.descriptors.let_peer_act(which, size)

    # -- what goes into a command -------------------------------------------------------

    def _write(self, **fields: int) -> None:
        if self.shared.command_count == self.shared.command_capacity:
            assert lib.ul_grow_commands(self.handle) == 0
        defaults = {"token": 0, "address": 0, "length": 0, "fd": -1, "flags": 0}
        command = ffi.new("struct ul_command *", {**defaults, **fields})
        self.shared.commands[self.shared.command_count] = command[0]
        self.shared.command_count += 1

    def _token(self, whose: str, which: int) -> int:
        if whose == "wild":
            index = which % 5000 if which % 4 == 0 else (1 << 32) - 1 - which
            return (1 << 64) - 1 - (which << 17) if which % 2 else index
        if whose == "fresh" or not self._tokens:
            self._tokens.append(GENERATION | len(self._tokens))
            return self._tokens[-1]
        known = self._tokens[which % len(self._tokens)]
        return known if whose == "known" else known + GENERATION

    def _kept(self, memory: Any) -> int:
        self._memory.append(memory)
        return address_of(memory)

    def _address(self, opcode: int, where: str, length: int, flags: int) -> int:
        """Of what the engine itself reads or writes: memory that is long enough, or none."""
        if where == "none":
            return 0
        if opcode == lib.UL_OP_RELAY:
            return self._kept(ffi.new("struct ul_relay_state *"))
        if opcode == lib.UL_OP_ACCEPT:
            return self._kept(ffi.new("struct ul_name *"))
        if opcode == lib.UL_OP_CONNECT:
            name = sockaddr(("127.0.0.1", 9)).ljust(128, b"\0")
            return self._kept(ffi.from_buffer(name))
        if flags & lib.UL_VECTORED:
            pair = (self._arena_end - 100, 100)
            piece_bytes = 16
            ffi.memmove(
                ffi.cast("char *", self._arena_end - piece_bytes), ffi.new("uint64_t[2]", pair), 16
            )
            return self._arena_end - piece_bytes
        if where == "nowhere":
            return NO_MEMORY
        return self._arena_end - (16 if where == "end" else min(length, ARENA_BYTES))

    def _argument(self, opcode: int, argument: int) -> int:
        if opcode == lib.UL_OP_SENDMSG:
            if argument % 3 == 0:
                return 0
            name = {"length": LENGTHS[argument % len(LENGTHS)] & 0xFFFFFFFF}
            return self._kept(ffi.new("struct ul_name *", name))
        if opcode == lib.UL_OP_POLL:
            return MASKS[argument % len(MASKS)]
        if opcode == lib.UL_OP_CANCEL:
            return self._token("known", argument)
        return self.descriptors.pick(argument) & ((1 << 64) - 1)

    # -- the end ------------------------------------------------------------------------

    def finish(self) -> None:
        """Everything that is owed comes, once all is cancelled."""
        deadline = time.monotonic() + LIMIT_S
        while any(self.owed.values()) or self.shared.command_count:
            for token, count in self.owed.items():
                if count and not self.shared.command_count:
                    self._write(opcode=lib.UL_OP_CANCEL, argument=token)
            self.turn(1_000_000)
            assert time.monotonic() < deadline, f"owed: {+self.owed}"
        self.turn(0)
        assert self.shared.in_flight == 0
        assert self.shared.buffers_held == 0
        assert self.shared.relay_buffers_held == 0

    def release(self) -> None:
        lib.ul_close(self.handle)
        self.descriptors.close_all()


@hypothesis.seed(SEED)
@hypothesis.settings(
    max_examples=EXAMPLES,
    database=None,
    deadline=None,
    phases=(hypothesis.Phase.generate, hypothesis.Phase.shrink),
    suppress_health_check=list(hypothesis.HealthCheck),
)
@hypothesis.given(st.sampled_from(({}, TINY, {**TINY, "event_capacity": 2})), steps)
def fuzz(sizes: dict[str, int], some_steps: list[tuple[Any, ...]]) -> None:
    LAST_STEPS.write_text(f"{sizes}\n{some_steps}\n")
    before = open_descriptors()
    fuzzed = Fuzzed(sizes)
    try:
        for name, *arguments in some_steps:
            getattr(fuzzed, name)(*arguments)
        fuzzed.finish()
    finally:
        fuzzed.release()
    assert open_descriptors() == before


fuzz()
print("ok")
