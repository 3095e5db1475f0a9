"""POLL: what poll(2) would answer, once, for whatever poll(2) takes."""

from __future__ import annotations

import errno
import os
import select
import socket
from select import POLLERR, POLLHUP, POLLIN, POLLOUT, POLLPRI

import pytest

from .conftest import operation_kinds

pytestmark = operation_kinds(reason="no feature changes what a poll answers")

POLLRDHUP = 0x2000  # select.POLLRDHUP is not there on all builds


@pytest.fixture
def pipe(resources):
    """The two ends of a pipe; a test may close them."""
    reader, writer = os.pipe()
    return [
        resources.enter_context(os.fdopen(reader, "rb", 0)),
        resources.enter_context(os.fdopen(writer, "wb", 0)),
    ]


@pytest.fixture
def new_counter(resources):
    """An eventfd."""

    def factory():
        # eventfd_read and os.eventfd are there since Python 3.10
        fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        resources.callback(os.close, fd)
        return fd

    return factory


def test_readable_once_there_is_something_to_read(engine, pair):
    ours, peer = pair
    polling = engine.poll(ours.fileno(), POLLIN)
    assert engine.turn(0.01) == []
    peer.sendall(b"x")
    engine.finish(polling)
    assert polling.result == POLLIN


def test_readable_at_once_where_it_is_already(engine, pair):
    ours, peer = pair
    peer.sendall(b"x")
    polling = engine.poll(ours.fileno(), POLLIN)
    engine.finish(polling)
    assert polling.result == POLLIN


def test_it_reads_nothing_and_answers_again_when_asked_again(engine, pair):
    """Level-triggered."""
    ours, peer = pair
    peer.sendall(b"x")
    for _ in range(5):
        polling = engine.poll(ours.fileno(), POLLIN)
        engine.finish(polling)
        assert polling.result == POLLIN
    assert ours.recv(10) == b"x"


def test_it_answers_once_only(engine, pair):
    ours, peer = pair
    polling = engine.poll(ours.fileno(), POLLIN)
    peer.sendall(b"x")
    engine.finish(polling)
    peer.sendall(b"y")
    assert engine.turn(0.02) == []


def test_writable_at_once_where_there_is_room(engine, pair):
    polling = engine.poll(pair[0].fileno(), POLLOUT)
    engine.finish(polling)
    assert polling.result == POLLOUT


def test_writable_once_a_full_socket_is_read(engine, pair):
    ours, peer = pair
    filled = 0
    while True:
        try:
            filled += ours.send(bytes(65_536))
        except BlockingIOError:
            break
    polling = engine.poll(ours.fileno(), POLLOUT)
    assert engine.turn(0.01) == []
    while filled:
        filled -= len(peer.recv(65_536))
    engine.finish(polling)
    assert polling.result == POLLOUT


def test_a_half_closed_peer_does_not_end_a_poll_for_writing(engine, pair):
    """The peer has nothing more to say, but still reads what we send: only room in the
    socket is an answer, or a writer would be told over and over that it may write."""
    ours, peer = pair
    filled = 0
    while True:
        try:
            filled += ours.send(bytes(65_536))
        except BlockingIOError:
            break
    peer.shutdown(socket.SHUT_WR)
    polling = engine.poll(ours.fileno(), POLLOUT)
    assert engine.turn(0.01) == []
    while filled:
        filled -= len(peer.recv(65_536))
    engine.finish(polling)
    assert polling.result == POLLOUT


def test_both_are_told_where_both_are_asked(engine, pair):
    ours, peer = pair
    peer.sendall(b"x")
    polling = engine.poll(ours.fileno(), POLLIN | POLLOUT)
    engine.finish(polling)
    assert polling.result == POLLIN | POLLOUT


def test_only_what_is_asked_is_told(engine, pair):
    ours, peer = pair
    peer.sendall(b"x")
    polling = engine.poll(ours.fileno(), POLLOUT)
    engine.finish(polling)
    assert polling.result == POLLOUT


def test_a_hang_up_is_told_without_being_asked(engine, pair):
    ours, peer = pair
    polling = engine.poll(ours.fileno(), 0)
    assert engine.turn(0.01) == []
    peer.close()
    engine.finish(polling)
    assert polling.result == POLLHUP


def test_an_error_is_told_without_being_asked(engine, pipe):
    """A pipe whose reader is gone."""
    reader, writer = pipe
    polling = engine.poll(writer.fileno(), 0)
    assert engine.turn(0.01) == []
    reader.close()
    engine.finish(polling)
    assert polling.result == POLLERR


