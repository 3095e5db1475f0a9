"""uringloop.open(): what opens, what is refused, and what the file objects say of themselves."""

from __future__ import annotations

import asyncio
import builtins
import errno
import io
import os
import random
import re
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

import uringloop

MODES = ("r", "w", "a", "x", "r+", "w+", "a+", "x+", "rt", "+r", "tr+")
BYTES_MODES = ("rb", "wb", "ab", "xb", "r+b", "rb+", "w+b", "a+b", "x+b", "br", "b+r")
MIB = 1 << 20


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"first\nsecond\nthird")
    return path


def named(value: Any) -> str:
    """Without addresses, which differ between processes."""
    return re.sub(r" at 0x\w+", "", str(value))


async def outcome_of_ours(*arguments: Any, **options: Any) -> Any:
    try:
        file = await uringloop.open(*arguments, **options)
    except Exception as error:
        return shown(error)
    await file.close()
    return "opened"


def outcome_of_builtin(*arguments: Any, **options: Any) -> Any:
    try:
        builtins.open(*arguments, **options).close()
    except Exception as error:
        return shown(error)
    return "opened"


def shown(error: Exception) -> Any:
    if isinstance(error, OSError):
        return type(error), error.errno, error.filename, str(error)
    return type(error)


@pytest.mark.parametrize("mode", [*MODES, *BYTES_MODES])
async def test_a_file_says_of_itself_what_the_builtins_says(
    loop: asyncio.AbstractEventLoop, tmp_path: Path, mode: str
) -> None:
    paths = [tmp_path / name for name in ("ours", "theirs")]
    if "x" not in mode:
        for path in paths:
            path.write_bytes(b"content")
    encoding = None if "b" in mode else "utf-8"
    with builtins.open(paths[1], mode, encoding=encoding) as theirs:
        async with uringloop.open(paths[0], mode, encoding=encoding) as ours:
            assert ours.mode == theirs.mode
            assert ours.name == str(paths[0]) and theirs.name == str(paths[1])
            # Of text files a coroutine, as in aiofiles.
            readable = ours.readable() if "b" in mode else await ours.readable()
            assert readable == theirs.readable()
            assert await ours.writable() == theirs.writable()
            assert await ours.seekable() == theirs.seekable()
            assert await ours.isatty() == theirs.isatty()
            assert await ours.tell() == theirs.tell()
            assert not os.get_inheritable(ours.fileno())
            for name in ("encoding", "errors", "newlines", "line_buffering"):
                assert getattr(ours, name, None) == getattr(theirs, name, None)
    assert ours.closed


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        (("missing",), {}),
        (("missing",), {"mode": "r+b"}),
        (("missing/file",), {"mode": "w"}),
        ((".",), {}),
        ((".",), {"mode": "rb"}),
        ((".",), {"mode": "w"}),
        ((".",), {"mode": "a+b"}),
        ((b"missing",), {}),
        ((Path("missing"),), {}),
        (("file",), {"mode": "x"}),
        (("file/more",), {}),
        (("loop",), {}),
        (("n" * 300,), {}),
        (("",), {}),
        (("zero\0byte",), {}),
        ((b"zero\0byte",), {}),
        ((None,), {}),
        ((1.5,), {}),
        ((-1,), {}),
        ((987654,), {}),
        (("file",), {"mode": "q"}),
        (("file",), {"mode": ""}),
        (("file",), {"mode": "b"}),
        (("file",), {"mode": "rr"}),
        (("file",), {"mode": "rw"}),
        (("file",), {"mode": "r++"}),
        (("file",), {"mode": "rbt"}),
        (("file",), {"mode": 7}),
        (("file",), {"mode": None}),
        (("file",), {"buffering": 0}),
        (("file",), {"buffering": "1"}),
        (("file",), {"buffering": None}),
        (("file",), {"mode": "rb", "encoding": "utf-8"}),
        (("file",), {"mode": "rb", "errors": "strict"}),
        (("file",), {"mode": "rb", "newline": "\n"}),
        (("file",), {"encoding": "no such encoding"}),
        (("file",), {"encoding": "rot13"}),
        (("file",), {"encoding": 1}),
        (("file",), {"encoding": "utf-8", "errors": 5}),
        (("file",), {"encoding": "utf-8", "newline": "x"}),
        (("file",), {"encoding": "utf-8", "newline": 5}),
        (("file",), {"closefd": False}),
        (("file",), {"mode": "rb", "opener": lambda path, flags: -1}),
        (("file",), {"mode": "rb", "opener": lambda path, flags: "fd"}),
        (("file",), {"mode": "rb", "opener": lambda path, flags: os.open("missing", flags)}),
    ],
    ids=named,
)
async def test_what_the_builtin_refuses_is_refused_alike(
    loop: asyncio.AbstractEventLoop,
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[Any, ...],
    options: dict[str, Any],
) -> None:
    monkeypatch.chdir(path.parent)
    os.symlink("loop", "loop")
    theirs = outcome_of_builtin(*arguments, **options)
    assert theirs != "opened"
    assert await outcome_of_ours(*arguments, **options) == theirs


