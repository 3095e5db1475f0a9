"""uringloop.open() on what is no file of a disk: pipes, FIFOs, devices, and files of /proc."""

from __future__ import annotations

import asyncio
import errno
import io
import os
from pathlib import Path

import pytest
from peers import in_thread

import uringloop


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    return path


async def test_files_that_say_no_size_are_read_to_their_end(
    loop: asyncio.AbstractEventLoop,
) -> None:
    """Those of /proc are regular files of 0 bytes."""
    async with uringloop.open("/proc/self/status", "rb") as file:
        assert (await file.read()).startswith(b"Name:")
        assert os.fstat(file.fileno()).st_size == 0
    assert (await uringloop.files.read_bytes("/proc/self/status")).startswith(b"Name:")


async def test_devices_are_files_too(loop: asyncio.AbstractEventLoop) -> None:
    async with uringloop.open("/dev/zero", "rb") as file:
        assert await file.read(5) == bytes(5)
    async with uringloop.open(os.devnull, "r+b") as file:
        assert await file.write(b"x" * 100_000) == 100_000
        assert await file.read() == b""


async def test_a_full_device_fails_the_flush_and_the_close(
    loop: asyncio.AbstractEventLoop,
) -> None:
    file = await uringloop.open("/dev/full", "wb")
    await file.write(b"lost")
    with pytest.raises(OSError) as flushed:
        await file.flush()
    assert flushed.value.errno == errno.ENOSPC
    with pytest.raises(OSError) as closed:
        await file.close()
    assert closed.value.errno == errno.ENOSPC
    assert file.closed
    with pytest.raises(ValueError, match="closed file"):
        file.fileno()


async def test_the_ends_of_a_fifo_wait_for_each_other(
    loop: asyncio.AbstractEventLoop, fifo: Path
) -> None:
    async def read() -> bytes:
        async with uringloop.open(fifo, "rb") as reader:
            assert not await reader.seekable()
            with pytest.raises(io.UnsupportedOperation):
                await reader.seek(0)
            with pytest.raises(OSError):
                await reader.tell()
            return bytes(await reader.read())

    reading = asyncio.ensure_future(read())
    async with uringloop.open(fifo, "wb") as writer:
        await writer.write(b"through ")
        await writer.flush()
        await writer.write(b"the pipe" * 30_000)
    assert await reading == b"through " + b"the pipe" * 30_000


async def test_a_writer_waits_for_the_reader_of_a_fifo(
    loop: asyncio.AbstractEventLoop, fifo: Path
) -> None:
    """The other order, and a reader that is no file of ours."""
    opening = asyncio.ensure_future(uringloop.open(fifo, "w").__aenter__())
    await asyncio.sleep(0)
    reading = in_thread(fifo.read_text)
    writer = await opening
    await writer.write("through the pipe")
    await writer.close()
    assert await reading == "through the pipe"


async def test_pieces_of_a_pipe_come_as_they_are_there(loop: asyncio.AbstractEventLoop) -> None:
    reader, writer = os.pipe()
    async with uringloop.open(reader, "rb", buffering=0) as raw:
        os.write(writer, b"one")
        assert await raw.read(100) == b"one"
        reading = asyncio.ensure_future(raw.read(100))
        await asyncio.sleep(0)
        os.write(writer, b"two")
        assert await reading == b"two"
        os.close(writer)
        assert await raw.read(100) == b""


async def test_read1_and_peek_ask_once(loop: asyncio.AbstractEventLoop) -> None:
    reader, writer = os.pipe()
    async with uringloop.open(reader, "rb") as file:
        os.write(writer, b"one two")
        assert (await file.peek(1)).startswith(b"one")
        assert await file.read1(3) == b"one"
        assert await file.read1() == b" two"
        os.write(writer, b"more")
        target = bytearray(10)
        assert await file.readinto1(target) == 4
        assert target == b"more" + bytes(6)
        os.close(writer)
        assert await file.read1(5) == b""


async def test_a_file_both_ways_has_to_have_positions(
    loop: asyncio.AbstractEventLoop, fifo: Path
) -> None:
    with pytest.raises(io.UnsupportedOperation, match="not seekable"):
        await uringloop.open(fifo, "r+b")
