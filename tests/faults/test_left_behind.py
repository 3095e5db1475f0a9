"""Requests that an enter left behind, or that wait for a receive buffer, and are cancelled then.

Rows 5 and 9. The kernel was short of memory, so they go with a later enter. Meanwhile their caller
has given up and closed the descriptor, whose number is another file's by the next turn.
"""

from __future__ import annotations

import errno
import os
import socket
from contextlib import ExitStack

import pytest

from tests.driver.engine_harness import TINY, Engine, sockaddr
from tests.faults.border import faults, met
from tests.faults.kinds import FEATURES_OF, per_kind
from tests.simulator.chance import Temper
from uringloop.driver.binding import lib

SHORT_OF_MEMORY = Temper(
    errors=0,
    delays=0,
    cuts=0,
    interrupts=0,
    shortages=500,
    losing=0,
    capacity=0,
    buffers=0,
    room=0,
)
TIMES = 200


def give_number_of(old: socket.socket, new: socket.socket) -> None:
    """The number of `old` is closed, and then names the file of `new`."""
    os.dup2(new.fileno(), old.fileno())


def assert_short_of_memory(kind: str) -> None:
    is_ring = kind != "epoll"
    assert bool(met()["an enter that was refused"]) == is_ring


@per_kind
@pytest.mark.parametrize("turns", [1, 2])
def test_bytes_of_the_numbers_next_owner_are_left_to_it(kind: str, turns: int):
    engine = Engine(features=FEATURES_OF[kind](), **TINY)
    with faults(turns, SHORT_OF_MEMORY):
        for _ in range(TIMES):
            with ExitStack() as stack:
                sockets = [*socket.socketpair(), *socket.socketpair()]
                old, _, ours, peer = (stack.enter_context(each) for each in sockets)
                receiving = engine.receive_one(old.fileno())
                for _ in range(turns):
                    engine.turn()
                peer.sendall(b"for ours")
                engine.cancel(receiving)
                give_number_of(old, ours)
                engine.finish(receiving)
                assert receiving.result == -errno.ECANCELED
                ours.setblocking(False)
                assert ours.recv(100) == b"for ours"
        assert_short_of_memory(kind)
    engine.audit_and_close()


@per_kind
def test_the_numbers_next_owner_is_not_connected(kind: str):
    engine = Engine(features=FEATURES_OF[kind](), **TINY)
    with faults(3, SHORT_OF_MEMORY), socket.create_server(("127.0.0.1", 0)) as listener:
        for _ in range(TIMES):
            with socket.socket() as old, socket.socket() as ours:
                old.setblocking(False)
                connecting = engine.connect(old.fileno(), sockaddr(listener.getsockname()))
                engine.turn()
                engine.cancel(connecting)
                give_number_of(old, ours)
                engine.finish(connecting)
                assert connecting.result in (0, -errno.ECANCELED)
                with pytest.raises(OSError, match="not connected"):
                    ours.getpeername()
        assert_short_of_memory(kind)
    engine.audit_and_close()


@per_kind
def test_nothing_is_sent_to_the_peer_of_the_numbers_next_owner(kind: str):
    engine = Engine(features=FEATURES_OF[kind](), **TINY)
    with faults(4, SHORT_OF_MEMORY):
        for _ in range(TIMES):
            with ExitStack() as stack:
                sockets = [*socket.socketpair(), *socket.socketpair()]
                old, _, ours, peer = (stack.enter_context(each) for each in sockets)
                sending = engine.send(old.fileno(), b"not for you", lib.UL_LAZY)
                engine.turn()
                engine.cancel(sending)
                give_number_of(old, ours)
                engine.finish(sending)
                assert sending.result in (len(b"not for you"), -errno.ECANCELED)
                peer.setblocking(False)
                with pytest.raises(BlockingIOError):
                    peer.recv(1)
        assert_short_of_memory(kind)
    engine.audit_and_close()
