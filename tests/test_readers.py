"""add_reader, add_writer and their removal: what can be watched, and when callbacks run."""

from __future__ import annotations

import asyncio
import contextvars
import errno
import os
import socket
import threading
from asyncio import AbstractEventLoop
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from peers import Pair, turns
from watchable import SOURCES, Calls, Source


@pytest.fixture(params=SOURCES)
def source(request: pytest.FixtureRequest) -> Iterator[Source]:
    with SOURCES[request.param]() as made:
        yield made


async def test_a_reader_is_called_while_its_descriptor_is_readable(
    source: Source, loop: AbstractEventLoop
) -> None:
    calls = Calls()
    loop.add_reader(source.watched, calls)
    await turns(3)
    assert calls.count == 0
    for _ in range(2):
        source.make_ready()
        await calls.reach(calls.count + 3)
        source.consume()
        await turns(1)
        quiet = calls.count
        await turns(3)
        assert calls.count == quiet
    assert loop.remove_reader(source.watched)
    source.make_ready()
    await turns(3)
    assert calls.count == quiet


async def test_what_is_watched_is_readable_already(source: Source, loop: AbstractEventLoop) -> None:
    source.make_ready()
    calls = Calls()
    loop.add_reader(source.watched, calls)
    await calls.reach(1)
    assert loop.remove_reader(source.watched)


@pytest.mark.parametrize("kind", ["socket", "terminal", "terminal's master", "eventfd", "fifo"])
async def test_a_writer_is_called_while_there_is_room(kind: str, loop: AbstractEventLoop) -> None:
    calls = Calls()
    with SOURCES[kind]() as source:
        loop.add_writer(source.watched, calls)
        await calls.reach(5)
        assert loop.remove_writer(source.watched)


async def test_a_writer_waits_for_room(pair: Pair, loop: AbstractEventLoop) -> None:
    ours, peer = pair
    fill(ours)
    calls = Calls()
    loop.add_writer(ours, calls)
    await turns(5)
    assert calls.count == 0
    await loop.run_in_executor(None, empty, peer)
    await calls.reach(1)
    loop.remove_writer(ours)


def fill(sock: socket.socket) -> None:
    with pytest.raises(BlockingIOError):
        while True:
            sock.send(bytes(65536))


def empty(sock: socket.socket) -> None:
    sock.setblocking(False)
    with pytest.raises(BlockingIOError):
        while True:
            sock.recv(65536)


async def test_reader_and_writer_of_one_descriptor_are_independent(
    pair: Pair, loop: AbstractEventLoop
) -> None:
    ours, peer = pair
    reads, writes = Calls(), Calls()
    loop.add_reader(ours, reads)
    loop.add_writer(ours.fileno(), writes)
    await writes.reach(3)
    assert reads.count == 0
    peer.send(b"x")
    await reads.reach(3)
    assert loop.remove_writer(ours)
    quiet = writes.count
    await reads.reach(reads.count + 3)
    assert writes.count == quiet
    loop.add_writer(ours, writes)
    assert loop.remove_reader(ours.fileno())
    quiet = reads.count
    await writes.reach(writes.count + 3)
    assert reads.count == quiet
    assert loop.remove_writer(ours)
    assert not loop.remove_reader(ours)


async def test_callbacks_get_their_arguments(pair: Pair, loop: AbstractEventLoop) -> None:
    called: asyncio.Future[tuple[object, ...]] = loop.create_future()
    assert loop.add_writer(pair[0], lambda *arguments: called.set_result(arguments), 1, "2") is None
    arguments = await called
    loop.remove_writer(pair[0])
    assert arguments == (1, "2")


async def test_a_new_callback_replaces_the_one_of_its_direction(
    pair: Pair, loop: AbstractEventLoop
) -> None:
    ours, peer = pair
    first, second, writes = Calls(), Calls(), Calls()
    peer.send(b"x")
    loop.add_writer(ours, writes)
    loop.add_reader(ours, first)
    await first.reach(1)
    loop.add_reader(ours, second)
    replaced_at = first.count
    await second.reach(3)
    await writes.reach(1)
    assert first.count == replaced_at
    assert loop.remove_reader(ours)
    assert loop.remove_writer(ours)


