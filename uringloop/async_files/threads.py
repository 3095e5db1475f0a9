"""Files by system calls in the loop's default executor: what every event loop can do.

A call's result is what the system call returns, or -errno, so that those who ask need not know
which way it went. Nobody can stop a thread: a call that is given up goes on, and what it brings
is undone (an open) or told to `apply` (a read, a write).
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable
from typing import Any, NamedTuple

# Told of each answer, before whoever waits for it, and also when nobody does any more.
Apply = Callable[[Any], None]


class FileInfo(NamedTuple):
    """What is known of a file that has just been opened.

    size         bytes
    mode         its type and permissions, as st_mode
    block_bytes  the size for reads and writes that the file system likes
    """

    size: int
    mode: int
    block_bytes: int


class ThreadCall:
    """One function in a thread. `future` has its answer; it may be replaced by another."""

    def __init__(
        self, loop: Any, apply: Apply | None, function: Callable[..., Any], *arguments: Any
    ) -> None:
        self.future = loop.create_future()
        self._apply = apply
        running = loop.run_in_executor(None, _answer_to, function, arguments)
        running.add_done_callback(self._completed)

    def give_up(self) -> None:
        """Nobody waits any more. The thread goes on."""

    def _completed(self, running: Any) -> None:
        # An executor that is shut down cancels what it has not begun.
        error = None if running.cancelled() else running.exception()
        failed = running.cancelled() or error is not None
        answer = -errno.ECANCELED if failed else running.result()
        if self._apply is not None:
            self._apply(answer)
        if self.future.done():
            return
        if error is None:
            self.future.set_result(answer)
        else:
            self.future.set_exception(error)


class OpenInThread(ThreadCall):
    """An open. What nobody takes is closed."""

    def give_up(self) -> None:
        if self.future.done() and not self.future.cancelled():
            self._undo(self.future.result())

    def _completed(self, running: Any) -> None:
        is_awaited = not self.future.done()
        super()._completed(running)
        if not is_awaited and not running.cancelled():
            self._undo(running.result())

    def _undo(self, answer: Any) -> None:
        if isinstance(answer, tuple):
            os.close(answer[0])


async def answer_of(call: Any) -> Any:
    """What `call` brings; it is given up when the caller is cancelled, or dropped by its loop."""
    try:
        return await call.future
    except (asyncio.CancelledError, GeneratorExit):
        call.give_up()
        raise


class ThreadCalls:
    """All that can be asked about files, each in a thread.

    Paths are bytes, or strings as os.fspath() gives them; errors come as results.
    """

    def __init__(self, loop: Any) -> None:
        self.loop = loop

    async def open(self, path: Any, flags: int) -> int | tuple[int, FileInfo]:
        """The descriptor and what is known of its file, or -errno."""
        answer: int | tuple[int, FileInfo]
        answer = await answer_of(OpenInThread(self.loop, None, _open, path, flags))
        return answer

    async def read_file(self, path: Any) -> bytes | int | None:
        """All of a file, or -errno; None where it has to be opened and read in steps."""
        answer: bytes | int = await self.call(_read_file, path)
        return answer

    async def write_file(self, path: Any, data: bytes) -> int | None:
        """Makes a file of `data`: its size, -errno, or None, likewise."""
        return int(await self.call(_write_file, path, data))

    def read(self, fd: int, size: int, offset: int | None, apply: Apply) -> Any:
        """A call: at most `size` bytes from `offset`; None is the file's own position."""
        if offset is None:
            return ThreadCall(self.loop, apply, os.read, fd, size)
        return ThreadCall(self.loop, apply, os.pread, fd, size, offset)

    def write(self, fd: int, data: Any, offset: int | None, apply: Apply) -> Any:
        """A call: how many bytes of `data` were written."""
        if offset is None:
            return ThreadCall(self.loop, apply, os.write, fd, data)
        return ThreadCall(self.loop, apply, os.pwrite, fd, data, offset)

    async def close(self, fd: int) -> int:
        return int(await self.call(os.close, fd))

    def close_later(self, fd: int) -> None:
        """Closes what was only read from; nobody waits for it."""
        ThreadCall(self.loop, None, os.close, fd)

    async def sync(self, fd: int, data_only: bool) -> int:
        return int(await self.call(os.fdatasync if data_only else os.fsync, fd))

    async def truncate(self, fd: int, size: int) -> int:
        return int(await self.call(os.ftruncate, fd, size))

    async def stat(self, path: Any, follow_symlinks: bool) -> os.stat_result | int:
        """The status, or -errno; path: also a descriptor."""
        answer: os.stat_result | int
        answer = await self.call(os.stat if follow_symlinks else os.lstat, path)
        return answer

    async def rename(self, source: Any, target: Any) -> int:
        return int(await self.call(os.replace, source, target))

    async def link(self, source: Any, target: Any) -> int:
        return int(await self.call(_link, source, target))

    async def symlink(self, source: Any, target: Any) -> int:
        return int(await self.call(os.symlink, source, target))

    async def unlink(self, path: Any) -> int:
        return int(await self.call(os.unlink, path))

    async def rmdir(self, path: Any) -> int:
        return int(await self.call(os.rmdir, path))

    async def mkdir(self, path: Any, mode: int) -> int:
        return int(await self.call(os.mkdir, path, mode))

    async def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """What `function` answers; for None 0, for an OSError -errno."""
        return await answer_of(ThreadCall(self.loop, None, function, *arguments))


def _answer_to(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """In the thread: the function's result, or -errno."""
    try:
        result = function(*arguments)
    except OSError as error:
        return -(error.errno or errno.EIO)
    return 0 if result is None else result


def _open(path: Any, flags: int) -> tuple[int, FileInfo]:
    fd = os.open(path, flags, 0o666)
    return fd, info_of(fd)


def info_of(fd: int) -> FileInfo:
    """Of an open descriptor."""
    status = os.fstat(fd)
    return FileInfo(status.st_size, status.st_mode, status.st_blksize)


def _read_file(path: Any) -> bytes:
    with open(path, "rb", buffering=0) as file:
        return file.read()


def _write_file(path: Any, data: Any) -> int:
    with open(path, "wb", buffering=0) as file, memoryview(data) as view:
        written = 0
        while written < view.nbytes:
            written += file.write(view[written:])
    return written


def _link(source: Any, target: Any) -> None:
    os.link(source, target, follow_symlinks=False)  # as link(2) does on Linux
