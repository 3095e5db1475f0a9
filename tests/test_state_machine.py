"""Random programs of transport events, on our loops and on asyncio, which must show the same.

Row 37 and row 18. Hypothesis makes the programs, always the same ones; a failure prints the
shortest program it finds, which can be pasted. For more of them:

    STATE_MACHINE_EXAMPLES=4000 pytest tests/test_state_machine.py

What depends on luck or on the size of a kernel buffer is not compared by leave but left out
of the programs. Each rule that refuses something says why.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)
from worlds import RAISED, World

EXAMPLES = int(os.environ.get("STATE_MACHINE_EXAMPLES", "150"))

# What surely fits into the sender's kernel buffer, in a few pieces, on a connection at rest.
FITS_BYTES = 96 * 1024
# What surely does not, and leaves more than the default high-water mark.
FLOOD_BYTES = 1024 * 1024
# What surely is one piece for the receiver.
PIECE_BYTES = 1024
STALLED_WRITE_BYTES = 1024
STALLED_TOTAL_BYTES = 16 * 1024

SIZES = st.one_of(st.integers(0, 300), st.integers(0, 300 * 1024))
KINDS = st.sampled_from(["bytes", "bytearray", "memoryview"])
BUFFERS = st.sampled_from(["-", "100", "1000", "65536"])  # "-" is a Protocol
LIMITS = st.sampled_from(["- -", "0 -", "100000 10", "67108864 -", "1 2", "-1 -"])

RAISES = [f"raise {name}" for name in RAISED]
SMALL_WRITE = "write bytes 100"
CALLS = [f"call {name}" for name in ("close", "abort", "write_eof", "pause_reading")]
REACTIONS = {
    "data": [*CALLS, *RAISES, SMALL_WRITE, "protocol -", "protocol 100"],
    "eof": [*CALLS, *RAISES, SMALL_WRITE],
    "pause": ["call close", "call abort", *RAISES, SMALL_WRITE],
    # Without close and abort, after which asyncio goes on to end the connection twice.
    "resume": ["call pause_reading", *RAISES, SMALL_WRITE],
    "lost": ["call close", "call pause_reading", "call resume_reading", *RAISES],
}
ARMED = st.sampled_from([(call, action) for call in REACTIONS for action in REACTIONS[call]])
FORCING = ("call abort", *RAISES)

Condition = Callable[[Any], bool]


def when(condition: Condition) -> Any:
    return precondition(lambda machine: condition(machine))


class TransportMachine(RuleBasedStateMachine):
    """Gives each step to a world of asyncio and to one of ours, and compares them."""

    kind: str

    def __init__(self) -> None:
        super().__init__()
        self.worlds: list[World] = []
        self.flow_compared = 0
        self.stalled_bytes = 0
        # An abort, a reset or an exception met bytes that were on their way: how many of
        # them still arrive is luck, and that they are the first ones is all there is to say.
        self.lossy = False
        # Whether asyncio can be called after connection_lost(): see "abort_after_lost".
        self.closed_at_rest = False

    @initialize(buffered=BUFFERS)
    def connect(self, buffered: str) -> None:
        size = None if buffered == "-" else int(buffered)
        for kind in ("asyncio", self.kind):
            self.worlds.append(World(kind, size))
        self.compare()

    @property
    def oracle(self) -> World:
        return self.worlds[0]

    # -- what the programs may ask for --------------------------------------------------

    def is_open(self) -> bool:
        return not self.oracle.transport.is_closing()

    def is_flooded(self) -> bool:
        return bool(self.oracle.transport.get_write_buffer_size())

    def peer_is_there(self) -> bool:
        return not self.oracle.peer.closed

    def may_write(self) -> bool:
        """After close() asyncio drops what is written or sends it, as there is nothing or
        something left to be sent."""
        if self.is_open() or self.closed_at_rest:
            return True
        return self.is_flooded() and not self.oracle.is_lost()

    def may_send(self) -> bool:
        """One piece at a time for a reaction: where a second one is cut is the loop's affair."""
        peer = self.oracle.peer
        armed = "data" in self.oracle.reactions
        return not (peer.shut or self.oracle.is_lost() or (armed and self.oracle.unread_bytes()))

    # -- steps ----------------------------------------------------------------------------

    def step(self, *actions: str, flow_is_exact: bool = True) -> None:
        was_flooded = self.is_flooded()
        writes = any(action.startswith("write") for action in actions)
        armed = self.oracle.reactions
        forces = any(action in FORCING for action in (*actions, *armed.values()))
        on_their_way = was_flooded or writes or self.stalled_bytes
        self.lossy = self.lossy or bool(forces and on_their_way)
        asyncios, ours = self.worlds
        asyncios.step(*actions)
        ours.step(*actions, loses=asyncios.is_lost())
        self.compare(flow_is_exact)

    def compare(self, flow_is_exact: bool = True) -> None:
        asyncios, ours = (world.seen() for world in self.worlds)
        flows = [seen.flow[self.flow_compared :] for seen in (asyncios, ours)]
        if not flow_is_exact and self.oracle.peer.reads and self.is_open():
            for world, flow in zip(self.worlds, flows, strict=True):
                assert [entry.split()[1] for entry in flow] in _pairs(len(flow)), world
                del world.flow[self.flow_compared :]
            asyncios.flow = ours.flow = []
        else:
            self.flow_compared = len(asyncios.flow)
        assert ours == asyncios, f"\n{ours}\n{asyncios}"
        self.compare_what_the_peer_has()
        for world in self.worlds:
            assert_protocols_were_well_treated(world)

    def compare_what_the_peer_has(self) -> None:
        for world in self.worlds:
            assert world.peer.arrived_whole, f"{world.kind}: bytes were lost or moved"
            assert world.peer.received_bytes <= world.written_bytes
        asyncios, ours = (world.peer.received_bytes for world in self.worlds)
        if not self.lossy:
            assert ours == asyncios, f"\n{ours}\n{asyncios}"

    # -- writing ----------------------------------------------------------------------------

    @when(may_write)
    @rule(kind=KINDS, size=SIZES)
    def write(self, kind: str, size: int) -> None:
        if not self.oracle.peer.reads:  # what does not fit is left to flood()
            size %= STALLED_WRITE_BYTES
            if self.stalled_bytes + size > STALLED_TOTAL_BYTES:
                return
            self.stalled_bytes += size
        self.step(f"write {kind} {size}", flow_is_exact=size <= FITS_BYTES)

    @rule(size=st.integers(0, 10))
    def write_text(self, size: int) -> None:
        self.step(f"write str {size}")

    @when(lambda self: self.is_open() and self.oracle.peer.reads)
    @rule(sizes=st.lists(st.integers(1, FITS_BYTES // 4), min_size=1, max_size=4))
    def writelines(self, sizes: list[int]) -> None:
        """No empty piece, and only where asyncio has no trouble of its own: see
        "writelines_empty_piece" and "writelines_pauses"."""
        self.step("writelines " + " ".join(map(str, sizes)))

    @when(is_open)
    @rule(kind=KINDS)
    def flood(self, kind: str) -> None:
        self.peer_stops_reading()
        self.step(f"write {kind} {FLOOD_BYTES}")

    @rule()
    def write_eof(self) -> None:
        self.step("call write_eof")

    @rule(limits=LIMITS)
    def set_limits(self, limits: str) -> None:
        self.step(f"limits {limits}")

    # -- reading ----------------------------------------------------------------------------

    @rule()
    def pause_reading(self) -> None:
        self.step("call pause_reading")

    @when(lambda self: not self.oracle.has_ended())
    @rule()
    def resume_reading(self) -> None:
        """Not after the end of file: asyncio would tell of it once more."""
        self.step("call resume_reading")

    @when(is_open)
    @rule(buffered=BUFFERS)
    def set_protocol(self, buffered: str) -> None:
        self.step(f"protocol {buffered}")

    @rule(keep_open=st.booleans())
    def keep_open(self, keep_open: bool) -> None:
        for world in self.worlds:
            world.keep_open = keep_open

    @when(lambda self: self.oracle.unread_bytes() == 0)
    @rule(armed=ARMED)
    def arm(self, armed: tuple[str, str]) -> None:
        call, reaction = armed
        for world in self.worlds:
            world.reactions[call] = reaction

    @when(lambda self: self.is_open() and self.oracle.unread_bytes() == 0)
    @rule(armed=ARMED)
    def provoke(self, armed: tuple[str, str]) -> None:
        """Arms a reaction and brings about the call that it waits for."""
        self.arm(armed)
        if armed[0] == "data" and self.may_send():
            self.peer_sends(PIECE_BYTES)
        elif armed[0] == "eof" and self.may_send():
            self.peer_half_closes()
        elif armed[0] in ("pause", "resume") and self.peer_is_there():
            self.flood("bytes")
        elif armed[0] == "lost":
            self.end("close")

    # -- the end ----------------------------------------------------------------------------

    @when(may_write)
    @rule(method=st.sampled_from(["close", "abort"]))
    def end(self, method: str) -> None:
        if self.is_open():
            self.closed_at_rest = method == "abort" or not self.is_flooded()
        self.step(f"call {method}")

    @when(is_open)
    @rule(
        actions=st.lists(
            st.sampled_from([*CALLS, "call resume_reading", SMALL_WRITE, "write bytes 40000"]),
            min_size=2,
            max_size=4,
        )
    )
    def do_together(self, actions: list[str]) -> None:
        """Several calls within one callback."""
        self.step(*self._allowed_together(actions))

    def _allowed_together(self, actions: list[str]) -> list[str]:
        """Leaves out what write(), resume_reading() and flood() would not be asked for."""
        allowed: list[str] = []
        for action in actions:
            closes = any(past in ("call close", "call abort") for past in allowed)
            writes = action.startswith("write")
            if writes and (closes or self.oracle.peer.closed or not self.oracle.peer.reads):
                continue
            if action == "call resume_reading" and self.oracle.has_ended():
                continue
            allowed.append(action)
        return allowed

    # -- the peer ---------------------------------------------------------------------------

    @when(may_send)
    @rule(size=st.integers(1, 300 * 1024))
    def peer_sends(self, size: int) -> None:
        if "data" in self.oracle.reactions:
            size = size % PIECE_BYTES + 1
        self.step(f"peer send {size}")

    @when(may_send)
    @rule()
    def peer_half_closes(self) -> None:
        self.step("peer half_close")

    @when(lambda self: self.peer_is_there() and not self.oracle.unread_bytes())
    @rule()
    def peer_closes(self) -> None:
        """With bytes that it has not read this is a reset."""
        self.lossy = self.lossy or not self.oracle.peer.reads
        for world in self.worlds:
            world.loss_is_either = self.is_flooded()
        self.step("peer close")

    @when(lambda self: self.peer_is_there() and self.is_open())
    @rule()
    def peer_stops_reading(self) -> None:
        for world in self.worlds:
            world.peer.reads = False

    @when(lambda self: self.peer_is_there() and not self.oracle.peer.reads)
    @rule()
    def peer_reads_again(self) -> None:
        for world in self.worlds:
            world.peer.reads = True
        self.step()
        self.stalled_bytes = 0

    def teardown(self) -> None:
        for world in self.worlds:
            world.end()
        if self.worlds:
            self.compare()


def _pairs(count: int) -> list[list[str]]:
    return [["pause", "resume"] * (count // 2)]


def assert_protocols_were_well_treated(world: World) -> None:
    calls = [entry.split()[1] for entry in world.calls if " plays " not in entry]
    assert calls.count("made") == 1
    assert calls.count("eof") <= 1
    assert calls.count("lost") <= 1
    assert "lost" not in calls[:-1], f"{world.kind}: called after connection_lost(): {world}"
    flow = [entry.split()[1] for entry in world.flow]
    assert flow == (["pause", "resume"] * len(flow))[: len(flow)], f"{world.kind}: {flow}"


class OnIoUring(TransportMachine):
    kind = "io_uring"


class OnEpoll(TransportMachine):
    kind = "epoll"


PROGRAMS = settings(
    max_examples=EXAMPLES,
    stateful_step_count=30,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    print_blob=False,
)


@pytest.mark.ours
@pytest.mark.timeout(3600)
def test_a_transport_does_what_asyncios_does(loop_kind: str) -> None:
    machine = {"io_uring": OnIoUring, "epoll": OnEpoll}[loop_kind]
    run_state_machine_as_test(machine, settings=PROGRAMS)