def test_a_peer_that_shut_its_sending_side_is_told_where_asked(engine, tcp_pair):
    ours, peer = tcp_pair
    polling = engine.poll(ours.fileno(), POLLRDHUP)
    assert engine.turn(0.01) == []
    peer.shutdown(socket.SHUT_WR)
    engine.finish(polling)
    assert polling.result == POLLRDHUP


def test_urgent_data_is_told_where_asked(engine, tcp_pair):
    ours, peer = tcp_pair
    polling = engine.poll(ours.fileno(), POLLPRI)
    peer.sendall(b"not urgent")
    assert engine.turn(0.01) == []
    peer.send(b"!", socket.MSG_OOB)
    engine.finish(polling)
    assert polling.result == POLLPRI


def test_several_polls_of_one_descriptor_are_told_apart(engine, pair):
    ours, peer = pair
    reading = [engine.poll(ours.fileno(), POLLIN) for _ in range(3)]
    writing = engine.poll(ours.fileno(), POLLOUT)
    engine.finish(writing)
    assert not any(polling.is_done for polling in reading)
    engine.cancel(reading[1])
    engine.finish(reading[1])
    assert reading[1].result == -errno.ECANCELED
    peer.sendall(b"x")
    engine.finish(reading[0], reading[2])
    assert reading[0].result == reading[2].result == POLLIN


def test_a_poll_beside_a_receive_and_a_send(engine, pair):
    """One descriptor, three interests that come and go."""
    ours, peer = pair
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    sending = engine.send(ours.fileno(), bytes(30_000))
    receiving = engine.receive(ours.fileno())
    polling = engine.poll(ours.fileno(), POLLIN)
    engine.turn()
    peer.sendall(b"x")
    engine.run_until(lambda: receiving.data == b"x" and polling.is_done)
    assert polling.result == POLLIN
    assert not sending.is_done
    left = 30_000
    while left:
        left -= len(peer.recv(left))
        engine.turn()
    engine.finish(sending)
    peer.sendall(b"y")
    engine.run_until(lambda: receiving.data == b"xy")


def test_a_pipe(engine, pipe):
    reader, writer = pipe
    reading = engine.poll(reader.fileno(), POLLIN)
    writing = engine.poll(writer.fileno(), POLLOUT)
    engine.finish(writing)
    assert not reading.is_done
    writer.write(b"x")
    engine.finish(reading)
    assert (reading.result, writing.result) == (POLLIN, POLLOUT)


def test_a_pipe_whose_writer_is_gone(engine, pipe):
    reader, writer = pipe
    polling = engine.poll(reader.fileno(), POLLIN)
    writer.close()
    engine.finish(polling)
    assert polling.result == POLLHUP


def test_an_eventfd(engine, new_counter):
    fd = new_counter()
    polling = engine.poll(fd, POLLIN)
    assert engine.turn(0.01) == []
    os.eventfd_write(fd, 1)
    engine.finish(polling)
    assert polling.result == POLLIN


def test_another_epoll(engine, resources, pair):
    """A loop inside of a loop."""
    inner = resources.enter_context(select.epoll())
    inner.register(pair[0].fileno(), select.EPOLLIN)
    polling = engine.poll(inner.fileno(), POLLIN)
    assert engine.turn(0.01) == []
    pair[1].sendall(b"x")
    engine.finish(polling)
    assert polling.result == POLLIN


def test_a_regular_file_is_always_ready(engine, resources, tmp_path):
    """As poll(2) says; epoll refuses it."""
    file = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    resources.callback(os.close, file)
    masks = [POLLIN, POLLOUT, POLLIN | POLLOUT]
    polls = [engine.poll(file, mask) for mask in masks]
    engine.finish(*polls)
    assert [polling.result for polling in polls] == masks


def test_a_thousand_polls_through_tiny_queues(sized_engine, new_counter):
    """Row 19: all are ready in the same moment."""
    fds = [new_counter() for _ in range(50)]
    polls = [sized_engine.poll(fd, POLLIN) for fd in fds for _ in range(20)]
    sized_engine.turn()
    for fd in fds:
        os.eventfd_write(fd, 1)
    sized_engine.finish(*polls)
    assert {polling.result for polling in polls} == {POLLIN}


@pytest.mark.parametrize("mask", [POLLIN, POLLOUT])
@pytest.mark.parametrize("fd", [-1, 19_999, 2**31 - 1])
def test_poll_of_a_closed_descriptor_ends_with_ebadf(engine, fd, mask):
    polling = engine.poll(fd, mask)
    engine.finish(polling)
    assert polling.result == -errno.EBADF
