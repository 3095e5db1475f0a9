"""ul_turn: when it waits, what ends the wait, and how much fits into one turn."""

from __future__ import annotations

import errno
import math
import os
import signal
import socket
import threading
import time
from select import POLLIN, POLLOUT

import pytest
from uringloop.driver._engine import lib

from .engine_harness import LIMIT_S, TINY


def test_a_turn_with_nothing_to_do_returns_at_once(engine):
    start = time.monotonic()
    for _ in range(1000):
        assert engine.turn() == []
    assert time.monotonic() - start < LIMIT_S


@pytest.mark.parametrize("timeout_s", [1e-9, 1e-6, 0.000_3, 0.001_7, 0.02])
@pytest.mark.undisturbed
def test_a_wait_never_ends_early(engine, timeout_s):
    """Rounding down would make timers fire before their time."""
    for _ in range(5):
        start = time.monotonic_ns()
        assert engine.turn(timeout_s) == []
        assert time.monotonic_ns() - start >= math.floor(timeout_s * 1e9)


def test_an_endless_wait_ends_with_an_event(engine, pair, in_thread):
    ours, peer = pair
    polling = engine.poll(ours.fileno(), POLLIN)
    engine.turn()
    writing = in_thread(peer.sendall, b"x")
    while not polling.is_done:
        engine.turn(None)
    writing.result(LIMIT_S)


@pytest.mark.undisturbed
def test_a_very_long_wait_is_not_a_short_one(engine, in_thread):
    """The largest timeout there is, ended by a wake-up."""
    started = threading.Event()
    waking = in_thread(lambda: (started.wait(LIMIT_S), engine.wake_from_any_thread()))
    started.set()
    assert lib.ul_turn(engine.handle, 2**63 - 1) == 0
    waking.result(LIMIT_S)


# Wake-ups


def test_a_wake_before_the_wait_ends_it(engine):
    """Row 23."""
    engine.wake_from_any_thread()
    assert engine.turn(None) == []


@pytest.mark.undisturbed
def test_a_wake_ends_one_wait_only(engine):
    """The engine reads the descriptor empty: several wakes are one."""
    for _ in range(3):
        engine.wake_from_any_thread()
    assert engine.turn(None) == []
    start = time.monotonic()
    engine.turn(0.02)
    assert time.monotonic() - start >= 0.02


def test_no_wake_of_ten_thousand_is_lost(engine, in_thread):
    """Row 23: a thread writes at any moment of the turn, and each time waits until the
    loop has seen it; a lost one leaves both waiting."""
    rounds = 10_000
    asked = seen = 0
    is_seen = threading.Semaphore(0)

    def ask():
        nonlocal asked
        for _ in range(rounds):
            asked += 1
            engine.wake_from_any_thread()
            assert is_seen.acquire(timeout=LIMIT_S)

    asking = in_thread(ask)
    deadline = time.monotonic() + 30
    while seen < rounds:
        engine.turn(LIMIT_S)
        if asked > seen:
            seen += 1
            is_seen.release()
        assert time.monotonic() < deadline
    asking.result(LIMIT_S)


def test_wakes_and_events_do_not_hide_each_other(sized_engine, pair):
    ours, peer = pair
    receiving = sized_engine.receive(ours.fileno())
    for i in range(100):
        sized_engine.wake_from_any_thread()
        peer.sendall(b"x")
        sized_engine.run_until(lambda i=i: len(receiving.data) == i + 1)


@pytest.fixture
def caught():
    """Sends SIGUSR1 to this thread soon; answers the list that its handler appends to."""
    seen = []
    before = signal.signal(signal.SIGUSR1, lambda *_: seen.append(True))
    sender = threading.Timer(0.02, signal.pthread_kill, (threading.get_ident(), signal.SIGUSR1))
    sender.start()
    yield seen
    sender.join()
    signal.signal(signal.SIGUSR1, before)


def test_a_signal_ends_the_wait(engine, caught):
    """Row 24: the caller runs Python's handlers and calls again. An engine that slept on
    would come back at the limit."""
    start = time.monotonic()
    engine.run_until(lambda: bool(caught))
    assert time.monotonic() - start < LIMIT_S / 2


def test_a_signal_ends_the_wait_of_a_turn_that_also_submitted(engine, pair, caught):
    """Row 24: liburing forgets EINTR then."""
    start = time.monotonic()
    engine.receive(pair[0].fileno())
    engine.run_until(lambda: bool(caught))
    assert time.monotonic() - start < LIMIT_S / 2


# Lazy answers


