"""ACCEPT: every connection once, none lost, none left over."""

from __future__ import annotations

import errno
import fcntl
import os
import random
import socket
import struct
from contextlib import ExitStack

import pytest
from uringloop.driver._engine import lib

from .conftest import operation_kinds
from .engine_harness import abstract_name, descriptors_left, names_of, sockaddr

pytestmark = operation_kinds("multishot_accept", reason="how connections are accepted")

LINGER_RESET = struct.pack("ii", 1, 0)


@pytest.fixture(params=[0, lib.UL_SHARED], ids=["alone", "shared"])
def flags(request):
    """Whether others may accept on the socket: then there are other system calls behind it."""
    return request.param


def close_all(descriptors):
    for fd in descriptors:
        os.close(fd)


def test_a_burst_of_connections_is_accepted_whole(sized_engine, flags, listener, new_client):
    """Row 19: with the tiny sizes, hundreds of answers for a queue of eight."""
    accepting = sized_engine.accept(listener.fileno(), flags)
    clients = [new_client(listener) for _ in range(200)]
    sized_engine.run_until(lambda: len(accepting.results) == 200)
    peers = {client.getsockname() for client in clients}
    for fd in accepting.results:
        with socket.socket(fileno=fd) as accepted:
            peers.remove(accepted.getpeername())
    assert not peers
    assert not accepting.is_done


def test_connections_that_come_one_by_one_are_accepted(engine, flags, listener, new_client):
    accepting = engine.accept(listener.fileno(), flags)
    engine.turn()
    for count in range(1, 6):
        new_client(listener)
        engine.run_until(lambda count=count: len(accepting.results) == count)
    close_all(accepting.results)


