"""Between a file object and its descriptor: what was read ahead, what is yet to be written.

The position of a file is kept here and given with each request, so that a request whose caller
has left moves nothing behind our back. What cannot be placed (pipes, terminals, and writes that
append) goes by the file's own position.

A request in flight is finished by `_filled` or `_written`, whoever waits for it. Bytes leave the
buffer only when they are handed over, all at once; so a caller that is cancelled loses none, and
what a request brings after that is there for the next one. There is one request at a time: who
comes next waits for its end first.

A Buffer is an asynchronous context manager: one operation at a time has it, in the order in
which they came. Its methods, but for close(), expect that.
"""

from __future__ import annotations

import asyncio
import errno
import os
import stat
import warnings
from collections.abc import Callable
from types import TracebackType
from typing import Any

from uringloop.async_files.sizes import REQUEST_BYTES_MAX, is_end, size_to_end
from uringloop.async_files.threads import FileInfo, ThreadCalls

# Larger than the builtin open's, as each request costs a turn of the loop.
DEFAULT_BYTES = 64 * 1024


class Buffer:
    """The descriptor `fd` and its position.

    name          what the file is called, for warnings
    is_appending  the kernel places what is written at the end
    size          bytes that are gathered before they are written; 0: none are
    is_owner      whether close() closes the descriptor
    """

    def __init__(
        self,
        calls: ThreadCalls,
        fd: int,
        info: FileInfo,
        name: Any,
        *,
        is_appending: bool,
        size: int,
        is_owner: bool,
    ) -> None:
        self.fd = fd
        self.name = name
        self.size = size
        self.closed = False
        self.is_seekable = True
        self._calls = calls
        self._is_owner = is_owner
        self._is_appending = is_appending
        self._is_regular = stat.S_ISREG(info.mode)
        self._file_bytes = info.size
        self._lock = asyncio.Lock()
        self._call: Any = None
        # What was read: [_at:] is not handed over yet. It ends at _position.
        self._chunk = b""
        self._at = 0
        # What is to be written, at _position. One of the two is always empty.
        self._pending: bytes | bytearray = bytearray()
        self._position = 0

    def start_at(self, position: int | None) -> None:
        """The first position; None for a file that has none."""
        self.is_seekable = position is not None
        self._position = position or 0

    # -- one at a time ------------------------------------------------------------------

    def is_busy(self) -> bool:
        """Whether an operation has it, or a request is in flight."""
        return self._lock.locked() or self._call is not None

    async def __aenter__(self) -> Buffer:
        await self._lock.acquire()
        try:
            if self._call is not None:
                await self._until_idle()
            if self.closed:
                raise ValueError("I/O operation on closed file.")
        except BaseException:
            self._lock.release()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._lock.release()

    async def _until_idle(self) -> None:
        """Waits for a request whose caller has left."""
        while self._call is not None:
            self._call.future = self._calls.loop.create_future()
            await self._call.future

    async def _answer_to(self, call: Any) -> Any:
        """What `call` brings. On a file of the disk it goes on when its caller leaves: it will
        end soon. Elsewhere it may wait for ever, and is stopped."""
        try:
            answer = await call.future
        except asyncio.CancelledError:
            if not self.is_seekable:
                call.give_up()
            raise
        if isinstance(answer, int) and answer < 0:
            raise OSError(-answer, os.strerror(-answer))
        return answer

    # -- reading ------------------------------------------------------------------------

    @property
    def unread(self) -> int:
        """Bytes that are here and not handed over yet."""
        return len(self._chunk) - self._at

    def take(self, size: int) -> bytes:
        """Hands over at most `size` bytes of what is here."""
        begin, end = self._at, self._at + size
        chunk = self._chunk
        if end >= len(chunk):
            self._chunk, self._at = b"", 0
            return chunk[begin:]  # the same object, where that is all of it
        self._at = end
        return chunk[begin:end]

    def peek(self) -> bytes:
        """All that is here, without handing it over."""
        return self._chunk[self._at :]

    async def fill(self, size: int) -> int:
        """One read of at most `size` bytes; answers how many came, 0 at the end of the file."""
        # No memory for more than there is likely to be.
        left = self._file_bytes - self._position if self._is_regular else 0
        likely = max(left + 1, self.unread, self.size, DEFAULT_BYTES)
        size = min(size, likely, REQUEST_BYTES_MAX)
        offset = self._position if self.is_seekable else None
        self._call = self._calls.read(self.fd, size, offset, self._filled)
        return len(await self._answer_to(self._call))

    def _filled(self, answer: Any) -> None:
        self._call = None
        if isinstance(answer, bytes) and answer:
            self._chunk = self.peek() + answer if self.unread else answer
            self._at = 0
            self._position += len(answer)

    async def read(self, size: int) -> bytes:
        """`size` bytes, or fewer at the end of the file."""
        if self.unread < size:
            await self.flush()
        while self.unread < size:
            missing = size - self.unread
            if not await self.fill(max(missing, self.size)):
                break
        return self.take(size)

    async def read_all(self) -> bytes:
        """All to the end of the file."""
        await self.flush()
        while True:
            asked = self._size_to_end()
            got = await self.fill(asked)
            if not got or self._is_end(got, asked):
                return self.take(self.unread)

    def _size_to_end(self) -> int:
        if not self._is_regular or self._position >= self._file_bytes:
            return max(self.unread, DEFAULT_BYTES)
        return size_to_end(self._file_bytes, self._position)

    def _is_end(self, got: int, asked: int) -> bool:
        return self._is_regular and is_end(got, asked, self._file_bytes, self._position)

    async def read_once(self, size: int) -> bytes:
        """At most `size` bytes by one read at most; empty at the end of the file only."""
        await self.flush()
        if not self.unread and size:
            await self.fill(size)
        return self.take(size)

    async def read_line(self, limit: int) -> bytes:
        """To the next newline, it included; at most `limit` bytes where that is not negative."""
        await self.flush()
        looked = 0
        while True:
            end = self._chunk.find(b"\n", self._at + looked) + 1
            size = end - self._at if end else self.unread
            if 0 <= limit <= size:
                return self.take(limit)
            if end:
                return self.take(size)
            looked = size
            if not await self.fill(max(self.size, size, 1)):
                return self.take(size)

    def take_line(self) -> bytes | None:
        """The next line, if all of it is here."""
        end = self._chunk.find(b"\n", self._at) + 1
        return self.take(end - self._at) if end else None

    def _drop_unread(self) -> None:
        """Goes back to where the next byte to hand over is."""
        if self.is_seekable:
            self._position -= self.unread
        self._chunk, self._at = b"", 0

    # -- writing ------------------------------------------------------------------------

    def has_room(self, size: int) -> bool:
        """Whether `size` bytes can be taken without flush() before."""
        return not self._pending or len(self._pending) + size <= self.size

    def put(self, data: Any) -> bool:
        """Takes `data`, a bytes-like object, there being room; answers whether it is time for
        flush()."""
        self._drop_unread()
        with memoryview(data) as view:
            if view.nbytes < self.size:
                self._pending += view.tobytes()
                return False
            # Bytes stay as they are; what may change meanwhile is copied.
            self._pending = data if type(data) is bytes else view.tobytes()
        return True

    async def write(self, data: Any, size: int) -> None:
        """Takes `data` of `size` bytes: all of it, or none when it fails or is cancelled before;
        tell() says which."""
        if not self.has_room(size):
            await self.flush()
        if self.put(data):
            await self.flush()

    async def flush(self) -> None:
        """Writes what is to be written. What fails stays, and is tried again with the next."""
        while self._pending:
            is_placed = self.is_seekable and not self._is_appending
            offset = self._position if is_placed else None
            self._call = self._calls.write(self.fd, self._pending, offset, self._written)
            if not await self._answer_to(self._call):
                raise OSError(errno.EIO, "nothing was written")

    def _written(self, answer: int) -> None:
        self._call = None
        if answer <= 0:
            return
        is_all = answer == len(self._pending)
        self._pending = bytearray() if is_all else self._pending[answer:]
        self._position += answer
        if self._is_appending and self.is_seekable:
            self._position = os.lseek(self.fd, 0, os.SEEK_CUR)
        self._file_bytes = max(self._file_bytes, self._position)

    async def truncate(self, size: int | None) -> int:
        """Makes the file `size` bytes long, or so long that it ends here. The position stays."""
        await self.flush()
        self._drop_unread()
        length = self._position if size is None else size
        self._checked(await self._calls.truncate(self.fd, length))
        self._file_bytes = length
        return length

    async def sync(self, data_only: bool) -> None:
        """What was written is on the disk."""
        await self.flush()
        self._checked(await self._calls.sync(self.fd, data_only))

    @staticmethod
    def _checked(answer: int) -> None:
        if answer < 0:
            raise OSError(-answer, os.strerror(-answer))

    # -- the position -------------------------------------------------------------------

    @property
    def offset(self) -> int:
        """The position of the next byte to hand over; without meaning where there is none."""
        return self._position - self.unread

    def tell(self) -> int:
        """The position of the next byte; OSError(ESPIPE) where there is none."""
        if not self.is_seekable:
            raise OSError(errno.ESPIPE, os.strerror(errno.ESPIPE))
        return self.offset + len(self._pending)

    async def seek(self, offset: int, whence: int) -> int:
        """Moves the position; answers the new one."""
        await self.flush()
        if whence == os.SEEK_SET:
            target = offset
        elif whence == os.SEEK_CUR:
            target = self.tell() + offset
        else:
            target = await self._from_end(offset, whence)
        if target < 0:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        begin = self._position - len(self._chunk)
        if begin <= target < self._position:
            self._at = target - begin
        else:
            self._chunk, self._at = b"", 0
            self._position = target
        return target

    async def _from_end(self, offset: int, whence: int) -> int:
        if whence == os.SEEK_END and self._is_regular:
            status = await self._calls.stat(self.fd, True)
            if isinstance(status, os.stat_result):
                return status.st_size + offset
        target = await self._calls.call(os.lseek, self.fd, offset, whence)
        self._checked(target)
        return int(target)

    # -- the end ------------------------------------------------------------------------

    async def close(self) -> None:
        """Writes what is to be written and closes, also when that fails or is cancelled: then
        after the request that is in flight."""
        async with self._lock:
            if self.closed:
                return
            try:
                await self._until_idle()
                await self.flush()
            finally:
                await self._until_idle()
                self.closed = True
                if self._is_owner:
                    self._checked(await self._calls.close(self.fd))

    def __del__(self, warn: Callable[..., None] = warnings.warn) -> None:
        """Forgotten. As the builtin's files do, it says so, writes what is left, and closes."""
        if self.closed or not self._is_owner:
            return
        warn(f"unclosed file {self.name!r}", ResourceWarning, source=self, stacklevel=2)
        try:
            while self._pending and self._call is None:
                self._written(self._write_here())
        finally:
            os.close(self.fd)

    def _write_here(self) -> int:
        if self._is_appending or not self.is_seekable:
            return os.write(self.fd, self._pending)
        return os.pwrite(self.fd, self._pending, self._position)
