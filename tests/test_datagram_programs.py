"""Random programs of datagram events, on our loops and on asyncio, which must show the same.

Row 33. As test_state_machine.py, whose environment variable for more programs it shares:

    STATE_MACHINE_EXAMPLES=4000 pytest tests/test_datagram_programs.py
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

import pytest
from datagram_worlds import RAISED, DatagramWorld
from differences import DIFFERENCES
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

EXAMPLES = int(os.environ.get("STATE_MACHINE_EXAMPLES", "100"))

# Where asyncio's flow control goes astray.
FLOW_IS_COMPARED = not DIFFERENCES["datagram_header_bytes"].on_this_python
# See "pause_datagrams".
MAY_PAUSE = sys.version_info >= (3, 11)

UNREAD_MAX = 4  # what surely fits into the socket while nobody reads it
SIZES = st.one_of(st.integers(0, 300), st.sampled_from([100_000, 1 << 20]))
KINDS = st.sampled_from(["bytes", "bytearray", "memoryview"])
LIMITS = st.sampled_from(["- -", "0 -", "1000 10", "67108864 -", "1 2", "-1 -"])

RAISES = [f"raise {name}" for name in RAISED]
SEND = "send bytes 100"
PAUSE = ["call pause_reading"] if MAY_PAUSE else []
ENDS = ["call close", "call abort"]
REACTIONS = {
    "received": [*ENDS, *PAUSE, *RAISES, SEND, "send bytes 1048576"],
    "error": [*ENDS, *RAISES, SEND],
    "pause": [*RAISES, SEND] if FLOW_IS_COMPARED else [],
    "resume": [*RAISES, SEND] if FLOW_IS_COMPARED else [],
    "lost": ["call close", *RAISES],
}
ARMED = st.sampled_from([(call, action) for call in REACTIONS for action in REACTIONS[call]])

Condition = Callable[[Any], bool]


def when(condition: Condition) -> Any:
    return precondition(lambda machine: condition(machine))


class DatagramMachine(RuleBasedStateMachine):
    """Gives each step to a world of asyncio and to one of ours, and compares them."""

    kind: str

    @initialize(connected=st.booleans())
    def open(self, connected: bool) -> None:
        self.worlds = [DatagramWorld(kind, connected) for kind in ("asyncio", self.kind)]
        self.compare()

    @property
    def oracle(self) -> DatagramWorld:
        return self.worlds[0]

    def is_open(self) -> bool:
        return not self.oracle.transport.is_closing()

    def is_there(self) -> bool:
        """Afterwards asyncio's transport raises AttributeError, or does not, by its history."""
        return not self.oracle.is_lost()

    def unread(self) -> int:
        """How many datagrams wait while reading is paused."""
        return self.oracle.peer_sent - len(self.oracle.received)

    def peer_may_send(self) -> bool:
        return self.is_there() and not self.oracle.peer_closed and self.unread() < UNREAD_MAX

    def may_send(self) -> bool:
        """Not what drops the unread: see "refused_while_paused"."""
        drops = self.oracle.connected and self.oracle.peer_closed and self.unread()
        return self.is_there() and not drops

    def peer_may_close(self) -> bool:
        """As may_send(), with datagrams that wait or that a reaction will send."""
        may_follow = self.oracle.is_flooded() or self.oracle.reactions
        drops = self.oracle.connected and self.unread() and may_follow
        return self.is_there() and not self.oracle.peer_closed and not drops

    # -- steps ----------------------------------------------------------------------------

    def step(self, *actions: str) -> None:
        for world in self.worlds:
            world.step(*actions)
        self.compare()

    def compare(self) -> None:
        asyncios, ours = (world.seen() for world in self.worlds)
        if not FLOW_IS_COMPARED:
            asyncios.flow = ours.flow = []
        assert ours == asyncios, f"\n{ours}\n{asyncios}"
        calls = [call.split()[0] for call in ours.calls if not call.startswith("plays")]
        assert calls.count("made") == 1
        assert "lost" not in calls[:-1], f"called after connection_lost(): {calls}"

    # -- sending ----------------------------------------------------------------------------

    @when(may_send)
    @rule(kind=KINDS, size=SIZES)
    def send(self, kind: str, size: int) -> None:
        if size > 300 and not self.oracle.peer_reads:
            size = 300  # how many large ones a full socket takes depends on their memory
        self.step(f"send {kind} {size}")

    @when(lambda self: self.is_open() and self.may_send() and self.oracle.peer_reads)
    @rule(count=st.integers(2, 30))
    def send_many(self, count: int) -> None:
        self.step(*["send bytes 100"] * count)

    @when(is_there)
    @rule()
    def send_text(self) -> None:
        self.step("send str 5")

    @when(is_there)
    @rule()
    def send_to_nobody(self) -> None:
        self.step("send bytes 5 nobody")

    @when(lambda self: self.is_open() and not self.oracle.peer_closed)
    @rule()
    def flood(self) -> None:
        for world in self.worlds:
            world.peer_reads = False
        self.step("flood")

    @when(is_open)
    @rule(limits=LIMITS)
    def set_limits(self, limits: str) -> None:
        self.step(f"limits {limits}")

    # -- receiving --------------------------------------------------------------------------

    @when(peer_may_send)
    @rule(size=st.one_of(st.integers(0, 300), st.just(150_000)))
    def peer_sends(self, size: int) -> None:
        if size > 300 and self.unread():
            size = 300  # two large ones fill the peer's socket, unless the first has been read
        self.step(f"peer send {size}")

    @when(lambda self: MAY_PAUSE and self.is_there())
    @rule(method=st.sampled_from(["pause_reading", "resume_reading"]))
    def pause_or_resume(self, method: str) -> None:
        self.step(f"call {method}")

    @when(lambda self: self.peer_may_send() and not self.oracle.reactions)
    @rule(armed=ARMED)
    def provoke(self, armed: tuple[str, str]) -> None:
        """Arms a reaction and brings about the call that it waits for. Not an error of a
        datagram that waits: asyncio goes on writing after an end in error_received()."""
        call, reaction = armed
        if call == "error" and self.oracle.is_flooded():
            return
        for world in self.worlds:
            world.reactions[call] = reaction
        if call == "received":
            self.step("peer send 10", "peer send 20")
        elif call == "error":
            self.step("send bytes 1048576")
        elif call == "lost":
            self.step("call close")
        elif self.is_open():
            self.flood()

    # -- the end ----------------------------------------------------------------------------

    @when(may_send)
    @rule(actions=st.lists(st.sampled_from([*ENDS, SEND, *PAUSE]), min_size=1, max_size=4))
    def end(self, actions: list[str]) -> None:
        """Several calls within one callback. After an end asyncio goes on with a full socket,
        and falls over it."""
        ended = [position for position, action in enumerate(actions) if action in ENDS]
        if ended and not self.oracle.peer_reads:
            actions = actions[: ended[0] + 1]
        self.step(*actions)

    @when(peer_may_close)
    @rule()
    def peer_closes(self) -> None:
        self.step("peer close")

    @when(lambda self: not self.oracle.peer_closed and not self.oracle.peer_reads)
    @rule()
    def peer_reads_again(self) -> None:
        for world in self.worlds:
            world.peer_reads = True
        self.step()

    @rule()
    def turn(self) -> None:
        """Nothing more happens, also after the end."""
        self.step()

    def teardown(self) -> None:
        if not hasattr(self, "worlds"):
            return  # hypothesis gave up before the first rule
        for world in self.worlds:
            world.end()
        self.compare()


class OnIoUring(DatagramMachine):
    kind = "io_uring"


class OnEpoll(DatagramMachine):
    kind = "epoll"


PROGRAMS = settings(
    max_examples=EXAMPLES,
    stateful_step_count=25,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    print_blob=False,
)


@pytest.mark.ours
@pytest.mark.timeout(3600)
def test_an_endpoint_does_what_asyncios_does(loop_kind: str) -> None:
    machine = {"io_uring": OnIoUring, "epoll": OnEpoll}[loop_kind]
    run_state_machine_as_test(machine, settings=PROGRAMS)
