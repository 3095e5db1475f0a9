"""Files by requests of the loop's io_uring, and in threads where this kernel has none for it.

One request is one command of the engine (engine.h: OPEN, READ, ...). Its memory (a path, the
bytes that are read or written) is kept by the request until the kernel's final answer, so that
whoever waits may leave at any time. Reads go into a bytes object that nobody has seen yet, and
where the kernel fills it, that very object is the result: nothing is copied.

The whole of a regular file is read in two turns of the loop, and nobody is woken in between:
one opens, one reads; the close goes out with the turn that follows.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
import sys
from typing import Any

from uringloop.async_files.sizes import REQUEST_BYTES_MAX, is_end, size_to_end
from uringloop.async_files.threads import Apply, FileInfo, ThreadCalls, answer_of, info_of
from uringloop.driver import binding
from uringloop.driver.binding import ffi
from uringloop.driver.driver import Driver
from uringloop.driver.features import FEATURE_BITS
from uringloop.driver.in_flight import Operation

_AT_FDCWD = -100
_AT_SYMLINK_NOFOLLOW = 0x100
_AT_REMOVEDIR = 0x200
_AT_EMPTY_PATH = 0x1000
_FSYNC_DATASYNC = 1
_STATX_BASIC_STATS = 0x7FF
_OWN_POSITION = 2**64 - 1
_WORKING_DIRECTORY = _AT_FDCWD & 0xFFFFFFFF  # in a command's length
_OPEN_MODE = 0o666
_READ_FLAGS = os.O_RDONLY | os.O_CLOEXEC

# The kernel's struct statx: mask, blksize, attributes, nlink, uid, gid, mode, ino, size, blocks,
# attributes_mask; access, birth, change and modification time; the device numbers.
_STATUS = struct.Struct("=IIQIIIHxxQQQQ" + "qIxxxx" * 4 + "IIII")
_STATUS_BYTES = 256

# A bytes object of one byte, or none, may be somebody else's too.
_BYTES_MIN = 2

_FILES = FEATURE_BITS["files"]
_FILE_NAMES = FEATURE_BITS["file_names"]
_FILE_TRUNCATE = FEATURE_BITS["file_truncate"]

# Memory that the kernel might still write to after its loop was closed: never used again.
_abandoned: list[Any] = []


def calls_of(loop: Any) -> ThreadCalls:
    """How files are to be asked for on `loop`, whichever event loop it is."""
    driver = getattr(loop, "_driver", None)
    if isinstance(driver, Driver) and driver.choice.features & _FILES:
        return RingCalls(loop, driver.choice.features)
    return ThreadCalls(loop)


class Request(Operation):
    """One request. `future` has its answer, and may be replaced by another.

    memory   what the kernel reads from or writes to
    apply    told of the answer, before whoever waits for it
    """

    def __init__(self, loop: Any, memory: Any = None, apply: Apply | None = None) -> None:
        self._loop = loop
        self._memory = memory
        self._apply = apply
        self._token = 0
        self.future = loop.create_future()

    def stage(
        self, opcode: int, fd: int, address: int, length: int, argument: int, flags: int = 0
    ) -> None:
        """Gives the command, to be taken by the next turn."""
        self._token = self._loop._in_flight.add(self)
        self._loop._rings.stage(opcode, fd, self._token, address, length, argument, flags)

    def give_up(self) -> None:
        """Nobody waits any more: what the kernel has not begun, or what waits, is to end."""
        if self._token:
            self._loop._rings.stage(binding.UL_OP_CANCEL, -1, 0, 0, 0, self._token, 0)
        elif self.future.done() and not self.future.cancelled():
            self.undo(self.future.result())

    def answer(self, result: int) -> Any:
        """What the future gets."""
        return result

    def undo(self, answer: Any) -> None:
        """The answer is for nobody."""

    def completed(self, rings: Any, opcode: int, result: int, more: bool) -> None:
        self._token = 0
        answer = self.answer(result)
        self._memory = None
        if self._apply is not None:
            self._apply(answer)
        if self.future.done():
            self.undo(answer)
        else:
            self.future.set_result(answer)

    def abandoned(self) -> None:
        self._token = 0
        _abandoned.append(self._memory)


class Read(Request):
    """Its memory is the bytes object that becomes the answer."""

    def answer(self, result: int) -> Any:
        if result < 0 or result == len(self._memory):
            return result if result < 0 else self._memory
        return self._memory[:result]


class Status(Request):
    """Its memory is the path and a struct statx."""

    def answer(self, result: int) -> Any:
        return result if result < 0 else _stat_result(self._memory[1])


class Open(Request):
    """A descriptor, which is closed when nobody takes it. `info` is good with it."""

    def __init__(self, calls: RingCalls, path: bytes, flags: int, waits: bool) -> None:
        self._info = ffi.new("struct ul_file_info *")
        super().__init__(calls.loop, path)
        self._calls = calls
        address = calls.address_of(path)
        length = flags << 32 | _OPEN_MODE
        how = binding.UL_WAITS if waits else 0
        self.stage(binding.UL_OP_OPEN, _AT_FDCWD, address, length, _address_of(self._info), how)

    def info(self, fd: int) -> FileInfo:
        info = self._info
        return FileInfo(info.size, info.mode, info.block_bytes) if info.mode else info_of(fd)

    def undo(self, answer: Any) -> None:
        if answer >= 0 and self._loop.is_closed():
            os.close(answer)
        elif answer >= 0:
            self._calls.close_later(answer)

    def abandoned(self) -> None:
        super().abandoned()
        _abandoned.append(self._info)


class Unawaited(Operation):
    """A request without which all is well; here, the close of a file that was only read."""

    def completed(self, rings: Any, opcode: int, result: int, more: bool) -> None:
        """Nobody waits for it."""


class ReadFile(Open):
    """The whole of a regular file: its bytes, or -errno; None for a file of another kind."""

    def __init__(self, calls: RingCalls, path: bytes) -> None:
        super().__init__(calls, path, _READ_FLAGS, waits=False)
        self._fd = -1
        self._pieces: list[bytes] = []
        self._offset = 0
        self._expected = 0

    def completed(self, rings: Any, opcode: int, result: int, more: bool) -> None:
        self._token = 0
        if opcode == binding.UL_OP_OPEN:
            self._opened(result)
        else:
            self._read(result)

    def _opened(self, fd: int) -> None:
        if fd < 0:
            self._end(fd)
            return
        self._fd = fd
        info = self.info(fd)
        self._expected = info.size
        if stat.S_ISREG(info.mode):
            self._read_more()
        else:
            self._end(-errno.EISDIR if stat.S_ISDIR(info.mode) else None)

    def _read_more(self) -> None:
        if self.future.done():
            self._end(None)
            return
        self._memory = bytes(max(size_to_end(self._expected, self._offset), _BYTES_MIN))
        address = self._calls.address_of(self._memory)
        length = len(self._memory)
        self.stage(binding.UL_OP_READ, self._fd, address, length, self._offset)

    def _read(self, result: int) -> None:
        memory = self._memory
        if result > 0:
            self._pieces.append(memory if result == len(memory) else memory[:result])
            self._offset += result
        if result <= 0 or is_end(result, len(memory), self._expected, self._offset):
            self._end(result if result < 0 else b"".join(self._pieces))
        else:
            self._read_more()

    def _end(self, answer: Any) -> None:
        self._memory = None
        if self._fd >= 0:
            self._calls.close_later(self._fd)
        if not self.future.done():
            self.future.set_result(answer)

    def undo(self, answer: Any) -> None:
        """Closed already."""

    def abandoned(self) -> None:
        super().abandoned()
        if self._fd >= 0:
            os.close(self._fd)


class RingCalls(ThreadCalls):
    """The same questions, as requests.

    features   what this loop may use, as bits
    """

    def __init__(self, loop: Any, features: int) -> None:
        super().__init__(loop)
        self._features = features
        self.address_of = loop._rings.address_of

    async def open(self, path: Any, flags: int) -> int | tuple[int, FileInfo]:
        sys.audit("open", path, None, flags)
        path = os.fsencode(path)
        call = Open(self, path, flags, waits=False)
        fd = await answer_of(call)
        if fd >= 0:
            info = call.info(fd)
            if not _is_half_a_fifo(info, flags):
                return fd, info
        elif fd != -errno.ENXIO:
            return int(fd)
        return await self._open_fifo(path, flags, fd)

    async def _open_fifo(
        self, path: bytes, flags: int, early_fd: int
    ) -> int | tuple[int, FileInfo]:
        """The kernel's first try has O_NONBLOCK, and so waited for nobody. Keeps that end open
        meanwhile: a writer that found it must not lose its reader again."""
        call = Open(self, path, flags, waits=True)
        try:
            fd = await answer_of(call)
        finally:
            if early_fd >= 0:
                self.close_later(early_fd)
        return (fd, call.info(fd)) if fd >= 0 else int(fd)

    async def read_file(self, path: Any) -> bytes | int | None:
        sys.audit("open", path, None, _READ_FLAGS)
        answer: bytes | int | None = await answer_of(ReadFile(self, os.fsencode(path)))
        return answer

    async def write_file(self, path: Any, data: Any) -> int | None:
        return None

    def read(self, fd: int, size: int, offset: int | None, apply: Apply) -> Any:
        memory = bytes(min(max(size, _BYTES_MIN), REQUEST_BYTES_MAX))
        request = Read(self.loop, memory, apply)
        where = _OWN_POSITION if offset is None else offset
        address = self.address_of(memory)
        request.stage(binding.UL_OP_READ, fd, address, min(size, len(memory)), where)
        return request

    def write(self, fd: int, data: Any, offset: int | None, apply: Apply) -> Any:
        view = ffi.from_buffer(data)
        request = Request(self.loop, view, apply)
        where = _OWN_POSITION if offset is None else offset
        size = min(len(view), REQUEST_BYTES_MAX)
        request.stage(binding.UL_OP_WRITE, fd, _address_of(view), size, where)
        return request

    async def close(self, fd: int) -> int:
        return await self._ask(binding.UL_OP_CLOSE, fd, None, 0, 0)

    def close_later(self, fd: int) -> None:
        token = self.loop._in_flight.add(Unawaited())
        self.loop._rings.stage(binding.UL_OP_CLOSE, fd, token, 0, 0, 0, binding.UL_LAZY)

    async def sync(self, fd: int, data_only: bool) -> int:
        flags = _FSYNC_DATASYNC if data_only else 0
        return await self._ask(binding.UL_OP_FSYNC, fd, None, flags << 32, 0)

    async def truncate(self, fd: int, size: int) -> int:
        if not self._features & _FILE_TRUNCATE:
            return await super().truncate(fd, size)
        sys.audit("os.truncate", fd, size)
        return await self._ask(binding.UL_OP_TRUNCATE, fd, None, 0, size)

    async def stat(self, path: Any, follow_symlinks: bool) -> os.stat_result | int:
        fd, flags = _AT_FDCWD, 0 if follow_symlinks else _AT_SYMLINK_NOFOLLOW
        if isinstance(path, int):
            fd, path, flags = path, b"", _AT_EMPTY_PATH
        path, status = os.fsencode(path), bytearray(_STATUS_BYTES)
        view = ffi.from_buffer(status)
        request = Status(self.loop, (path, status, view))
        length = flags << 32 | _STATX_BASIC_STATS
        request.stage(binding.UL_OP_STAT, fd, self.address_of(path), length, _address_of(view))
        answer: os.stat_result | int = await answer_of(request)
        return answer

    async def rename(self, source: Any, target: Any) -> int:
        sys.audit("os.rename", source, target, -1, -1)
        return await self._ask_of_two(binding.UL_OP_RENAME, source, target, _WORKING_DIRECTORY)

    async def link(self, source: Any, target: Any) -> int:
        if not self._features & _FILE_NAMES:
            return await super().link(source, target)
        sys.audit("os.link", source, target, -1, -1)
        return await self._ask_of_two(binding.UL_OP_LINK, source, target, _WORKING_DIRECTORY)

    async def symlink(self, source: Any, target: Any) -> int:
        if not self._features & _FILE_NAMES:
            return await super().symlink(source, target)
        sys.audit("os.symlink", source, target, -1)
        return await self._ask_of_two(binding.UL_OP_SYMLINK, source, target, 0)

    async def unlink(self, path: Any) -> int:
        sys.audit("os.remove", path, -1)
        return await self._ask(binding.UL_OP_UNLINK, _AT_FDCWD, path, 0, 0)

    async def rmdir(self, path: Any) -> int:
        sys.audit("os.rmdir", path, -1)
        return await self._ask(binding.UL_OP_UNLINK, _AT_FDCWD, path, _AT_REMOVEDIR << 32, 0)

    async def mkdir(self, path: Any, mode: int) -> int:
        if not self._features & _FILE_NAMES:
            return await super().mkdir(path, mode)
        sys.audit("os.mkdir", path, mode, -1)
        return await self._ask(binding.UL_OP_MKDIR, _AT_FDCWD, path, mode & 0o7777, 0)

    async def _ask(self, opcode: int, fd: int, path: Any, length: int, argument: int) -> int:
        """A request with one path, or none, whose answer is a number."""
        encoded = None if path is None else os.fsencode(path)
        request = Request(self.loop, encoded)
        address = 0 if encoded is None else self.address_of(encoded)
        request.stage(opcode, fd, address, length, argument)
        return int(await answer_of(request))

    async def _ask_of_two(self, opcode: int, source: Any, target: Any, length: int) -> int:
        paths = os.fsencode(source), os.fsencode(target)
        request = Request(self.loop, paths)
        addresses = self.address_of(paths[0]), self.address_of(paths[1])
        request.stage(opcode, _AT_FDCWD, addresses[0], length, addresses[1])
        return int(await answer_of(request))


def _is_half_a_fifo(info: FileInfo, flags: int) -> bool:
    """Whether open(2) would have waited for the other end."""
    return stat.S_ISFIFO(info.mode) and not flags & (os.O_RDWR | os.O_NONBLOCK)


def _address_of(view: Any) -> int:
    return int(ffi.cast("uintptr_t", view))


def _stat_result(status: bytearray) -> os.stat_result:
    """What os.stat() makes of the kernel's answer."""
    fields = _STATUS.unpack_from(status)
    block_bytes, links, user, group, mode, inode, size, blocks = (
        fields[index] for index in (1, 3, 4, 5, 6, 7, 8, 9)
    )
    times = [fields[index : index + 2] for index in (11, 17, 15)]  # access, modification, change
    rdev, device = os.makedev(*fields[19:21]), os.makedev(*fields[21:23])
    visible = (mode, inode, device, links, user, group, size, *(seconds for seconds, _ in times))
    further: dict[str, Any] = {
        "st_blksize": block_bytes,
        "st_blocks": blocks,
        "st_rdev": rdev,
    }
    for name, (seconds, ns) in zip(("atime", "mtime", "ctime"), times, strict=True):
        further[f"st_{name}"] = seconds + 1e-9 * ns
        further[f"st_{name}_ns"] = seconds * 10**9 + ns
    return os.stat_result(visible, further)
