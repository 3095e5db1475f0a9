"""Everything that can be watched for being readable, each with the way to make it so, and a
callback that counts.

Some of it Python cannot make on each version: inotify and timerfd come from libc.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import pty
import socket
import struct
import tempfile
import tty
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

IN_CREATE = 0x100
CLOCK_MONOTONIC = 1
SOON_NS = 1

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass
class Source:
    """Something readable.

    watched      what add_reader is given: a number or an object with fileno()
    make_ready   makes it readable
    consume      reads what is there; then it is not readable
    """

    watched: Any
    make_ready: Callable[[], object]
    consume: Callable[[], object]


class Calls:
    """Counts calls, and lets a test wait for them."""

    def __init__(self) -> None:
        self.count = 0
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []

    def __call__(self, *_: object) -> None:
        self.count += 1
        for count, future in self._waiting:
            if self.count >= count and not future.done():
                future.set_result(None)

    async def reach(self, count: int) -> None:
        if self.count < count:
            future = asyncio.get_running_loop().create_future()
            self._waiting.append((count, future))
            await future


@contextlib.contextmanager
def socket_source() -> Iterator[Source]:
    ours, peer = socket.socketpair()
    with ours, peer:
        yield Source(ours, lambda: peer.send(b"x"), lambda: ours.recv(100))


@contextlib.contextmanager
def listener_source() -> Iterator[Source]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
        yield Source(
            listener,
            lambda: socket.create_connection(address).close(),
            lambda: listener.accept()[0].close(),
        )


@contextlib.contextmanager
def datagram_source() -> Iterator[Source]:
    with (
        socket.socket(type=socket.SOCK_DGRAM) as ours,
        socket.socket(type=socket.SOCK_DGRAM) as peer,
    ):
        ours.bind(("127.0.0.1", 0))
        yield Source(ours, lambda: peer.sendto(b"", ours.getsockname()), lambda: ours.recvfrom(100))


@contextlib.contextmanager
def _descriptors(*fds: int) -> Iterator[None]:
    try:
        yield
    finally:
        for fd in fds:
            os.close(fd)


@contextlib.contextmanager
def pipe_source() -> Iterator[Source]:
    reading, writing = os.pipe()
    with _descriptors(reading, writing):
        yield Source(reading, lambda: os.write(writing, b"x"), lambda: os.read(reading, 100))


@contextlib.contextmanager
def file_object_source() -> Iterator[Source]:
    reading, writing = os.pipe()
    with open(reading, "rb", buffering=0) as file, _descriptors(writing):
        yield Source(file, lambda: os.write(writing, b"x"), lambda: file.read(100))


@contextlib.contextmanager
def fifo_source() -> Iterator[Source]:
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "fifo")
        os.mkfifo(path)
        fd = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        with _descriptors(fd):
            yield Source(fd, lambda: os.write(fd, b"x"), lambda: os.read(fd, 100))


@contextlib.contextmanager
def eventfd_source() -> Iterator[Source]:
    fd = os.eventfd(0)
    with _descriptors(fd):
        yield Source(fd, lambda: os.eventfd_write(fd, 3), lambda: os.eventfd_read(fd))


@contextlib.contextmanager
def terminal_source() -> Iterator[Source]:
    master, terminal = pty.openpty()
    tty.setraw(terminal)
    with _descriptors(master, terminal):
        yield Source(terminal, lambda: os.write(master, b"x"), lambda: os.read(terminal, 100))


@contextlib.contextmanager
def terminal_master_source() -> Iterator[Source]:
    master, terminal = pty.openpty()
    tty.setraw(terminal)
    with _descriptors(master, terminal):
        yield Source(master, lambda: os.write(terminal, b"x"), lambda: os.read(master, 100))


@contextlib.contextmanager
def inotify_source() -> Iterator[Source]:
    fd = _checked(_libc.inotify_init1(os.O_NONBLOCK))
    with tempfile.TemporaryDirectory() as folder, _descriptors(fd):
        _checked(_libc.inotify_add_watch(fd, os.fsencode(folder), IN_CREATE))
        names = (os.path.join(folder, str(number)) for number in range(100))
        yield Source(fd, lambda: os.mkdir(next(names)), lambda: os.read(fd, 4096))


@contextlib.contextmanager
def timer_source() -> Iterator[Source]:
    fd = _checked(_libc.timerfd_create(CLOCK_MONOTONIC, os.O_NONBLOCK))
    once = struct.pack("qqqq", 0, 0, 0, SOON_NS)
    with _descriptors(fd):
        yield Source(
            fd,
            lambda: _checked(_libc.timerfd_settime(fd, 0, once, None)),
            lambda: os.read(fd, 8),
        )


def _checked(answer: int) -> int:
    if answer < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return answer


SOURCES = {
    "socket": socket_source,
    "listener": listener_source,
    "datagram socket": datagram_source,
    "pipe": pipe_source,
    "file object": file_object_source,
    "fifo": fifo_source,
    "eventfd": eventfd_source,
    "terminal": terminal_source,
    "terminal's master": terminal_master_source,
    "inotify": inotify_source,
    "timerfd": timer_source,
}