@pytest.mark.undisturbed
def test_a_lazy_answer_does_not_end_the_wait(engine, pair):
    sending = engine.send(pair[0].fileno(), b"x", lib.UL_LAZY)
    start = time.monotonic()
    engine.turn(0.02)
    assert time.monotonic() - start >= 0.02
    assert sending.result == 1


@pytest.mark.undisturbed
def test_a_lazy_answer_comes_with_the_next_event_that_somebody_waits_for(
    engine, new_pair, in_thread
):
    ours, peer = new_pair()
    receiving = engine.receive(ours.fileno())
    engine.turn()
    other, other_peer = new_pair()
    sending = engine.send(other.fileno(), b"x", lib.UL_LAZY)
    writing = in_thread(lambda: other_peer.recv(1) and peer.sendall(b"answer"))
    events = engine.turn(LIMIT_S)
    writing.result(LIMIT_S)
    assert [event.opcode for event in events] == [lib.UL_OP_SEND, lib.UL_OP_RECV]
    assert sending.is_done
    assert receiving.data == b"answer"


@pytest.mark.undisturbed
def test_a_lazy_answer_that_becomes_ready_in_the_wait_does_not_end_it(engine, pair):
    """Not tried at once, but ready within the turn all the same."""
    ours, peer = pair
    peer.sendall(b"x")
    polling = engine.poll(ours.fileno(), POLLIN, lib.UL_LAZY)
    start = time.monotonic()
    events = engine.turn(0.02)
    assert time.monotonic() - start >= 0.02
    assert [event.token for event in events] == [polling.token]


@pytest.mark.undisturbed
def test_a_lazy_answer_in_a_later_turn_counts(engine, pair, in_thread):
    ours, peer = pair
    polling = engine.poll(ours.fileno(), POLLIN, lib.UL_LAZY)
    engine.turn()
    writing = in_thread(peer.sendall, b"x")
    assert engine.turn(LIMIT_S)
    assert polling.result == POLLIN
    writing.result(LIMIT_S)


def test_a_lazy_answer_that_is_an_error_ends_the_wait(engine, pair):
    """Nobody would hear of it otherwise: here no receive is told anything."""
    ours, peer = pair
    receiving = engine.receive(ours.fileno())
    peer.shutdown(socket.SHUT_RD)
    sending = engine.send(ours.fileno(), b"x", lib.UL_LAZY)
    start = time.monotonic()
    engine.turn(LIMIT_S)
    assert time.monotonic() - start < LIMIT_S / 2
    assert sending.result == -errno.EPIPE
    assert not receiving.is_done


def test_lazy_answers_beyond_the_room_for_events_are_not_lost(sized_engine, pair):
    """Row 19."""
    fd = pair[0].fileno()
    polls = [sized_engine.poll(fd, POLLOUT, lib.UL_LAZY) for _ in range(100)]
    sized_engine.run_until(lambda: all(polling.is_done for polling in polls), look_every_s=0.001)
    assert {polling.result for polling in polls} == {POLLOUT}


# Room


@pytest.mark.undisturbed
def test_answers_beyond_the_room_for_events_stay_for_turns_that_do_not_wait(open_engine, new_pair):
    """Row 19."""
    engine = open_engine(event_capacity=8)
    pairs = [new_pair() for _ in range(50)]
    sends = [engine.send(ours.fileno(), b"x") for ours, _ in pairs]
    start = time.monotonic()
    turns = 0
    while not all(sending.is_done for sending in sends):
        assert engine.turn(LIMIT_S)
        turns += 1
    assert time.monotonic() - start < LIMIT_S
    assert turns >= 50 / 8
    assert [peer.recv(10) for _, peer in pairs] == [b"x"] * 50


def test_cancels_beyond_the_room_for_events_are_all_answered(open_engine, new_pair):
    """Row 19."""
    engine = open_engine(event_capacity=8)
    receives = [engine.receive(new_pair()[0].fileno()) for _ in range(50)]
    engine.turn()
    engine.cancel_all()
    engine.finish(*receives)
    assert {receiving.result for receiving in receives} == {-errno.ECANCELED}


def test_five_thousand_commands_fit_into_one_turn(sized_engine, new_pair):
    """Row 20: more than any queue has entries."""
    ours, _ = new_pair()
    polls = [sized_engine.poll(ours.fileno(), POLLOUT) for _ in range(5000)]
    sized_engine.finish(*polls)
    assert {polling.result for polling in polls} == {POLLOUT}


def test_hundreds_of_operations_ready_at_once_overflow_no_queue(sized_engine, new_pair):
    """Row 19: a completion queue of eight, and four hundred receives that go on."""
    pairs = [new_pair() for _ in range(200)]
    receives = [sized_engine.receive(end.fileno()) for pair in pairs for end in pair]
    sized_engine.turn()
    for ours, peer in pairs:
        ours.send(b"ping")
        peer.send(b"pong")
    sized_engine.run_until(lambda: all(receiving.data for receiving in receives))
    assert [receiving.data for receiving in receives] == [b"pong", b"ping"] * 200


