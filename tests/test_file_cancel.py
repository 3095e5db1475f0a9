"""Files whose callers leave early: nothing is lost, nothing leaks, nobody waits for ever.

Between asking and the answer a caller may be cancelled at any moment. The position must then be
where it was or where the whole operation leads, and the descriptor must be closed in the end;
the audit of each test sees to the latter.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from audit import open_descriptors
from peers import turns, until_true

import uringloop

Cancelled = asyncio.CancelledError

# After so many turns of the loop the caller leaves; more than any of these operations takes.
MOMENTS = range(8)
LINES = b"".join(b"line %d\n" % number for number in range(20_000))


async def cancelled_after(count: int, awaitable: Awaitable[Any]) -> bool:
    """Runs it as a task that is cancelled after `count` turns; whether it was before its end."""
    task = asyncio.ensure_future(awaitable)
    await turns(count)
    task.cancel()
    try:
        await task
    except Cancelled:
        return True
    return False


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(LINES)
    return path


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    return path


async def leave(opening: Any) -> None:
    """Opens and closes, at the pace of the loop."""
    async with opening:
        await asyncio.sleep(0)


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("mode", ["rb", "w", "a+"])
async def test_a_cancelled_open_leaves_no_descriptor(
    loop: asyncio.AbstractEventLoop, path: Path, mode: str, moment: int
) -> None:
    before = open_descriptors()
    for _ in range(5):
        await cancelled_after(moment, leave(uringloop.open(path, mode)))
        await cancelled_after(moment, uringloop.files.read_bytes(path))
    await loop.shutdown_default_executor()
    await until_true(lambda: str(path) not in {name for _, name in open_descriptors() - before})


@pytest.mark.ours
async def test_an_open_that_waits_for_the_other_end_of_a_fifo_can_be_cancelled(
    loop: Any, fifo: Path
) -> None:
    if loop.backend != "io_uring":
        # A thread cannot be stopped; it ends when the other end comes.
        assert await cancelled_after(3, uringloop.open(fifo, "rb").__aenter__())
        os.close(os.open(fifo, os.O_WRONLY))
        return
    for mode in ("rb", "wb"):
        assert await cancelled_after(3, uringloop.open(fifo, mode).__aenter__())
    with pytest.raises(OSError):
        os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)  # nobody reads


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize(
    "read",
    [
        lambda file: file.read(),
        lambda file: file.read(150_000),
        lambda file: file.readline(),
        lambda file: file.readlines(),
        lambda file: file.readinto(bytearray(100_000)),
        lambda file: file.seek(0, os.SEEK_END),
        lambda file: file.fsync(),
    ],
    ids=["read", "read n", "readline", "readlines", "readinto", "seek", "fsync"],
)
async def test_a_cancelled_read_loses_no_byte(
    loop: asyncio.AbstractEventLoop, path: Path, read: Callable[[Any], Any], moment: int
) -> None:
    async with uringloop.open(path, "r+b") as file:
        for _ in range(3):
            assert await file.readline() == b"line 0\n"
            if await cancelled_after(moment, read(file)):
                position = await file.tell()
                assert await file.read() == LINES[position:]
            await file.seek(0)


@pytest.mark.parametrize("moment", MOMENTS)
async def test_a_cancelled_read_of_text_loses_no_character(
    loop: asyncio.AbstractEventLoop, path: Path, moment: int
) -> None:
    text = LINES.decode()
    async with uringloop.open(path, encoding="ascii") as file:
        for wanted in (file.read, file.readlines, lambda: file.read(100_000)):
            assert await file.read(10) == text[:10]
            if await cancelled_after(moment, wanted()):
                position = await file.tell()
                assert await file.read() == text[position:]
            await file.seek(0)


async def test_a_cancelled_read_never_touches_the_callers_buffer_again(
    loop: asyncio.AbstractEventLoop,
) -> None:
    reader, writer = os.pipe()
    target = bytearray(10)
    async with uringloop.open(reader, "rb", buffering=0) as file:
        assert await cancelled_after(3, file.readinto(target))
        os.write(writer, b"0123456789")
        assert await file.read(10) == b"0123456789"
        assert target == bytes(10)
        os.close(writer)


async def test_what_a_cancelled_read_of_a_pipe_took_goes_to_the_next(
    loop: asyncio.AbstractEventLoop,
) -> None:
    """The byte may have been taken already when the cancel comes."""
    reader, writer = os.pipe()
    async with uringloop.open(reader, "rb", buffering=0) as file:
        received = b""
        for number in range(50):
            reading = asyncio.ensure_future(file.read(10))
            await turns(number % 4)
            os.write(writer, bytes([number]))
            await turns(number % 3)
            reading.cancel()
            try:
                received += await reading
            except Cancelled:
                pass
        os.close(writer)
        while piece := await file.read(100):
            received += piece
    assert received == bytes(range(50))


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("size", [10, 70_000])
async def test_a_cancelled_write_is_taken_whole_or_not_at_all(
    loop: asyncio.AbstractEventLoop, tmp_path: Path, size: int, moment: int
) -> None:
    path = tmp_path / "written"
    expected = b""
    async with uringloop.open(path, "wb") as file:
        for number in range(20):
            data = bytes([number]) * size
            await cancelled_after(moment, file.write(data))
            position = await file.tell()
            assert position in (len(expected), len(expected) + size)
            if position > len(expected):
                expected += data
    assert path.read_bytes() == expected


@pytest.mark.parametrize("moment", MOMENTS)
async def test_a_cancelled_close_closes_and_loses_nothing(
    loop: asyncio.AbstractEventLoop, tmp_path: Path, moment: int
) -> None:
    path = tmp_path / "closed"
    file = await uringloop.open(path, "wb")
    await file.write(b"x" * 1000)
    fd = file.fileno()
    closing = asyncio.ensure_future(file.close())
    await turns(moment)
    closing.cancel()
    await asyncio.wait([closing])
    if not file.closed:
        await file.close()
    assert file.closed
    assert path.read_bytes() == b"x" * 1000
    await until_true(lambda: (fd, str(path)) not in open_descriptors())


@pytest.mark.ours
async def test_a_write_to_a_full_pipe_can_be_cancelled_and_is_finished_later(loop: Any) -> None:
    reader, writer = os.pipe()
    data = bytes(range(256)) * 1000
    file = await uringloop.open(writer, "wb", buffering=0)
    writing = asyncio.ensure_future(file.write(data))
    await turns(4)
    writing.cancel()
    received = bytearray()

    def drain() -> None:
        while piece := os.read(reader, 65536):
            received.extend(piece)

    thread = threading.Thread(target=drain)
    with pytest.raises(Cancelled):
        await writing
    thread.start()
    await file.close()
    thread.join(10)
    os.close(reader)
    assert not thread.is_alive()
    assert received == data


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.ours
def test_a_loop_that_is_closed_leaves_no_descriptor_of_a_file_being_read(
    new_loop: Any, path: Path, moment: int
) -> None:
    """The audit of `new_loop` looks for them."""
    loop = new_loop()

    async def begin() -> None:
        for _ in range(20):
            tasks.append(asyncio.ensure_future(uringloop.files.read_bytes(path)))
        await turns(moment)

    tasks: list[Any] = []
    loop.run_until_complete(begin())
    if loop.backend != "io_uring":
        loop.run_until_complete(loop.shutdown_default_executor())
    for task in tasks:
        task._log_destroy_pending = False
    loop.close()
    tasks.clear()