async def test_a_callback_may_remove_itself_and_add_another(
    pair: Pair, loop: AbstractEventLoop
) -> None:
    ours, peer = pair
    steps: list[str] = []
    ended = loop.create_future()

    def first() -> None:
        steps.append("first")
        assert loop.remove_reader(ours)
        loop.add_reader(ours, second)

    def second() -> None:
        steps.append("second")
        loop.add_reader(ours, third)

    def third() -> None:
        steps.append("third")
        assert loop.remove_reader(ours)
        ended.set_result(None)

    loop.add_reader(ours, first)
    peer.send(b"x")
    await ended
    await turns(3)
    assert steps == ["first", "second", "third"]


async def test_of_two_that_are_ready_the_first_may_remove_the_second(
    loop: AbstractEventLoop,
) -> None:
    called: list[int] = []
    pairs = [socket.socketpair() for _ in range(2)]
    socks = [ours for ours, _ in pairs]

    def remove_both(number: int) -> None:
        called.append(number)
        for sock in socks:
            loop.remove_reader(sock)

    for number, (ours, peer) in enumerate(pairs):
        peer.send(b"x")
        loop.add_reader(ours, remove_both, number)
    await turns(5)
    assert len(called) == 1
    for each in (sock for pair in pairs for sock in pair):
        each.close()


async def test_removing_what_is_not_watched_says_so(pair: Pair, loop: AbstractEventLoop) -> None:
    ours, _ = pair
    assert not loop.remove_reader(ours)
    assert not loop.remove_writer(ours.fileno())
    loop.add_reader(ours, print)
    assert not loop.remove_writer(ours)
    assert loop.remove_reader(ours)
    assert not loop.remove_reader(ours)


def test_a_closed_loop_has_nothing_to_remove(pair: Pair, loop: AbstractEventLoop) -> None:
    loop.add_reader(pair[0], print)
    loop.close()
    assert not loop.remove_reader(pair[0])
    assert not loop.remove_writer(pair[0])


async def test_files_and_folders_are_refused(tmp_path: Path, loop: AbstractEventLoop) -> None:
    """They are always ready, and epoll says so by EPERM."""
    for path, flags in ((tmp_path / "file", os.O_CREAT | os.O_RDWR), (tmp_path, os.O_RDONLY)):
        fd = os.open(path, flags)
        for add, remove in (
            (loop.add_reader, loop.remove_reader),
            (loop.add_writer, loop.remove_writer),
        ):
            with pytest.raises(PermissionError):
                add(fd, print)
            assert not remove(fd)
        os.close(fd)


async def test_a_closed_descriptor_is_refused(loop: AbstractEventLoop) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with pytest.raises(OSError) as raised:
        loop.add_reader(reading, print)
    assert raised.value.errno == errno.EBADF
    os.close(writing)


@pytest.mark.parametrize("thing", ["text", None, 1.5, int], ids=repr)
async def test_what_has_no_descriptor_is_refused(thing: object, loop: AbstractEventLoop) -> None:
    for method in (loop.add_reader, loop.add_writer):
        with pytest.raises(ValueError, match="Invalid file object"):
            method(thing, print)
    for method in (loop.remove_reader, loop.remove_writer):
        with pytest.raises(ValueError, match="Invalid file object"):
            method(thing)


async def test_numbers_that_are_no_descriptors_are_refused(
    pair: Pair, loop: AbstractEventLoop
) -> None:
    pair[0].close()
    for closed in (-1, pair[0]):
        with pytest.raises(ValueError, match="Invalid file descriptor"):
            loop.add_reader(closed, print)
        with pytest.raises(ValueError, match="Invalid file descriptor"):
            loop.remove_writer(closed)


async def test_a_hang_up_calls_the_reader(pair: Pair, loop: AbstractEventLoop) -> None:
    ours, peer = pair
    calls = Calls()
    loop.add_reader(ours, calls)
    peer.close()
    await calls.reach(2)
    assert ours.recv(1) == b""
    loop.remove_reader(ours)


