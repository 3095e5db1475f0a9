"""uringloop.open(): the builtin open for coroutines.

    async with uringloop.open(path) as file:
        async for line in file:
            ...

Arguments, defaults and errors are the builtin's; the methods of the file objects are those of
the library aiofiles, so that a program changes over by changing an import. On uringloop's
io_uring engine each operation is a request of the loop's ring; on every other event loop, ours
on epoll among them, it is a call in the loop's default executor.
"""

from __future__ import annotations

import asyncio
import errno
import io
import os
import stat
import warnings
from collections.abc import Callable, Generator
from types import TracebackType
from typing import Any

from uringloop.async_files.binary import BinaryFile
from uringloop.async_files.buffer import DEFAULT_BYTES, Buffer
from uringloop.async_files.modes import Mode, check_arguments, parse_mode
from uringloop.async_files.requests import calls_of
from uringloop.async_files.text import TextFile
from uringloop.async_files.text_format import TextFormat
from uringloop.async_files.threads import (
    FileInfo,
    OpenInThread,
    ThreadCalls,
    answer_of,
    info_of,
)

File = BinaryFile | TextFile

_BLOCK_BYTES_MAX = 8 << 20
_NO_LINES = (
    "line buffering (buffering=1) isn't supported in binary mode, the default buffer size will be"
    " used"
)


class Opening:
    """A file about to be opened: `async with` it, or await it. Nothing happens before that."""

    def __init__(self, opening: Callable[[], Any]) -> None:
        self._opening = opening
        self._file: Any = None

    def __await__(self) -> Generator[Any, None, Any]:
        return self._opening().__await__()  # type: ignore[no-any-return]

    async def __aenter__(self) -> Any:
        self._file = await self._opening()
        return self._file

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        file, self._file = self._file, None
        await file.close()


def open(  # noqa: A001 - as the builtin is called
    file: Any,
    mode: str = "r",
    buffering: int = -1,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    closefd: bool = True,
    opener: Callable[[str, int], int] | None = None,
) -> Opening:
    """Opens a file for a coroutine of the running event loop.

    file       a path (str, bytes or os.PathLike), or a descriptor that is open already
    mode       as of the builtin: one of r, w, a, x, with + for both ways, b for bytes
    buffering  bytes that are read ahead or gathered for writing; 0: none (binary files), 1: text
               is written by lines, below 0: 64 KiB or what the file system likes better
    encoding, errors, newline   of text, as of the builtin
    closefd    False: a descriptor that was given stays open
    opener     opens instead of open(2): called in a thread with path and flags
    returns    what gives a BinaryFile or a TextFile, by `async with` or `await`
    raises     at once TypeError, ValueError and LookupError for the arguments; when it is opened
               FileNotFoundError, PermissionError, IsADirectoryError and other OSErrors with
               their filename. Cancelled while it opens, it leaves no descriptor.
    kernel     on io_uring 5.11; truncate() is a request from 6.9 on
    """
    parsed = parse_mode(mode)
    check_arguments(parsed, buffering, encoding, errors, newline)
    text = None
    if not parsed.is_binary:
        text = TextFormat(io.text_encoding(encoding), errors, newline)
    path = file if isinstance(file, int) else os.fspath(file)
    if isinstance(path, int) and path < 0:
        raise ValueError("negative file descriptor")
    if not isinstance(path, int) and not closefd:
        raise ValueError("Cannot use closefd=False with file name")
    if not isinstance(path, int):
        check_path(path)

    if parsed.is_binary and buffering == 1:
        warnings.warn(_NO_LINES, RuntimeWarning, stacklevel=2)

    async def opening() -> File:
        calls = calls_of(asyncio.get_running_loop())
        fd, info = await _open_descriptor(calls, path, parsed, opener)
        buffer = _buffer_on(calls, path, fd, info, parsed, buffering, closefd)
        if parsed.is_updating and buffering != 0 and not buffer.is_seekable:
            await buffer.close()
            raise io.UnsupportedOperation("File or stream is not seekable.")
        if text is None:
            return BinaryFile(buffer, parsed)
        is_terminal = buffering < 0 and stat.S_ISCHR(info.mode) and os.isatty(fd)
        return TextFile(buffer, parsed, text, buffering == 1 or is_terminal)

    return Opening(opening)


def check_path(path: Any) -> None:
    """ValueError for a path that no system call takes."""
    if (b"\0" if isinstance(path, bytes) else "\0") in path:
        raise ValueError("embedded null byte")


async def _open_descriptor(
    calls: ThreadCalls, path: Any, mode: Mode, opener: Callable[[str, int], int] | None
) -> tuple[int, FileInfo]:
    """The descriptor of no directory.

    raises   OSError with the path as its filename
    """
    answer: Any
    if isinstance(path, int):
        answer = path, info_of(path)
    elif opener is None:
        answer = await calls.open(path, mode.flags)
    else:
        answer = await answer_of(OpenInThread(calls.loop, None, _open_by, opener, path, mode.flags))
    if isinstance(answer, int):
        raise OSError(-answer, os.strerror(-answer), path)
    if isinstance(answer, Exception):
        raise answer
    fd, info = answer
    if stat.S_ISDIR(info.mode):
        if not isinstance(path, int):
            calls.close_later(fd)
        raise OSError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    return fd, info


def _open_by(opener: Callable[[str, int], int], path: Any, flags: int) -> Any:
    """In a thread: what the user's function opens, or its exception as it is."""
    try:
        fd = opener(path, flags)
        if not isinstance(fd, int):
            raise TypeError("expected integer from opener")
        if fd < 0:
            raise ValueError(f"opener returned {fd}")
        os.set_inheritable(fd, False)
        return fd, info_of(fd)
    except Exception as error:
        return error


def _buffer_on(
    calls: ThreadCalls, path: Any, fd: int, info: FileInfo, mode: Mode, buffering: int, owner: bool
) -> Buffer:
    buffer = Buffer(
        calls,
        fd,
        info,
        path,
        is_appending=mode.is_appending,
        size=_buffer_bytes(buffering, info),
        is_owner=owner,
    )
    buffer.start_at(_first_position(path, fd, info, mode))
    return buffer


def _buffer_bytes(buffering: int, info: FileInfo) -> int:
    if buffering == 0 or buffering > 1:
        return buffering
    return max(DEFAULT_BYTES, min(info.block_bytes, _BLOCK_BYTES_MAX))


def _first_position(path: Any, fd: int, info: FileInfo, mode: Mode) -> int | None:
    """Where the file begins for us; None for what has no positions."""
    if stat.S_ISREG(info.mode) and mode.is_appending:
        return info.size
    if stat.S_ISREG(info.mode) and not isinstance(path, int):
        return 0
    try:
        return os.lseek(fd, 0, os.SEEK_CUR)
    except OSError as error:
        if error.errno != errno.ESPIPE:
            raise
        return None
