"""Memory that runs out, at each allocation of the engine in turn.

Whatever was allocated before is given back, each operation is answered, nothing crashes; the
sanitizers, under which ./check runs this, see what is used after it was freed.
"""

from __future__ import annotations

import contextlib
import errno
import socket

from tests.driver.engine_harness import TINY, Engine, Event, abstract_name, sockaddr
from tests.faults.kinds import FEATURES_OF, per_kind
from uringloop.driver.binding import lib

TURNS = 40
TURN_S = 0.000_2
BULK = bytes(200_000)
ALLOCATIONS_MAX = 100  # far more than there are: a run in which none fails must come


class Traffic:
    """Operations of each kind that needs memory of its own, and what moves them."""

    def __init__(self, engine: Engine, stack: contextlib.ExitStack) -> None:
        self._engine = engine
        self._stack = stack
        self._outer = self._relay()
        self._messages = self._receive_messages()
        self._accept_and_connect()
        self._many_operations()

    def _pair(self, kind: int = socket.SOCK_STREAM) -> tuple[socket.socket, socket.socket]:
        pair = socket.socketpair(socket.AF_UNIX, kind)
        for sock in pair:
            self._stack.enter_context(sock).setblocking(False)
        return pair

    def _relay(self) -> list[socket.socket]:
        (client, a), (server, b) = self._pair(), self._pair()
        self._engine.relay(a.fileno(), b.fileno())
        self._engine.relay(b.fileno(), a.fileno())
        return [client, server]

    def _receive_messages(self) -> socket.socket:
        ours, peer = self._pair(socket.SOCK_DGRAM)
        self._engine.receive_messages(ours.fileno())
        self._engine.receive_messages(ours.fileno(), flags=lib.UL_ONCE)
        return peer

    def _accept_and_connect(self) -> None:
        name = abstract_name()
        listener = self._stack.enter_context(socket.socket(socket.AF_UNIX))
        client = self._stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(name)
        listener.listen()
        self._engine.accept(listener.fileno())
        self._engine.connect(client.fileno(), sockaddr(name))

    def _many_operations(self) -> None:
        """More than there is room for at first, in the table and among the commands."""
        ours, _ = self._pair()
        for _ in range(3):
            for _ in range(200):
                self._engine.receive_one(ours.fileno())
            while self._engine.shared.command_count:
                self._close_accepted(self._engine.turn())
        assert lib.ul_grow_commands(self._engine.handle) in (0, -errno.ENOMEM)

    def turn(self, number: int) -> None:
        """Small messages first, then long ones that nobody reads."""
        for sock in self._outer:
            with contextlib.suppress(OSError):
                sock.send(bytes(100) if number < TURNS / 2 else BULK)
            if number < TURNS / 2:
                with contextlib.suppress(OSError):
                    sock.recv(1 << 16)
        with contextlib.suppress(OSError):
            self._messages.send(bytes(3000))
        self._close_accepted(self._engine.turn(TURN_S))

    def _close_accepted(self, events: list[Event]) -> None:
        for event in events:
            if event.opcode == lib.UL_OP_ACCEPT and event.result >= 0:
                socket.socket(fileno=event.result).close()


def _run(features: int, after: int) -> bool:
    """With so many allocations; whether that was too few."""
    with contextlib.ExitStack() as stack:
        stack.callback(lib.ub_fail_memory, -1)
        lib.ub_fail_memory(after)
        try:
            engine = Engine(features=features, **TINY)
        except OSError as error:
            assert error.errno == errno.ENOMEM
            return True
        traffic = Traffic(engine, stack)
        for number in range(TURNS):
            traffic.turn(number)
        has_failed = bool(lib.ub_has_memory_failed())
        lib.ub_fail_memory(-1)
        engine.audit_and_close()
    return has_failed


@per_kind
def test_each_allocation_may_be_the_last(kind: str):
    features = FEATURES_OF[kind]()
    held_before = lib.ub_memory_held()
    sufficient = (after for after in range(ALLOCATIONS_MAX) if not _run(features, after))
    assert next(sufficient) > 3
    assert lib.ub_memory_held() == held_before
