"""What binary and text files have in common: the methods that do not look at bytes or characters.

Which methods are coroutines is as in the library aiofiles, odd as it may be: seekable() and
writable() are, fileno() is not, and readable() is one of text files only.
"""

from __future__ import annotations

import io
import operator
import os
from collections.abc import Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from uringloop.async_files.buffer import Buffer
from uringloop.async_files.modes import Mode

if TYPE_CHECKING:
    from typing_extensions import Self

Content = TypeVar("Content", bytes, str)


class FileBase(Generic[Content]):
    """An open file of the loop that opened it. Several tasks may use it: their operations follow
    one another, each of them whole.

    A cancelled operation has no effect on the position: what was read by then is read again,
    and of a write all or nothing was taken.
    """

    def __init__(self, buffer: Buffer, mode: Mode) -> None:
        self._buffer = buffer
        self._mode = mode

    def __repr__(self) -> str:
        return f"<{type(self).__name__} name={self.name!r} mode={self.mode!r}>"

    @property
    def name(self) -> Any:
        """The path or descriptor that was opened."""
        return self._buffer.name

    @property
    def mode(self) -> str:
        """As the builtin's file has it."""
        return self._mode.spelled

    @property
    def closed(self) -> bool:
        return self._buffer.closed

    def fileno(self) -> int:
        """The descriptor. Its own position is not this file's."""
        self._check_open()
        return self._buffer.fd

    async def writable(self) -> bool:
        self._check_open()
        return self._mode.is_writable

    async def seekable(self) -> bool:
        self._check_open()
        return self._buffer.is_seekable

    async def isatty(self) -> bool:
        self._check_open()
        return os.isatty(self._buffer.fd)

    async def flush(self) -> None:
        """Hands to the kernel what was written; it need not be on the disk then: fsync()."""
        self._check_open()
        async with self._buffer as buffer:
            await buffer.flush()

    async def fsync(self, *, data_only: bool = False) -> None:
        """flush(), and what was written is on the disk; fsync(2), or fdatasync(2)."""
        self._check_open()
        async with self._buffer as buffer:
            await buffer.sync(data_only)

    async def truncate(self, size: int | None = None, /) -> int:
        """Makes the file `size` bytes long. None: up to the position, which stays; in a text file
        that has been read, up to where the last piece that was read ends.

        kernel   a request of the ring since 6.9, before that in a thread
        """
        self._check_open()
        if not self._mode.is_writable:
            raise io.UnsupportedOperation("truncate")
        length = None if size is None else operator.index(size)
        async with self._buffer as buffer:
            return await buffer.truncate(length)

    async def close(self) -> None:
        """Writes what is left and closes, even when writing fails; nothing when it is closed."""
        if not self._buffer.closed:
            await self._buffer.close()

    async def __aenter__(self) -> Self:
        self._check_open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def readline(self, size: int | None = -1, /) -> Content:
        """To the end of the line, its newline included, or `size` bytes or characters of it."""
        self._check_readable()
        limit = size_of(size)
        async with self._buffer:
            return await self._read_line(limit)

    async def readlines(self, hint: int | None = -1, /) -> list[Content]:
        """The lines that are left; with a hint > 0 only until there are more than so many bytes
        or characters."""
        self._check_readable()
        limit = size_of(hint)
        lines: list[Content] = []
        total = 0
        async with self._buffer:
            while line := await self._read_line(-1):
                lines.append(line)
                total += len(line)
                if 0 < limit < total:
                    break
        return lines

    async def writelines(self, lines: Iterable[Any], /) -> None:
        """Each of them, without anything between."""
        self._check_open()
        async with self._buffer:
            for line in lines:
                self._check_writable()
                await self._write(line)

    def __aiter__(self) -> Self:
        self._check_readable()
        return self

    async def __anext__(self) -> Content:
        line = None if self._buffer.is_busy() else self._take_line()
        if line is None:
            line = await self.readline()
        if not line:
            raise StopAsyncIteration
        return line

    def _take_line(self) -> Content | None:
        """The next line, if all of it is here and nobody has to be asked."""
        raise NotImplementedError

    async def _read_line(self, limit: int) -> Content:
        raise NotImplementedError

    async def _write(self, content: Any) -> int:
        raise NotImplementedError

    def _check_open(self) -> None:
        if self._buffer.closed:
            raise ValueError("I/O operation on closed file.")

    def _check_readable(self) -> None:
        self._check_open()
        if not self._mode.is_readable:
            raise io.UnsupportedOperation("not readable")

    def _check_writable(self) -> None:
        self._check_open()
        if not self._mode.is_writable:
            raise io.UnsupportedOperation("not writable")

    def _check_seekable(self) -> None:
        self._check_open()
        if not self._buffer.is_seekable:
            raise io.UnsupportedOperation("File or stream is not seekable.")


def size_of(size: int | None) -> int:
    """A number of bytes or characters; negative for None.

    raises   TypeError for what is no integer
    """
    return -1 if size is None else operator.index(size)