async def test_a_pipe_without_reader_calls_the_writer(loop: AbstractEventLoop) -> None:
    """And, with asyncio, a reader of the writing end: an error is for both directions."""
    reading, writing = os.pipe()
    reads, writes = Calls(), Calls()
    loop.add_reader(writing, reads)
    loop.add_writer(writing, writes)
    os.close(reading)
    await reads.reach(2)
    await writes.reach(2)
    assert loop.remove_reader(writing)
    assert loop.remove_writer(writing)
    os.close(writing)


async def test_an_exception_in_a_callback_is_reported_and_the_watch_goes_on(
    pair: Pair, loop: AbstractEventLoop, reported: list[dict[str, Any]]
) -> None:
    ours, peer = pair
    loop.add_reader(ours, divmod, 1, 0)
    peer.send(b"x")
    while len(reported) < 2:  # noqa: ASYNC110 - the exception handler is what wakes nobody
        await asyncio.sleep(0)
    loop.remove_reader(ours)
    assert all(isinstance(each["exception"], ZeroDivisionError) for each in reported)
    reported.clear()


def test_an_exception_that_ends_the_run_loses_no_watch(pair: Pair, loop: AbstractEventLoop) -> None:
    """Row 25."""
    ours, peer = pair

    def interrupt() -> None:
        raise KeyboardInterrupt

    peer.send(b"x")
    for _ in range(3):
        loop.add_reader(ours, interrupt)
        with pytest.raises(KeyboardInterrupt):
            loop.run_forever()
    loop.add_reader(ours, loop.stop)
    loop.run_forever()
    loop.remove_reader(ours)


def test_what_is_watched_between_runs_is_watched_in_the_next(
    pair: Pair, loop: AbstractEventLoop
) -> None:
    ours, peer = pair
    peer.send(b"x")
    for _ in range(3):
        loop.add_reader(ours, loop.stop)
        loop.run_forever()
    assert loop.remove_reader(ours)


def test_a_watch_goes_along_when_the_loop_runs_in_another_thread(
    pair: Pair, loop: AbstractEventLoop
) -> None:
    """Row 4: waiting for readiness is the one thing that can move."""
    ours, peer = pair
    threads: list[threading.Thread] = []
    loop.add_reader(ours, lambda: (threads.append(threading.current_thread()), loop.stop()))
    peer.send(b"x")
    loop.run_forever()
    with ThreadPoolExecutor(1) as executor:
        executor.submit(loop.run_forever).result(10)
    loop.run_forever()
    assert threads[0] is threads[2] is threading.current_thread()
    assert threads[1] is not threads[0]
    loop.remove_reader(ours)


variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


async def test_a_callback_runs_in_the_context_of_who_added_it(
    pair: Pair, loop: AbstractEventLoop
) -> None:
    seen: asyncio.Future[str] = loop.create_future()

    def add() -> None:
        variable.set("adder's")
        loop.add_writer(pair[0], lambda: seen.done() or seen.set_result(variable.get()))

    contextvars.copy_context().run(add)
    assert await seen == "adder's"
    loop.remove_writer(pair[0])


async def test_debug_mode_tells_where_a_reader_was_added(
    pair: Pair, loop: AbstractEventLoop, reported: list[dict[str, Any]]
) -> None:
    loop.set_debug(True)
    ours, peer = pair
    loop.add_reader(ours, lambda: (loop.remove_reader(ours), divmod(1, 0)))
    peer.send(b"x")
    await turns(3)
    names = [frame.name for frame in reported.pop()["source_traceback"]]
    assert any(name.startswith("test_debug_mode_tells_where") for name in names)


async def test_hundreds_of_descriptors_that_are_ready_at_once_are_all_told(
    loop: AbstractEventLoop,
) -> None:
    called: set[int] = set()
    fds = [os.eventfd(0) for _ in range(400)]
    for fd in fds:
        loop.add_reader(fd, called.add, fd)
    await turns(2)
    for fd in fds:
        os.eventfd_write(fd, 1)
    await turns(3)
    assert called == set(fds)
    for fd in fds:
        assert loop.remove_reader(fd)
        os.close(fd)
