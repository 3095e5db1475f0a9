"""Pipes of each kind for the tests: our end as a file object, the other as a descriptor."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import pty
import socket
import tty
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peers import Recorder

READ_KINDS = ("pipe", "fifo", "socket", "terminal")
WRITE_KINDS = ("pipe", "fifo", "socket", "terminal")


class PipeRecorder(Recorder):
    """Remembers its calls, over a transport of one direction."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport
        self._note("made")
        self.made.set_result(None)


@dataclass
class Ends:
    """`ours` goes to a transport, which closes it; `theirs` is blocking, and closed by us."""

    ours: Any
    theirs: int

    def close_theirs(self) -> None:
        fd, self.theirs = self.theirs, -1
        if fd >= 0:
            os.close(fd)


def _pipe(folder: Path, *, reads: bool) -> tuple[int, int]:
    reader, writer = os.pipe()
    return (reader, writer) if reads else (writer, reader)


def _fifo(folder: Path, *, reads: bool) -> tuple[int, int]:
    os.mkfifo(folder / "fifo")
    reader = os.open(folder / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open(folder / "fifo", os.O_WRONLY)
    os.set_blocking(reader, True)
    return (reader, writer) if reads else (writer, reader)


def _socket(folder: Path, *, reads: bool) -> tuple[int, int]:
    ours, theirs = socket.socketpair()
    return ours.detach(), theirs.detach()


def _terminal(folder: Path, *, reads: bool) -> tuple[int, int]:
    master, slave = pty.openpty()
    tty.setraw(slave)
    return slave, master


MAKERS: dict[str, Callable[..., tuple[int, int]]] = {
    "pipe": _pipe,
    "fifo": _fifo,
    "socket": _socket,
    "terminal": _terminal,
}


@contextlib.contextmanager
def ends(kind: str, folder: Path, *, reads: bool) -> Iterator[Ends]:
    """Both ends of a pipe that the loop reads from, or writes to."""
    ours, theirs = MAKERS[kind](folder, reads=reads)
    made = Ends(io.FileIO(ours, "rb" if reads else "wb"), theirs)
    try:
        yield made
    finally:
        made.close_theirs()
        made.ours.close()


def read_exactly(fd: int, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        piece = os.read(fd, min(count - len(data), 65536))
        if not piece:
            raise EOFError(f"{len(data)} of {count} bytes")
        data += piece
    return bytes(data)


def read_until_eof(fd: int) -> bytes:
    data = bytearray()
    while piece := os.read(fd, 65536):
        data += piece
    return bytes(data)


def write_all(fd: int, data: bytes) -> None:
    with memoryview(data) as rest:
        done = 0
        while done < len(rest):
            done += os.write(fd, rest[done:])
