"""Files of bytes: what uringloop.open() gives for a mode with "b"."""

from __future__ import annotations

import operator
import os
from typing import Any

from uringloop.async_files.file_base import FileBase, size_of

_WHENCES = (os.SEEK_SET, os.SEEK_CUR, os.SEEK_END, os.SEEK_DATA, os.SEEK_HOLE)


class BinaryFile(FileBase[bytes]):
    """A file of bytes, buffered or not; the methods are those of io.BufferedReader and
    io.BufferedWriter, or of io.FileIO where buffering is 0, as coroutines."""

    @property
    def mode(self) -> str:
        return self._mode.as_binary

    def readable(self) -> bool:
        self._check_open()
        return self._mode.is_readable

    async def read(self, size: int | None = -1, /) -> bytes:
        """`size` bytes, fewer at the end of the file only; all that is left without a size.

        From a pipe without buffering: what is there.
        """
        self._check_readable()
        wanted = size_of(size)
        if wanted < -1 and self._buffer.size:
            raise ValueError("read length must be non-negative or -1")
        async with self._buffer as buffer:
            if wanted < 0:
                return await buffer.read_all()
            if not buffer.size and not buffer.is_seekable:
                return await buffer.read_once(wanted)
            return await buffer.read(wanted)

    async def readall(self) -> bytes:
        """All that is left."""
        return await self.read()

    async def read1(self, size: int = -1, /) -> bytes:
        """At most `size` bytes, by one read(2) at most; empty at the end of the file."""
        self._check_readable()
        wanted = operator.index(size)
        async with self._buffer as buffer:
            return await buffer.read_once(max(buffer.size, 1) if wanted < 0 else wanted)

    async def peek(self, size: int = 0, /) -> bytes:
        """Some bytes, without moving the position: what is read ahead already, or one read(2)."""
        self._check_readable()
        operator.index(size)
        async with self._buffer as buffer:
            await buffer.flush()
            if not buffer.unread:
                await buffer.fill(max(buffer.size, 1))
            return buffer.peek()

    async def readinto(self, target: Any, /) -> int:
        """Fills a writable buffer; how many bytes, fewer than it takes at the end of the file
        only. It is filled when the bytes are here, and never after a cancel."""
        return await self._read_into(target, is_once=False)

    async def readinto1(self, target: Any, /) -> int:
        """The same by one read(2) at most."""
        return await self._read_into(target, is_once=True)

    async def _read_into(self, target: Any, is_once: bool) -> int:
        self._check_readable()
        with memoryview(target) as view:
            if view.readonly:
                raise TypeError("readinto() argument must be read-write bytes-like object")
            async with self._buffer as buffer:
                once = is_once or not (buffer.size or buffer.is_seekable)
                data = await (buffer.read_once if once else buffer.read)(view.nbytes)
            with view.cast("B") as flat:
                flat[: len(data)] = data
        return len(data)

    async def write(self, data: Any, /) -> int:
        """Takes all of a bytes-like object, and answers how many bytes that are."""
        self._check_writable()
        async with self._buffer:
            return await self._write(data)

    async def tell(self) -> int:
        """The position, in bytes."""
        self._check_open()
        return self._buffer.tell()

    async def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Moves the position, and answers the new one; whence: os.SEEK_*."""
        self._check_open()
        where = operator.index(offset)
        if whence not in _WHENCES:
            raise ValueError(f"whence value {whence} unsupported")
        self._check_seekable()
        async with self._buffer as buffer:
            return await buffer.seek(where, whence)

    def _take_line(self) -> bytes | None:
        return self._buffer.take_line()

    async def _read_line(self, limit: int) -> bytes:
        return await self._buffer.read_line(limit)

    async def _write(self, data: Any) -> int:
        size = memoryview(data).nbytes
        await self._buffer.write(data, size)
        return size