def test_a_completion_queue_that_overflows_is_counted_and_loses_nothing(open_engine, new_pair):
    """Row 19: the kernel keeps what did not fit, until it is asked for it."""
    engine = open_engine(**TINY)
    pairs = [new_pair() for _ in range(300)]
    receives = [engine.receive(ours.fileno()) for ours, _ in pairs]
    engine.turn()
    for number, (_, peer) in enumerate(pairs):
        peer.send(b"%d" % number)
    engine.run_until(lambda: all(receiving.data for receiving in receives))
    assert [receiving.data for receiving in receives] == [b"%d" % n for n in range(300)]
    is_ring = bool(engine.shared.features & lib.UL_FEATURE_IO_URING)
    assert bool(engine.shared.counters.overflows) == is_ring


def test_a_caller_that_never_waits_gets_its_data(engine, pair, in_thread):
    """Row 21: a chain of call_soon keeps every timeout at 0."""
    ours, peer = pair
    receiving = engine.receive(ours.fileno())
    writing = in_thread(peer.sendall, bytes(1 << 20))
    deadline = time.monotonic() + LIMIT_S
    while len(receiving.data) < 1 << 20:
        engine.turn()
        assert time.monotonic() < deadline
    writing.result(LIMIT_S)


# Commands that are none


@pytest.mark.parametrize("opcode", [0, lib.UL_OP_SYMLINK + 1, 2**32 - 1])
def test_an_unknown_operation_is_refused(engine, opcode):
    engine.write_command(token=5, opcode=opcode)
    assert lib.ul_turn(engine.handle, int(LIMIT_S * 1e9)) == 1
    refusal = engine.shared.events[0]
    assert (refusal.token, refusal.result, refusal.flags) == (5, -errno.EINVAL, 0)
    assert engine.shared.in_flight == 0


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"opcode": lib.UL_OP_POLL, "argument": POLLIN | 1 << 30}, errno.EINVAL),
        ({"opcode": lib.UL_OP_POLL, "argument": POLLIN | 1 << 32}, errno.EINVAL),
        ({"opcode": lib.UL_OP_CONNECT, "length": 16}, errno.EINVAL),
        ({"opcode": lib.UL_OP_CONNECT, "length": 129, "address": 1}, errno.EINVAL),
        ({"opcode": lib.UL_OP_POLL, "token": 1 << 22}, errno.ENOMEM),
        ({"opcode": lib.UL_OP_POLL, "token": (1 << 32) - 1}, errno.ENOMEM),
    ],
    ids=["EPOLLONESHOT", "a wide mask", "no address", "a long address", "4194304", "4294967295"],
)
def test_a_command_that_the_engine_would_misread_is_refused(engine, pair, fields, error):
    """EPOLLONESHOT would turn the descriptor's other operations off; an index beyond all sense
    would have the table grow to it."""
    engine.write_command(fd=pair[0].fileno(), **fields)
    assert lib.ul_turn(engine.handle, int(LIMIT_S * 1e9)) == 1
    refusal = engine.shared.events[0]
    assert (refusal.token, refusal.result, refusal.flags) == (fields.get("token", 0), -error, 0)
    assert engine.shared.in_flight == 0


def test_counters_tell_what_happened(engine, pair):
    ours, peer = pair
    receiving = engine.receive(ours.fileno())
    sending = engine.send(ours.fileno(), b"hello")
    peer.sendall(b"x" * 10)
    engine.run_until(lambda: sending.is_done and len(receiving.data) == 10)
    counters = engine.shared.counters
    assert counters.commands == 2
    assert counters.bytes_received == 10
    assert counters.bytes_sent == 5
    assert counters.events == len(receiving.events) + 1
    assert counters.turns >= 1
    assert counters.enters >= 1
    assert counters.submissions >= 2
    assert counters.completions >= 1


@pytest.mark.engines("io_uring", "io_uring-plain", "epoll", reason="opening so many takes long")
def test_ten_thousand_descriptors_are_served(open_engine, resources):
    """The tables grow as they must; a few are ready among many that are not."""
    engine = open_engine()
    fds = [os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC) for _ in range(10_000)]
    for fd in fds:
        resources.callback(os.close, fd)
    polls = [engine.poll(fd, POLLIN) for fd in fds]
    engine.turn()
    for i in range(0, 10_000, 100):
        os.eventfd_write(fds[i], 1)
    engine.finish(*polls[::100])
    assert sum(polling.is_done for polling in polls) == 100
