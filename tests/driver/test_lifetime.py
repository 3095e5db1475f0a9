"""Open, close, fork, threads: an engine's life, and who may touch it."""

from __future__ import annotations

import errno
import os
import socket
from select import POLLIN

import pytest
from uringloop.driver._engine import lib

from .conftest import FORKS
from .engine_harness import LIMIT_S, Engine, descriptors_left, sockaddr


def stage_everything(engine, listener, new_pair, resources):
    """One operation of each kind in flight, and memory that the kernel may look at."""
    unconnected = resources.enter_context(socket.socket())
    unconnected.setblocking(False)
    unanswered = resources.enter_context(socket.socket())
    unanswered.bind(("127.0.0.1", 0))
    unanswered.listen(0)
    for _ in range(4):
        filler = resources.enter_context(socket.socket())
        filler.setblocking(False)
        filler.connect_ex(unanswered.getsockname())
    pairs = [new_pair() for _ in range(4)]
    engine.accept(listener.fileno())
    engine.receive(pairs[0][0].fileno())
    engine.send(pairs[1][0].fileno(), bytes(1 << 24))
    engine.send_vectored(pairs[2][0].fileno(), [bytes(1 << 20)] * 20)
    engine.connect(unconnected.fileno(), sockaddr(unanswered.getsockname()))
    engine.poll(pairs[3][0].fileno(), POLLIN)
    engine.accept_one(listener.fileno())
    engine.receive_one(pairs[1][0].fileno())
    engine.receive_messages(pairs[2][0].fileno())
    engine.receive_messages(pairs[3][0].fileno(), flags=lib.UL_ONCE)
    stage_files(engine, resources, pairs[3][0])
    return pairs


def stage_files(engine, resources, ours):
    """A pipe that is read, one that is written, and a file that is sent."""
    ends = [end for _ in range(2) for end in os.pipe()]
    file = os.memfd_create("file")
    os.ftruncate(file, 1 << 24)
    for fd in (*ends, file):
        resources.callback(os.close, fd)
        os.set_blocking(fd, False)
    engine.receive(ends[0], lib.UL_FILE)
    engine.send(ends[3], bytes(1 << 24), lib.UL_FILE)
    engine.send_file(ours.fileno(), file)


def test_close_with_everything_in_flight(sized_engine, listener, new_pair, resources):
    """Rows 5, 6: the kernel lets go of memory and descriptors before close returns, so the
    peers of sockets closed after it see the end at once."""
    pairs = stage_everything(sized_engine, listener, new_pair, resources)
    sized_engine.turn()
    sized_engine.turn()
    sized_engine.close()
    for ours, peer in pairs:
        ours.close()
        while peer.recv(1 << 20):
            pass


def test_close_with_commands_that_no_turn_took(engine, listener, new_pair, resources):
    stage_everything(engine, listener, new_pair, resources)
    engine.close()


def test_close_with_data_and_connections_that_nobody_took(
    sized_engine, listener, new_client, new_pair
):
    """Row 10: connections that the kernel accepted for us are closed, not leaked."""
    sized_engine.accept(listener.fileno())
    ours, peer = new_pair()
    sized_engine.receive(ours.fileno())
    sized_engine.turn()
    clients = [new_client(listener) for _ in range(20)]
    peer.sendall(b"unread")
    sized_engine.close()
    listener.close()
    for client in clients:
        try:
            assert client.recv(1) == b""
        except ConnectionResetError:
            pass  # refused in the queue: nobody ever accepted it


def test_close_at_once(open_engine):
    open_engine().close()


def test_close_from_another_thread(engine, pair, in_thread):
    engine.receive(pair[0].fileno())
    engine.turn()
    in_thread(engine.close).result(LIMIT_S)


@pytest.mark.parametrize("count", range(4))
def test_opening_without_enough_descriptors_fails_whole(open_engine, count):
    """Row 30: an engine has two of its own; with fewer there is EMFILE and nothing left."""
    with descriptors_left(count):
        if count >= 2:
            open_engine().close()
            return
        with pytest.raises(OSError) as refusal:
            open_engine()
        assert refusal.value.errno == errno.EMFILE


def test_three_hundred_engines_one_after_the_other(open_engine, pair):
    """Row 29: the kernel frees a ring's memory late; opening goes on all the same."""
    ours, peer = pair
    for i in range(300):
        engine = open_engine()
        receiving = engine.receive(ours.fileno())
        peer.sendall(b"%03d" % i)
        engine.run_until(lambda receiving=receiving: len(receiving.data) == 3)
        assert receiving.data == b"%03d" % i
        engine.close()