def test_wrong_arguments_are_refused_before_anything_is_opened() -> None:
    with pytest.raises(ValueError, match="invalid mode: 'q'"):
        uringloop.open("missing", "q")
    with pytest.raises(LookupError, match="unknown encoding"):
        uringloop.open("missing", encoding="no such encoding")


async def test_line_buffering_of_bytes_is_warned_of(
    loop: asyncio.AbstractEventLoop, path: Path
) -> None:
    with pytest.warns(RuntimeWarning, match="line buffering .* isn't supported in binary mode"):
        opening = uringloop.open(path, "rb", buffering=1)
    async with opening as file:
        assert await file.read() == path.read_bytes()


@pytest.mark.parametrize("mode", ["rb", "r"])
async def test_a_closed_file_refuses_everything_and_may_be_closed_again(
    loop: asyncio.AbstractEventLoop, path: Path, mode: str
) -> None:
    async with uringloop.open(path, mode) as file:
        pass
    await file.close()
    for call in ("read", "readline", "readlines", "tell", "flush", "fsync", "truncate", "isatty"):
        with pytest.raises(ValueError, match="closed file"):
            await getattr(file, call)()
    for name in ("fileno", "__aiter__"):
        with pytest.raises(ValueError, match="closed file"):
            getattr(file, name)()
    with pytest.raises(ValueError, match="closed file"):
        await file.seek(0)
    with pytest.raises(ValueError, match="closed file"):
        await file.write(b"" if mode == "rb" else "")
    with pytest.raises(ValueError, match="closed file"):
        async with file:
            pytest.fail("it was entered")


@pytest.mark.parametrize("binary", ["b", ""])
async def test_what_the_mode_does_not_allow_is_unsupported(
    loop: asyncio.AbstractEventLoop, path: Path, binary: str
) -> None:
    async with uringloop.open(path, "r" + binary) as file:
        with pytest.raises(io.UnsupportedOperation):
            await file.write(b"x" if binary else "x")
        with pytest.raises(io.UnsupportedOperation):
            await file.writelines([b"x" if binary else "x"])
        with pytest.raises(io.UnsupportedOperation):
            await file.truncate()
    async with uringloop.open(path, "a" + binary) as file:
        for call in ("read", "readline", "readlines"):
            with pytest.raises(io.UnsupportedOperation):
                await getattr(file, call)()
        with pytest.raises(io.UnsupportedOperation):
            aiter_of = file.__aiter__()
            pytest.fail(f"{aiter_of} is iterated")
    assert path.read_bytes() == b"first\nsecond\nthird"


async def test_the_wrong_kind_of_content_is_a_type_error(
    loop: asyncio.AbstractEventLoop, path: Path
) -> None:
    async with uringloop.open(path, "r+b") as file:
        with pytest.raises(TypeError):
            await file.write("text")
        with pytest.raises(TypeError):
            await file.read("5")
        with pytest.raises(TypeError):
            await file.readinto(b"readonly")
        with pytest.raises(TypeError):
            await file.seek(1.5)
        with pytest.raises(ValueError, match="whence"):
            await file.seek(0, 9)
        with pytest.raises(ValueError, match="read length"):
            await file.read(-2)
    async with uringloop.open(path, "r+") as file:
        with pytest.raises(TypeError):
            await file.write(b"bytes")
    assert path.read_bytes() == b"first\nsecond\nthird"


async def test_a_descriptor_that_was_given_is_used_from_where_it_is(
    loop: asyncio.AbstractEventLoop, path: Path
) -> None:
    with builtins.open(path, "rb") as given:
        given.seek(6)
        given.read(0)
        async with uringloop.open(given.fileno(), "rb", closefd=False) as file:
            assert file.name == given.fileno()
            assert await file.tell() == 6
            assert await file.read() == b"second\nthird"
        assert given.read() == b"second\nthird"


async def test_a_descriptor_that_was_given_is_closed_unless_told_otherwise(
    loop: asyncio.AbstractEventLoop, path: Path
) -> None:
    fd = os.open(path, os.O_RDONLY)
    async with uringloop.open(fd) as file:
        assert await file.read() == path.read_text()
    with pytest.raises(OSError) as closed:
        os.fstat(fd)
    assert closed.value.errno == errno.EBADF


async def test_an_opener_opens_and_its_descriptor_is_not_inherited(
    loop: asyncio.AbstractEventLoop, path: Path
) -> None:
    asked: list[Any] = []

    def opener(name: Any, flags: int) -> int:
        asked.append((name, flags & os.O_ACCMODE))
        fd = os.open(name, flags)
        os.set_inheritable(fd, True)
        return fd

    async with uringloop.open(path, "r+b", opener=opener) as file:
        assert await file.read(5) == b"first"
        assert not os.get_inheritable(file.fileno())
    assert asked == [(str(path), os.O_RDWR)]


async def test_an_open_file_is_an_awaitable_and_a_context_of_its_own(
    loop: asyncio.AbstractEventLoop, path: Path
) -> None:
    file = await uringloop.open(path)
    async with file as same:
        assert same is file
        assert [line async for line in file] == ["first\n", "second\n", "third"]
    assert file.closed


