"""CONNECT: to what listens, refuses, does not answer; blocking sockets or not."""

from __future__ import annotations

import errno
import os
import socket

import pytest
from uringloop.driver._engine import lib

from .conftest import operation_kinds
from .engine_harness import names_of, sockaddr

pytestmark = operation_kinds(reason="no feature changes how a connect goes on")


@pytest.fixture
def new_socket(resources):
    """A socket to connect, not blocking unless said."""

    def factory(family=socket.AF_INET, blocking=False):
        made = resources.enter_context(socket.socket(family, socket.SOCK_STREAM))
        made.setblocking(blocking)
        return made

    return factory


@pytest.fixture
def silent_address(new_listener, new_socket):
    """An address that leaves connections in progress: a backlog that is full, so that the
    kernel drops what comes."""
    listener = new_listener(backlog=0)
    address = listener.getsockname()
    for _ in range(4):
        new_socket().connect_ex(address)
    return address


def test_connect_to_a_listener(engine, listener, new_socket, resources):
    ours = new_socket()
    connecting = engine.connect(ours.fileno(), sockaddr(listener.getsockname()))
    engine.finish(connecting)
    assert connecting.result == 0
    accepted = resources.enter_context(listener.accept()[0])
    assert ours.getpeername() == listener.getsockname()
    assert accepted.getpeername() == ours.getsockname()


def test_connect_to_an_ipv6_listener(engine, new_listener, new_socket):
    listener = new_listener(family=socket.AF_INET6)
    ours = new_socket(socket.AF_INET6)
    connecting = engine.connect(ours.fileno(), sockaddr(listener.getsockname()))
    engine.finish(connecting)
    assert connecting.result == 0
    assert ours.getpeername() == listener.getsockname()


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_the_two_names_are_told_where_they_are_wanted(engine, new_listener, new_socket, family):
    address = new_listener(family=family).getsockname()
    asking, other = new_socket(family), new_socket(family)
    connecting = engine.connect(asking.fileno(), sockaddr(address), lib.UL_NAMES)
    unasked = engine.connect(other.fileno(), sockaddr(address))
    engine.finish(connecting)
    engine.finish(unasked)
    assert names_of(connecting.events[0]) == (sockaddr(asking.getsockname()), sockaddr(address))
    assert unasked.events[0].address == 0


def test_connect_to_a_unix_listener(engine, new_socket, resources, tmp_path):
    path = str(tmp_path / "listener")
    listener = resources.enter_context(socket.socket(socket.AF_UNIX))
    listener.bind(path)
    listener.listen()
    ours = new_socket(socket.AF_UNIX)
    connecting = engine.connect(ours.fileno(), sockaddr(path))
    engine.finish(connecting)
    assert connecting.result == 0
    assert ours.getpeername() == path


def test_connect_where_nobody_listens_is_refused(engine, new_listener, new_socket):
    listener = new_listener()
    address = listener.getsockname()
    listener.close()
    connecting = engine.connect(new_socket().fileno(), sockaddr(address), lib.UL_NAMES)
    engine.finish(connecting)
    assert connecting.result == -errno.ECONNREFUSED
    assert connecting.events[0].address == 0


def test_connect_to_a_path_that_is_not_there_ends_with_enoent(engine, new_socket, tmp_path):
    path = str(tmp_path / "nobody")
    connecting = engine.connect(new_socket(socket.AF_UNIX).fileno(), sockaddr(path))
    engine.finish(connecting)
    assert connecting.result == -errno.ENOENT


def test_connect_to_a_full_unix_backlog_tells_to_try_again(engine, new_socket, resources, tmp_path):
    """asyncio reports a connection here that does not exist; see connect_begin in
    epoll_operations.c."""
    path = str(tmp_path / "full")
    listener = resources.enter_context(socket.socket(socket.AF_UNIX))
    listener.bind(path)
    listener.listen(0)
    while new_socket(socket.AF_UNIX).connect_ex(path) == 0:
        pass
    connecting = engine.connect(new_socket(socket.AF_UNIX).fileno(), sockaddr(path))
    engine.finish(connecting)
    assert connecting.result == -errno.EAGAIN


@pytest.mark.parametrize("blocking", [False, True], ids=["nonblocking", "blocking"])
def test_a_connection_in_progress_neither_blocks_nor_answers_and_can_be_cancelled(
    engine, silent_address, new_socket, blocking
):
    """Row 14."""
    ours = new_socket(blocking=blocking)
    connecting = engine.connect(ours.fileno(), sockaddr(silent_address))
    assert engine.turn() == []
    assert engine.turn(0.01) == []
    assert os.get_blocking(ours.fileno()) == blocking
    engine.cancel(connecting)
    engine.finish(connecting)
    assert connecting.result == -errno.ECANCELED


