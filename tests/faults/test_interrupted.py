"""Calls that a signal interrupts before they did anything: made again, and nothing waits for ever.

Row 24. A call that does not wait is rarely interrupted, but sendfile(2) of a slow file system may
be. Taken for "not ready", it would be tried again only at the next change of readiness, where a
poll had misled before; and when all is there already, none comes.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest

from tests.driver.engine_harness import TINY, Engine
from tests.faults.border import faults
from tests.faults.kinds import FEATURES_OF, per_kind
from tests.simulator.chance import Temper

STORM = Temper(
    errors=0,
    delays=0,
    cuts=0,
    interrupts=600,
    shortages=0,
    losing=0,
    capacity=0,
    buffers=0,
    room=0,
)
SENT = bytes(range(250)) * 400


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def new_pair(stack: ExitStack) -> tuple[socket.socket, socket.socket]:
    ours, peer = socket.socketpair()
    for sock in (ours, peer):
        stack.enter_context(sock).setblocking(False)
    return ours, peer


def read_all(sock: socket.socket, received: bytearray) -> int:
    """Takes what is there; how much there was so far."""
    with suppress(BlockingIOError):
        received += sock.recv(1 << 20)
    return len(received)


@per_kind
@pytest.mark.parametrize("seed", range(5))
def test_what_has_arrived_is_received_through_interruptions(kind: str, seed: int, stack: ExitStack):
    engine = Engine(features=FEATURES_OF[kind](), **TINY)
    ours, peer = new_pair(stack)
    with faults(seed, STORM):
        receiving = engine.receive(ours.fileno())
        sent_bytes = peer.send(SENT)
        engine.run_until(lambda: len(receiving.data) == sent_bytes)
        assert receiving.data == SENT[:sent_bytes]
    engine.audit_and_close()


@per_kind
@pytest.mark.parametrize("seed", range(5))
def test_a_file_is_sent_through_interruptions(kind: str, seed: int, stack: ExitStack, tmp_path):
    (tmp_path / "file").write_bytes(SENT)
    file = stack.enter_context((tmp_path / "file").open("rb"))
    engine = Engine(features=FEATURES_OF[kind](), **TINY)
    ours, peer = new_pair(stack)
    received = bytearray()
    with faults(seed, STORM):
        sending = engine.send_file(ours.fileno(), file.fileno())
        engine.run_until(lambda: read_all(peer, received) == len(SENT), look_every_s=0.001)
        engine.finish(sending)
    assert sending.result == len(SENT)
    assert received == SENT
    engine.audit_and_close()
