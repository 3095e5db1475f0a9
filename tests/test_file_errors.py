"""Every errno of every request about files: told once, with nothing lost but the step itself.

The request, or the system call in a thread, is not made but answered by the errno. Whoever asked
is told by an OSError, asks again, and gets what he would have got.
"""

from __future__ import annotations

import asyncio
import errno
import gzip
import os
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

import uringloop
from uringloop import files
from uringloop.async_files import requests, threads
from uringloop.driver import binding
from uringloop.errors import FILE_ANSWERS

OPCODES = {getattr(binding, f"UL_OP_{name.upper()}"): name for name in FILE_ANSWERS}
CALLS: dict[Any, str] = {
    threads._open: "open",
    os.read: "read",
    os.pread: "read",
    os.write: "write",
    os.pwrite: "write",
    os.close: "close",
    os.fsync: "fsync",
    os.fdatasync: "fsync",
    os.ftruncate: "truncate",
    os.stat: "stat",
    os.lstat: "stat",
    os.replace: "rename",
    threads._link: "link",
    os.symlink: "symlink",
    os.mkdir: "mkdir",
    os.unlink: "unlink",
    os.rmdir: "unlink",
}
ERRORS = [(name, error) for name, errors in FILE_ANSWERS.items() for error in sorted(errors)]
LINES = [b"line %d\n" % number for number in range(8)]


class Refusal:
    """The `nth` of such requests is answered by the errno instead."""

    def __init__(self, operation: str, error: int, nth: int) -> None:
        self.operation = operation
        self.error = error
        self.left = nth

    def takes(self, operation: str | None, fd: int) -> bool:
        if operation != self.operation:
            return False
        self.left -= 1
        if self.left == 0 and operation == "close":
            os.close(fd)  # close(2) has done so, whatever it answers
        return self.left == 0


@pytest.fixture
def refuse(monkeypatch: pytest.MonkeyPatch) -> Callable[[Refusal], None]:
    """Puts a Refusal between the files and the kernel, whichever way they go; the next one takes
    its place."""
    stage, answer_to = requests.Request.stage, threads._answer_to

    def install(refusal: Refusal) -> None:
        def staged(self: Any, opcode: int, fd: int, *fields: int) -> None:
            if not refusal.takes(OPCODES.get(opcode), fd):
                stage(self, opcode, fd, *fields)
                return
            self._loop.call_soon(self.completed, None, opcode, -refusal.error, False)

        def answered(function: Any, arguments: tuple[Any, ...]) -> Any:
            fd = arguments[0] if arguments and isinstance(arguments[0], int) else -1
            if refusal.takes(CALLS.get(function), fd):
                return -refusal.error
            return answer_to(function, arguments)

        monkeypatch.setattr(requests.Request, "stage", staged)
        monkeypatch.setattr(threads, "_answer_to", answered)

    return install


class Told:
    """Takes steps, each again when it has failed, and counts the failures."""

    def __init__(self, refusal: Refusal) -> None:
        self._refusal = refusal
        self.count = 0

    async def step(self, ask: Callable[[], Awaitable[Any]]) -> Any:
        try:
            return await ask()
        except OSError as error:
            self.hear(error)
            return await ask()

    def hear(self, error: OSError) -> None:
        assert error.errno == self._refusal.error
        self.count += 1

    async def write(self, file: Any, data: Any) -> None:
        """tell() says whether a write that failed has taken the bytes all the same."""
        before = await file.tell()
        try:
            await file.write(data)
        except OSError as error:
            self.hear(error)
            if await file.tell() == before:
                await file.write(data)

    async def close(self, file: Any) -> None:
        """A file is closed also when that fails."""
        try:
            await file.close()
        except OSError as error:
            self.hear(error)
        assert file.closed


async def bytes_are_kept(told: Told, folder: Path) -> None:
    path = folder / "bytes"
    file = await told.step(lambda: uringloop.open(path, "w+b", buffering=16).__aenter__())
    for line in LINES:
        await told.write(file, line)
    await told.step(file.flush)
    await told.step(lambda: file.seek(0))
    assert await told.step(file.readline) == LINES[0]
    assert await told.step(lambda: file.read(20)) == b"".join(LINES)[7:27]
    assert await told.step(file.read) == b"".join(LINES)[27:]
    assert await told.step(lambda: file.truncate(30)) == 30
    await told.step(file.fsync)
    await told.close(file)
    assert path.read_bytes() == b"".join(LINES)[:30]


async def text_is_kept(told: Told, folder: Path) -> None:
    path = folder / "text"
    file = await told.step(lambda: uringloop.open(path, "w").__aenter__())
    await file.write("größer\n" * 3)
    await told.step(file.flush)
    await told.close(file)
    file = await told.step(lambda: uringloop.open(path).__aenter__())
    assert [await told.step(file.readline) for _ in range(4)] == ["größer\n"] * 3 + [""]
    await told.close(file)


async def names_are_kept(told: Told, folder: Path) -> None:
    first, second, inner = folder / "first", folder / "second", folder / "inner"
    assert await told.step(lambda: files.write_bytes(first, b"content")) == 7
    assert (await told.step(lambda: files.stat(first))).st_size == 7
    await told.step(lambda: files.rename(first, second))
    await told.step(lambda: files.link(second, first))
    await told.step(lambda: files.unlink(second))
    await told.step(lambda: files.symlink(first, second))
    assert await told.step(lambda: files.read_bytes(second)) == b"content"
    await told.step(lambda: files.mkdir(inner))
    await told.step(lambda: files.rmdir(inner))
    assert sorted(os.listdir(folder)) == ["first", "second"]


WORKS = [bytes_are_kept, text_is_kept, names_are_kept]


@pytest.mark.parametrize(
    ("operation", "error"),
    ERRORS,
    ids=[f"{name}-{errno.errorcode[error]}" for name, error in ERRORS],
)
async def test_every_errno_of_every_request_is_told_and_loses_nothing(
    loop: asyncio.AbstractEventLoop,
    refuse: Callable[[Refusal], None],
    tmp_path: Path,
    operation: str,
    error: int,
) -> None:
    made = 0
    for work in WORKS:
        for nth in (1, 2):
            refusal = Refusal(operation, error, nth)
            refuse(refusal)
            told = Told(refusal)
            folder = tmp_path / f"{work.__name__}-{nth}"
            folder.mkdir()
            await work(told, folder)
            is_made = refusal.left <= 0
            made += is_made
            assert told.count <= is_made
            # The close of a whole file that was only read is nobody's to hear of.
            assert told.count == is_made or operation == "close"
    assert made


PAGES = {
    "stat": ["statx.2", "stat.2"],
    "truncate": ["truncate.2"],
    "unlink": ["unlink.2", "rmdir.2"],
}


@pytest.mark.parametrize("operation", FILE_ANSWERS)
def test_an_errno_is_in_the_manual(operation: str) -> None:
    listed: set[int] = set()
    for name in PAGES.get(operation, [f"{operation}.2"]):
        page = Path(f"/usr/share/man/man2/{name}.gz")
        if not page.exists():
            pytest.skip(f"the manual page {name} is not installed")
        words = set(re.findall(r"\bE[A-Z0-9]+\b", gzip.decompress(page.read_bytes()).decode()))
        listed |= {getattr(errno, word, 0) for word in words}
    assert FILE_ANSWERS[operation] - listed == set()
