"""An error queue that nobody reads makes its socket seem ready without end: a receive must
neither spin on it nor miss what really comes."""

from __future__ import annotations

import errno
import socket

import pytest
from uringloop.driver._engine import lib

from .conftest import operation_kinds
from .engine_harness import nobody

pytestmark = operation_kinds(
    "buffer_ring", "multishot_recv", "multishot_recvmsg", reason="how a receive waits"
)

IP_RECVERR = 11
SO_TIMESTAMPING = 37
TIMESTAMPS_OF_SENDS = 1 << 1 | 1 << 4 | 1 << 11  # TX_SOFTWARE, SOFTWARE, OPT_TSONLY
REPORTS_MAX = 3  # of a quiet socket; one that spins has thousands in the same time


@pytest.fixture
def plagued(new_socket):
    """A UDP socket whose error was told, while its queue still holds the ICMP message."""
    ours = new_socket()
    ours.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
    refuse_one(ours, new_socket)
    assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNREFUSED
    return ours


def refuse_one(sock, new_socket):
    """On the loopback the error is there at once."""
    sock.sendto(b"x", nobody(new_socket))


def reports_of_a_quiet_wait(engine):
    engine.turn()
    before = engine.shared.counters.completions
    assert engine.turn(0.1) == []
    return engine.shared.counters.completions - before


def test_waiting_for_datagrams_does_not_spin(sized_engine, plagued, new_socket):
    """Nor after some came, more at once than a turn takes."""
    peer = new_socket()
    receiving = sized_engine.receive_messages(plagued.fileno())
    for count in (100, 200):
        assert reports_of_a_quiet_wait(sized_engine) <= REPORTS_MAX
        for _ in range(100):
            peer.sendto(b"hello", plagued.getsockname())
        sized_engine.run_until(lambda count=count: len(receiving.messages) == count)
    assert reports_of_a_quiet_wait(sized_engine) <= REPORTS_MAX


def test_the_next_error_is_told_all_the_same(engine, plagued, new_socket):
    receiving = engine.receive_messages(plagued.fileno())
    assert reports_of_a_quiet_wait(engine) <= REPORTS_MAX
    refuse_one(plagued, new_socket)
    engine.finish(receiving)
    assert receiving.result == -errno.ECONNREFUSED


def test_a_queue_that_is_read_at_last_leaves_nothing_behind(engine, plagued, new_socket):
    receiving = engine.receive_messages(plagued.fileno())
    assert reports_of_a_quiet_wait(engine) <= REPORTS_MAX
    plagued.recvmsg(100, 1000, socket.MSG_ERRQUEUE)
    for count in range(1, 4):
        new_socket().sendto(b"hello", plagued.getsockname())
        engine.run_until(lambda count=count: len(receiving.messages) == count)


def test_waiting_for_a_single_datagram_does_not_spin(engine, plagued, new_socket):
    for _ in range(2):
        receiving = engine.receive_messages(plagued.fileno(), flags=lib.UL_ONCE)
        assert reports_of_a_quiet_wait(engine) <= REPORTS_MAX
        new_socket().sendto(b"hello", plagued.getsockname())
        engine.finish(receiving)
        assert receiving.messages == [b"hello"]


def test_a_stream_with_unread_timestamps_does_not_spin(engine, tcp_pair):
    """Both directions: a receive that waits, and a send that fills the socket meanwhile."""
    ours, peer = tcp_pair
    ours.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPING, TIMESTAMPS_OF_SENDS)
    ours.send(b"stamped")
    receiving = engine.receive(ours.fileno())
    assert reports_of_a_quiet_wait(engine) <= REPORTS_MAX
    sending = engine.send(ours.fileno(), bytes(1 << 24))
    assert reports_of_a_quiet_wait(engine) <= 20  # the send moves once more, or twice
    peer.send(b"ping")
    engine.run_until(lambda: receiving.data == b"ping")
    unread = 7 + (1 << 24)
    while unread:
        engine.turn()
        unread -= len(peer.recv(min(unread, 1 << 20)))
    engine.finish(sending)
    assert sending.result == 1 << 24