def test_accepted_descriptors_are_not_blocking_and_not_inherited(
    engine, flags, listener, new_client
):
    accepting = engine.accept(listener.fileno(), flags)
    new_client(listener)
    engine.run_until(lambda: bool(accepting.results))
    fd = accepting.results[0]
    assert not os.get_blocking(fd)
    assert fcntl.fcntl(fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
    os.close(fd)


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_a_connection_comes_with_its_two_names(engine, flags, new_listener, new_client, family):
    listener = new_listener(family=family)
    accepting = engine.accept(listener.fileno(), flags)
    clients = [new_client(listener) for _ in range(3)]
    engine.run_until(lambda: len(accepting.results) == 3)
    own = sockaddr(listener.getsockname())
    expected = {(own, sockaddr(client.getsockname())) for client in clients}
    assert {names_of(event) for event in accepting.events} == expected
    close_all(accepting.results)


def test_a_unix_client_without_a_name_has_a_family_alone(engine, flags, resources):
    listener = resources.enter_context(socket.socket(socket.AF_UNIX))
    client = resources.enter_context(socket.socket(socket.AF_UNIX))
    name = abstract_name()
    listener.bind(name)
    listener.listen()
    listener.setblocking(False)
    accepting = engine.accept(listener.fileno(), flags)
    client.connect(name)
    engine.run_until(lambda: bool(accepting.results))
    unnamed = struct.pack("=H", socket.AF_UNIX)
    assert names_of(accepting.events[0]) == (sockaddr(name), unnamed)
    close_all(accepting.results)


def test_a_peer_that_is_gone_has_no_name(engine, flags, listener, new_client):
    dead = new_client(listener)
    dead.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
    dead.close()
    accepting = engine.accept(listener.fileno(), flags)
    engine.run_until(lambda: bool(accepting.results))
    assert names_of(accepting.events[0]) == (sockaddr(listener.getsockname()), b"")
    close_all(accepting.results)


def test_an_accept_cancelled_with_connections_queued_loses_none(
    sized_engine, flags, listener, new_client
):
    """Row 10: whatever the kernel took before the cancel won is delivered, and the rest is
    still in the queue for the next accept."""
    engine = sized_engine
    first = engine.accept(listener.fileno(), flags)
    engine.turn()
    for _ in range(20):
        new_client(listener)
    engine.cancel(first)
    engine.finish(first)
    assert first.result == -errno.ECANCELED
    second = engine.accept(listener.fileno(), flags)
    engine.run_until(lambda: len(first.results) + len(second.results) == 20)
    close_all(first.results + second.results)


def test_an_accept_cancelled_in_its_own_turn_loses_none(engine, flags, listener, new_client):
    """Rows 9, 10."""
    new_client(listener)
    first = engine.accept(listener.fileno(), flags)
    engine.cancel(first)
    engine.finish(first)
    second = engine.accept(listener.fileno(), flags)
    engine.run_until(lambda: len(first.results) + len(second.results) == 1)
    close_all(first.results + second.results)


def test_accepts_cancelled_at_random_leak_no_descriptor(engine, flags, listener, new_client):
    """Rows 8, 10: hundreds of cancels race against connections; each connection comes out
    exactly once. The fixture counts the descriptors."""
    seed = 10
    choose = random.Random(seed)
    taken = 0
    made = 0
    for _ in range(400):
        accepting = engine.accept(listener.fileno(), flags)
        if choose.random() < 0.5:
            engine.turn()
        for _ in range(choose.randrange(3)):
            new_client(listener).close()
            made += 1
        if choose.random() < 0.5:
            engine.turn()
        engine.cancel(accepting)
        engine.finish(accepting)
        taken += len(accepting.results)
        close_all(accepting.results)
    last = engine.accept(listener.fileno(), flags)
    engine.run_until(lambda: taken + len(last.results) == made)
    close_all(last.results)


def test_running_out_of_descriptors_ends_an_accept_that_may_start_again(
    engine, flags, listener, new_client
):
    """Rows 30, 31: EMFILE is final, so nothing spins; the connection stays queued."""
    client = new_client(listener)
    with descriptors_left(0):
        accepting = engine.accept(listener.fileno(), flags)
        engine.finish(accepting)
    assert accepting.result == -errno.EMFILE
    assert engine.turn() == []
    again = engine.accept(listener.fileno(), flags)
    engine.run_until(lambda: bool(again.results))
    with socket.socket(fileno=again.results[0]) as accepted:
        assert accepted.getpeername() == client.getsockname()


def test_a_connection_reset_in_the_queue_does_not_end_the_accept(
    engine, flags, listener, new_client
):
    dead = new_client(listener)
    dead.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
    dead.close()
    accepting = engine.accept(listener.fileno(), flags)
    alive = new_client(listener).getsockname()
    peers = []

    def alive_is_accepted():
        while len(peers) < len(accepting.results):
            with socket.socket(fileno=accepting.results[len(peers)]) as accepted:
                try:
                    peers.append(accepted.getpeername())
                except OSError as error:
                    assert error.errno == errno.ENOTCONN  # the dead one
                    peers.append(None)
        return alive in peers

    engine.run_until(alive_is_accepted)
    assert not accepting.is_done


def test_a_blocking_listener_does_not_block_the_turn(engine, flags, listener, new_client):
    """Row 14: and it is blocking still afterwards."""
    listener.setblocking(True)
    accepting = engine.accept(listener.fileno(), flags)
    engine.turn()
    new_client(listener)
    new_client(listener)
    engine.run_until(lambda: len(accepting.results) == 2)
    engine.turn()
    assert os.get_blocking(listener.fileno())
    close_all(accepting.results)


def test_a_unix_listener_accepts(engine, flags, resources, tmp_path):
    listener = resources.enter_context(socket.socket(socket.AF_UNIX))
    listener.bind(str(tmp_path / "listener"))
    listener.listen()
    client = resources.enter_context(socket.socket(socket.AF_UNIX))
    client.connect(str(tmp_path / "listener"))
    accepting = engine.accept(listener.fileno(), flags)
    engine.run_until(lambda: bool(accepting.results))
    close_all(accepting.results)


def test_accept_on_a_socket_that_does_not_listen_ends_with_einval(engine, flags, resources):
    unbound = resources.enter_context(socket.socket())
    accepting = engine.accept(unbound.fileno(), flags)
    engine.finish(accepting)
    assert accepting.result == -errno.EINVAL


def test_accept_on_a_datagram_socket_ends_with_an_error(engine, flags, resources):
    """It can never succeed, so it may not go on trying either."""
    datagram = resources.enter_context(socket.socket(type=socket.SOCK_DGRAM))
    datagram.bind(("127.0.0.1", 0))
    datagram.sendto(b"readable", datagram.getsockname())
    accepting = engine.accept(datagram.fileno(), flags)
    engine.finish(accepting)
    assert accepting.result == -errno.EOPNOTSUPP


def test_a_listener_shut_down_ends_its_accept(engine, flags, listener):
    accepting = engine.accept(listener.fileno(), flags)
    engine.turn()
    listener.shutdown(socket.SHUT_RDWR)
    engine.finish(accepting)
    assert accepting.result == -errno.EINVAL


@pytest.mark.parametrize("fd", [-1, 19_999, 2**31 - 1])
def test_accept_on_a_closed_descriptor_ends_with_ebadf(engine, flags, fd):
    accepting = engine.accept(fd, flags)
    engine.finish(accepting)
    assert accepting.result == -errno.EBADF


def test_two_accepts_on_one_listener_share_its_connections(engine, flags, listener, new_client):
    both = [engine.accept(listener.fileno(), flags) for _ in range(2)]
    for _ in range(10):
        new_client(listener)
    engine.run_until(lambda: sum(len(accepting.results) for accepting in both) == 10)
    for accepting in both:
        close_all(accepting.results)


def test_listeners_of_one_port_each_accept_their_own(engine, flags):
    """SO_REUSEPORT: the kernel chooses the listener; the engine may not mix them up."""
    with ExitStack() as stack:
        listeners = [stack.enter_context(socket.socket()) for _ in range(2)]
        address = ("127.0.0.1", 0)
        for listener in listeners:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            listener.bind(address)
            listener.listen()
            address = listener.getsockname()
        both = [engine.accept(listener.fileno(), flags) for listener in listeners]
        clients = [stack.enter_context(socket.create_connection(address)) for _ in range(20)]
        engine.run_until(lambda: sum(len(accepting.results) for accepting in both) == 20)
        engine.cancel_all()
        engine.finish(*both)
        close_all(both[0].results + both[1].results)
        assert len(clients) == 20


# Several engines, as of several processes


@pytest.fixture(params=["accept", "accept_one"])
def accept_shared(request):
    """Begins an accept on a socket that others accept on, too, and has the kernel know of it."""

    def begin(engine, listener):
        if request.param == "accept_one":
            accepting = engine.accept_one(listener.fileno())
        else:
            accepting = engine.accept(listener.fileno(), lib.UL_SHARED)
        engine.turn()
        return accepting

    return begin


def connections_of(accepting):
    """The descriptors that came, however they were asked for."""
    return [event.result for event in accepting.events if event.result >= 0]


@pytest.mark.parametrize("idle", [0, 1, 2])
def test_a_connection_is_taken_by_whoever_has_time(
    open_engine, listener, new_client, accept_shared, idle
):
    """Row 26: three engines wait, and two of them are busy. Whichever began to wait first."""
    engines = [open_engine() for _ in range(3)]
    accepts = [accept_shared(engine, listener) for engine in engines]
    new_client(listener)
    engines[idle].run_until(lambda: bool(connections_of(accepts[idle])))
    for engine in engines:
        engine.turn()
    taken = [connections_of(accepting) for accepting in accepts]
    assert [len(descriptors) for descriptors in taken] == [index == idle for index in range(3)]
    close_all(taken[idle])


@pytest.mark.parametrize("way", ["cancel", "close"])
def test_who_stops_accepting_leaves_connections_to_the_others(
    open_engine, listener, new_client, accept_shared, way
):
    """Row 26: the first to wait stops after a connection came and before it looked."""
    leaving, staying = open_engine(), open_engine()
    left = accept_shared(leaving, listener)
    accepting = accept_shared(staying, listener)
    new_client(listener)
    if way == "cancel":
        leaving.cancel(left)
        leaving.finish(left)
        assert left.result == -errno.ECANCELED
    else:
        leaving.close()
    staying.run_until(lambda: bool(connections_of(accepting)))
    close_all(connections_of(accepting))


def test_those_who_find_nothing_go_on_accepting(open_engine, listener, new_client, accept_shared):
    """All are told of each connection and one gets it; for the others the next one is new."""
    engines = [open_engine() for _ in range(3)]
    begun = [[accept_shared(engine, listener)] for engine in engines]

    def taken(index):
        return [fd for accepting in begun[index] for fd in connections_of(accepting)]

    for count in range(12):
        new_client(listener)
        index, expected = count % 3, 1 + count // 3
        engines[index].run_until(lambda i=index, n=expected: len(taken(i)) == n)
        for engine, accepts in zip(engines, begun, strict=True):
            engine.turn()
            if accepts[-1].is_done:  # had asked for one connection
                accepts.append(accept_shared(engine, listener))
    assert [len(taken(index)) for index in range(3)] == [4, 4, 4]
    for index in range(3):
        close_all(taken(index))