@pytest.mark.parametrize("blocking", [False, True], ids=["nonblocking", "blocking"])
def test_a_blocking_socket_connects_and_stays_blocking(engine, listener, new_socket, blocking):
    """Row 14."""
    ours = new_socket(blocking=blocking)
    connecting = engine.connect(ours.fileno(), sockaddr(listener.getsockname()))
    engine.finish(connecting)
    assert connecting.result == 0
    assert os.get_blocking(ours.fileno()) == blocking


@pytest.mark.engines("io_uring", "epoll", reason="a second for the kernel to send SYN again")
def test_a_slow_accept_queue_is_waited_for(engine, new_listener, new_socket):
    """Row 14: in progress until somebody accepts."""
    listener = new_listener(backlog=0)
    address = listener.getsockname()
    waiting = [new_socket() for _ in range(3)]
    connects = [engine.connect(ours.fileno(), sockaddr(address)) for ours in waiting]
    engine.turn(0.01)
    assert not all(connecting.is_done for connecting in connects)

    def all_connected():
        try:
            listener.accept()[0].close()
        except BlockingIOError:
            pass
        return all(connecting.is_done for connecting in connects)

    engine.run_until(all_connected, look_every_s=0.02)
    assert [connecting.result for connecting in connects] == [0, 0, 0]


def test_the_address_may_be_overwritten_once_the_turn_took_the_command(
    engine, listener, silent_address, new_socket
):
    """Row 7: also while the connection is still in progress."""
    addresses = [bytearray(sockaddr(listener.getsockname())) for _ in range(50)]
    addresses.append(bytearray(sockaddr(silent_address)))
    sockets = [new_socket() for _ in addresses]
    connects = [
        engine.connect(ours.fileno(), address)
        for ours, address in zip(sockets, addresses, strict=True)
    ]
    engine.turn()
    for address in addresses:
        address[:] = b"\xff" * len(address)
    engine.finish(*connects[:50])
    assert {connecting.result for connecting in connects[:50]} == {0}
    assert not connects[50].is_done
    assert {ours.getpeername() for ours in sockets[:50]} == {listener.getsockname()}


def test_many_connects_through_tiny_queues(sized_engine, listener, new_socket):
    """Row 19."""
    address = sockaddr(listener.getsockname())
    sockets = [new_socket() for _ in range(100)]
    connects = [sized_engine.connect(ours.fileno(), address) for ours in sockets]
    sized_engine.finish(*connects)
    assert {connecting.result for connecting in connects} == {0}


def test_connects_cancelled_at_once_end_either_way_and_leak_nothing(engine, listener, new_socket):
    """Rows 8, 9, 10: the answer is the truth, in whichever order things happened."""
    address = sockaddr(listener.getsockname())
    for number in range(300):
        with new_socket() as ours:
            connecting = engine.connect(ours.fileno(), address)
            if number % 2:
                engine.turn()
            engine.cancel(connecting)
            engine.finish(connecting)
            assert connecting.result in (0, -errno.ECANCELED)
            if connecting.result == 0:
                assert ours.getpeername() == listener.getsockname()
        while connecting.result == 0:
            try:
                listener.accept()[0].close()
            except BlockingIOError:
                break


def test_connect_on_a_connected_socket_ends_with_eisconn(engine, tcp_pair, listener):
    ours, _ = tcp_pair
    connecting = engine.connect(ours.fileno(), sockaddr(listener.getsockname()))
    engine.finish(connecting)
    assert connecting.result == -errno.EISCONN


def test_connect_with_an_address_of_another_family_fails(engine, new_socket):
    connecting = engine.connect(new_socket().fileno(), sockaddr("/of/another/family"))
    engine.finish(connecting)
    assert connecting.result == -errno.EAFNOSUPPORT


def test_an_address_too_long_is_refused(engine, new_socket):
    connecting = engine.connect(new_socket().fileno(), bytes(129))
    engine.finish(connecting)
    assert connecting.result == -errno.EINVAL


@pytest.mark.parametrize("fd", [-1, 19_999, 2**31 - 1])
def test_connect_on_a_closed_descriptor_ends_with_ebadf(engine, fd):
    connecting = engine.connect(fd, sockaddr(("127.0.0.1", 1)))
    engine.finish(connecting)
    assert connecting.result == -errno.EBADF