async def test_a_file_is_closed_when_its_block_fails(
    loop: asyncio.AbstractEventLoop, path: Path
) -> None:
    with pytest.raises(ZeroDivisionError):
        async with uringloop.open(path, "w") as file:
            await file.write("written before")
            raise ZeroDivisionError
    assert file.closed
    assert path.read_text() == "written before"


@pytest.mark.parametrize("size", [0, 1, 4096, 131_071, 131_072, 131_073, 3 * MIB + 7])
async def test_a_file_of_any_size_is_read_whole(
    loop: asyncio.AbstractEventLoop, tmp_path: Path, size: int
) -> None:
    path = tmp_path / "sized"
    data = random.Random(size).randbytes(size)
    async with uringloop.open(path, "wb") as file:
        assert await file.write(data) == size
    assert path.read_bytes() == data
    async with uringloop.open(path, "rb") as file:
        assert await file.read() == data
        assert await file.read(None) == b""
        assert await file.seek(0) == 0
        pieces = [piece async for piece in pieces_of(file, 100_000)]
        assert b"".join(pieces) == data
        assert all(len(piece) == 100_000 for piece in pieces[:-1])


async def pieces_of(file: Any, size: int) -> Any:
    while piece := await file.read(size):
        yield piece


async def test_more_may_be_asked_for_than_there_is_memory_for(
    loop: asyncio.AbstractEventLoop, path: Path
) -> None:
    async with uringloop.open(path, "rb") as file:
        assert await file.read(1 << 60) == path.read_bytes()
        assert await file.read1(1 << 60) == b""
    async with uringloop.open(path) as text:
        assert await text.read(1 << 60) == path.read_text()


async def test_a_file_that_grows_while_it_is_open_is_read_to_its_new_end(
    loop: asyncio.AbstractEventLoop, path: Path
) -> None:
    async with uringloop.open(path, "rb") as file:
        for added in (b"a", b"b" * 100_000, b"c" * 300_000):
            with builtins.open(path, "ab") as other:
                other.write(added)
            assert (await file.read()).endswith(added)
        await file.seek(0)
        assert await file.read() == path.read_bytes()


async def test_tasks_that_share_a_file_do_not_mix(
    loop: asyncio.AbstractEventLoop, tmp_path: Path
) -> None:
    """Lines are written and read whole, whoever is at it."""
    path = tmp_path / "shared"
    lines = [b"%d " % number * 3000 + b"\n" for number in range(40)]
    async with uringloop.open(path, "w+b") as file:
        await asyncio.gather(*(file.write(line) for line in lines))
        await file.seek(0)
        read = await asyncio.gather(*(file.readline() for _ in lines))
        assert await file.read() == b""
    assert sorted(read) == sorted(lines)


async def test_text_is_written_by_lines_where_that_is_asked_for(
    loop: asyncio.AbstractEventLoop, path: Path
) -> None:
    async with uringloop.open(path, "w", buffering=1) as file:
        assert file.line_buffering
        await file.write("no end")
        assert path.read_text() == ""
        await file.write(" of line\nand more")
        assert path.read_text() == "no end of line\nand more"


async def test_the_buffer_of_text_is_the_same_file(
    loop: asyncio.AbstractEventLoop, path: Path
) -> None:
    async with uringloop.open(path, "w") as file:
        await file.write("é")
        await file.buffer.write(b"\xff")
        assert file.buffer.mode == "wb"
    assert path.read_bytes() == "é".encode() + b"\xff"


async def test_the_newlines_that_were_met_are_told(
    loop: asyncio.AbstractEventLoop, path: Path
) -> None:
    path.write_bytes(b"a\r\nb\nc\r")
    async with uringloop.open(path, encoding="ascii") as file:
        assert file.newlines is None
        assert await file.read() == "a\nb\nc\n"
        assert file.newlines == ("\r", "\n", "\r\n")


async def test_lines_of_a_large_file_do_not_pile_up(
    loop: asyncio.AbstractEventLoop, tmp_path: Path
) -> None:
    """What was handed over is forgotten: the memory in use does not grow with the file."""
    path = tmp_path / "large"
    path.write_bytes(b"a line of no great interest\n" * 300_000)
    tracemalloc.start()
    try:
        async with uringloop.open(path) as file:
            count = 0
            async for _ in file:
                count += 1
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 300_000
    assert peak_bytes < 2 * MIB


async def test_a_forgotten_file_is_warned_of_written_and_closed(
    loop: asyncio.AbstractEventLoop, path: Path
) -> None:
    file = await uringloop.open(path, "wb")
    fd = file.fileno()
    await file.write(b"not flushed")
    with pytest.warns(ResourceWarning, match=f"unclosed file '{path}'"):
        del file
    with pytest.raises(OSError):
        os.fstat(fd)
    assert path.read_bytes() == b"not flushed"


def test_a_file_needs_a_running_loop(tmp_path: Path) -> None:
    coroutine = uringloop.open(tmp_path / "file", "w").__aenter__()
    with pytest.raises(RuntimeError, match="no running event loop"):
        coroutine.send(None)
    assert not (tmp_path / "file").exists()