def test_many_engines_at_once_keep_to_themselves(open_engine, new_pair):
    engines = [open_engine() for _ in range(20)]
    pairs = [new_pair() for _ in engines]
    receives = [
        engine.receive(ours.fileno()) for engine, (ours, _) in zip(engines, pairs, strict=True)
    ]
    for i, (_, peer) in enumerate(pairs):
        peer.sendall(b"%d" % i)
    for i, (engine, receiving) in enumerate(zip(engines, receives, strict=True)):
        engine.run_until(lambda receiving=receiving: bool(receiving.data))
        assert receiving.data == b"%d" % i


# Threads


def test_an_engine_made_in_one_thread_runs_in_another(open_engine, pair, in_thread):
    """Row 3: commands staged before the first turn, too. The ring belongs to the thread of
    the first turn, and the thread ends in another test's time, so it also closes."""
    engine = open_engine()
    ours, peer = pair
    receiving = engine.receive(ours.fileno())
    peer.sendall(b"hello")

    def run():
        engine.run_until(lambda: receiving.data == b"hello")
        engine.audit_and_close()

    in_thread(run).result(LIMIT_S)


def test_a_turn_in_a_second_thread_works_or_is_refused(engine, pair, in_thread):
    """Rows 3, 4: refused with EEXIST where the ring is bound to its thread; never a hang,
    and the first thread goes on as if nothing had been."""
    ours, peer = pair
    receiving = engine.receive(ours.fileno())
    engine.turn()
    second = in_thread(engine.turn)
    if engine.shared.features & lib.UL_FEATURE_SINGLE_ISSUER:
        with pytest.raises(OSError) as refusal:
            second.result(LIMIT_S)
        assert refusal.value.errno == errno.EEXIST
    else:
        assert second.result(LIMIT_S) == []
    peer.sendall(b"hello")
    engine.run_until(lambda: receiving.data == b"hello")


# Fork


def wait_for_child(child):
    """The child's exit status."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def run_in_child(body):
    """Forks; runs `body` in the child, which exits 0 if it returns true."""
    child = os.fork()
    if child:
        return wait_for_child(child)
    status = 1
    try:
        status = 0 if body() else 2
    finally:
        os._exit(status)


@FORKS
def test_a_forked_child_that_abandons_the_engine_does_not_disturb_the_parent(engine, new_pair):
    """Row 26: closing in the child may not cancel, wake or unregister for the parent."""
    (ours, peer), (polled, polled_peer) = new_pair(), new_pair()
    receiving = engine.receive(ours.fileno())
    polling = engine.poll(polled.fileno(), POLLIN)
    engine.turn()

    def abandon():
        lib.ul_abandon(engine.handle)
        lib.ul_abandon(engine.handle)
        refused = lib.ul_turn(engine.handle, 0) == -errno.EBADF
        lib.ul_close(engine.handle)
        return refused

    assert run_in_child(abandon) == 0
    assert engine.turn(0.01) == []
    peer.sendall(b"parent's")
    engine.run_until(lambda: receiving.data == b"parent's")
    polled_peer.sendall(b"x")
    engine.finish(polling)
    assert polling.result == POLLIN
    engine.wake_from_any_thread()
    assert engine.turn(None) == []


@FORKS
def test_a_forked_child_opens_an_engine_of_its_own(engine, features, pair):
    """Row 26."""
    engine.receive(pair[0].fileno())
    engine.turn()

    def echo():
        lib.ul_abandon(engine.handle)
        lib.ul_close(engine.handle)
        fresh = Engine(features=features)
        ours, peer = socket.socketpair()
        receiving = fresh.receive(ours.fileno())
        peer.sendall(b"child's")
        fresh.run_until(lambda: receiving.data == b"child's")
        fresh.audit_and_close()
        return True

    assert run_in_child(echo) == 0


@FORKS
def test_a_child_that_keeps_our_sockets_open_does_not_keep_them_reporting(engine, new_pair):
    """Row 26, epoll's side: a registration belongs to the file, which the child shares, so
    closing it here does not end it. Nothing may report for it afterwards."""
    ours, peer = new_pair()
    receiving = engine.receive(ours.fileno())
    engine.turn()
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.close(writer)
        os.read(reader, 1)  # until the parent is done, or gone
        os._exit(0)
    os.close(reader)
    try:
        engine.cancel(receiving)
        engine.finish(receiving)
        ours.close()
        peer.sendall(b"to nobody")
        enters = engine.shared.counters.enters
        assert engine.turn(0.03) == []
        assert engine.shared.counters.enters - enters <= 2
    finally:
        os.close(writer)
        assert wait_for_child(child) == 0
