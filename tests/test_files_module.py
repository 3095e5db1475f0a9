"""uringloop.files: each function against its namesake in os or pathlib."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pathlib
import re
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from loops import io_uring_refusal
from peers import in_thread

import uringloop
from uringloop import files


def named(value: Any) -> str:
    """Without addresses, which differ between processes."""
    return re.sub(r" at 0x\w+", "", str(value))


def outcome(error: OSError) -> Any:
    return type(error), error.errno, error.filename, error.filename2, str(error)


def tree(folder: Path) -> dict[str, Any]:
    """What is in a folder: kinds, permissions, numbers of links, contents."""
    found = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        what: Any = None
        if path.is_symlink():
            what = os.readlink(path)
        elif path.is_file():
            what = path.read_bytes()
        found[str(path.relative_to(folder))] = (
            stat.filemode(status.st_mode),
            status.st_nlink,
            what,
        )
    return found


def prepare(folder: Path) -> None:
    folder.mkdir()
    (folder / "file").write_bytes(b"content")
    (folder / "other").write_bytes(b"other content")
    (folder / "full").mkdir()
    (folder / "full" / "inner").write_bytes(b"")
    (folder / "empty").mkdir()
    (folder / "link").symlink_to("file")
    (folder / "dangling").symlink_to("nowhere")


@pytest.fixture
def new_ring() -> Iterator[Any]:
    """Makes loops on io_uring with the environment's features."""
    if refusal := io_uring_refusal():
        pytest.skip(refusal)
    with contextlib.ExitStack() as loops:
        yield lambda: loops.enter_context(
            contextlib.closing(uringloop.new_event_loop(backend="io_uring"))
        )


CALLS: list[tuple[Any, Any, tuple[Any, ...]]] = [
    (files.rename, os.rename, ("file", "new")),
    (files.rename, os.rename, ("file", "other")),
    (files.replace, os.replace, ("file", "other")),
    (files.rename, os.rename, ("missing", "new")),
    (files.rename, os.rename, ("file", "missing/new")),
    (files.rename, os.rename, ("file", "empty")),
    (files.rename, os.rename, (Path("empty"), b"full")),
    (files.unlink, os.unlink, ("file",)),
    (files.unlink, os.unlink, (Path("link"),)),
    (files.unlink, os.unlink, (b"missing",)),
    (files.unlink, os.unlink, (Path("missing"),)),
    (files.unlink, os.unlink, ("empty",)),
    (files.rmdir, os.rmdir, ("empty",)),
    (files.rmdir, os.rmdir, ("full",)),
    (files.rmdir, os.rmdir, ("file",)),
    (files.mkdir, os.mkdir, ("new",)),
    (files.mkdir, os.mkdir, ("new", 0o700)),
    (files.mkdir, os.mkdir, ("file",)),
    (files.mkdir, os.mkdir, ("missing/new",)),
    (files.link, lambda *paths: os.link(*paths, follow_symlinks=False), ("file", "new")),
    (files.link, lambda *paths: os.link(*paths, follow_symlinks=False), ("link", "new")),
    (files.link, os.link, ("missing", "new")),
    (files.link, os.link, ("file", "other")),
    (files.symlink, os.symlink, ("anything", "new")),
    (files.symlink, os.symlink, ("anything", "file")),
    (files.symlink, os.symlink, ("", "new")),
    (files.write_bytes, lambda path, data: Path(path).write_bytes(data), ("new", b"new")),
    (files.write_bytes, lambda path, data: Path(path).write_bytes(data), ("file", b"")),
    (files.write_bytes, lambda path, data: open(path, "wb").close(), ("empty", b"new")),
    (files.write_bytes, lambda path, data: open(path, "wb").close(), ("missing/new", b"")),
    (files.read_bytes, lambda path: open(path, "rb").read(), ("missing",)),
    (files.read_bytes, lambda path: open(path, "rb").read(), ("empty",)),
    (files.read_bytes, lambda path: Path(path).read_bytes(), ("link",)),
    (files.unlink, os.unlink, ("zero\0byte",)),
    (files.unlink, os.unlink, (None,)),
    (files.mkdir, os.mkdir, (5,)),
]


@pytest.mark.parametrize(("ours", "theirs", "arguments"), CALLS, ids=named)
async def test_a_call_does_what_its_namesake_does(
    loop: asyncio.AbstractEventLoop,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    ours: Any,
    theirs: Any,
    arguments: tuple[Any, ...],
) -> None:
    answers: list[Any] = []
    for folder, call in ((tmp_path / "a", ours), (tmp_path / "b", theirs)):
        prepare(folder)
        monkeypatch.chdir(folder)
        try:
            answer = call(*arguments)
            answers.append(await answer if asyncio.iscoroutine(answer) else answer)
        except OSError as error:
            answers.append(outcome(error))
        except (ValueError, TypeError) as error:
            answers.append(type(error))
    assert answers[0] == answers[1]
    assert tree(tmp_path / "a") == tree(tmp_path / "b")


@pytest.mark.parametrize("name", ["file", "link", "empty", "fifo", "/dev/zero", "/", "/proc/self"])
async def test_the_status_of_a_file_is_that_of_os_stat(
    loop: asyncio.AbstractEventLoop,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    prepare(tmp_path / "a")
    monkeypatch.chdir(tmp_path / "a")
    os.mkfifo("fifo")
    os.utime("file", ns=(1_111_111_111_222_333_444, -5_000_000_001))
    for ours, theirs in (
        (await files.stat(name), os.stat(name)),
        (await files.lstat(Path(name)), os.lstat(name)),
        (await files.stat(name, follow_symlinks=False), os.lstat(name)),
    ):
        assert isinstance(ours, os.stat_result)
        for field in (each for each in dir(theirs) if each.startswith("st_")):
            assert getattr(ours, field) == getattr(theirs, field), field
        assert tuple(ours) == tuple(theirs)


async def test_the_status_of_an_open_file(loop: asyncio.AbstractEventLoop, tmp_path: Path) -> None:
    async with uringloop.open(tmp_path / "file", "wb") as file:
        await file.write(b"12345")
        await file.flush()
        assert (await files.stat(file.fileno())).st_size == 5
    with pytest.raises(FileNotFoundError) as missing:
        await files.stat("missing")
    assert missing.value.filename == "missing"
    with pytest.raises(OSError):
        await files.stat(987654)


@pytest.mark.parametrize("size", [0, 1, 4096, 131_072, 200_000, 3_000_000])
async def test_what_is_written_is_read(
    loop: asyncio.AbstractEventLoop, tmp_path: Path, size: int
) -> None:
    data = os.urandom(size)
    for content in (data, bytearray(data), memoryview(data)):
        assert await files.write_bytes(tmp_path / "file", content) == size
        assert await files.read_bytes(str(tmp_path / "file")) == data


@pytest.mark.parametrize("newline", [None, "", "\r\n"])
async def test_text_is_that_of_pathlib(
    loop: asyncio.AbstractEventLoop, tmp_path: Path, newline: str | None
) -> None:
    text = "é\nあ\r\nz\r"
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    assert await files.write_text(ours, text, "utf-16", newline=newline) == len(text)
    with open(theirs, "w", encoding="utf-16", newline=newline) as file:
        file.write(text)
    assert ours.read_bytes() == theirs.read_bytes()
    with open(theirs, encoding="utf-16", newline=newline) as file:
        assert await files.read_text(ours, "utf-16", newline=newline) == file.read()
    with pytest.raises(UnicodeDecodeError):
        await files.read_text(ours, "ascii")
    with pytest.raises(TypeError):
        await files.write_text(ours, b"bytes")


async def test_a_fifo_is_read_whole(loop: asyncio.AbstractEventLoop, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    writing = in_thread((tmp_path / "fifo").write_bytes, b"through" * 50_000)
    assert await files.read_bytes(tmp_path / "fifo") == b"through" * 50_000
    assert await writing == 350_000


async def test_many_files_at_once(loop: asyncio.AbstractEventLoop, tmp_path: Path) -> None:
    paths = [tmp_path / str(number) for number in range(200)]
    await asyncio.gather(*(files.write_bytes(path, path.name.encode()) for path in paths))
    contents = await asyncio.gather(*(files.read_bytes(path) for path in paths))
    assert contents == [path.name.encode() for path in paths]


async def test_what_is_audited_is_audited_here_too(
    loop: asyncio.AbstractEventLoop, tmp_path: Path
) -> None:
    """sys.addaudithook() sees the same events as of the calls in os."""
    seen: list[str] = []
    is_watching = True

    def watch(event: str, arguments: Any) -> None:
        if is_watching and any(str(tmp_path) in str(argument) for argument in arguments):
            seen.append(event)

    sys.addaudithook(watch)
    try:
        file, other = str(tmp_path / "file"), str(tmp_path / "other")
        await files.write_bytes(file, b"")
        await files.rename(file, other)
        await files.link(other, file)
        await files.unlink(other)
        await files.symlink(file, other)
        await files.mkdir(tmp_path / "folder")
        await files.rmdir(tmp_path / "folder")
    finally:
        is_watching = False
    expected = ["open", "os.rename", "os.link", "os.remove", "os.symlink", "os.mkdir", "os.rmdir"]
    assert seen == expected


def test_the_names_of_the_module_are_those_of_os_and_pathlib() -> None:
    assert all(hasattr(os, name) or hasattr(pathlib.Path, name) for name in files.__all__)
    assert sorted(files.__all__) == files.__all__


def test_a_whole_file_is_read_in_two_turns_of_the_loop(tmp_path: Path, new_ring: Any) -> None:
    """One opens, one reads; nobody is woken between, and the close goes out with the next."""
    path = tmp_path / "file"
    path.write_bytes(b"x" * 4096)
    loop = new_ring()

    async def turns_of_a_read() -> int:
        before = loop.driver_state().counters["turns"]
        assert await files.read_bytes(path) == b"x" * 4096
        return int(loop.driver_state().counters["turns"] - before)

    assert loop.run_until_complete(turns_of_a_read()) == 2
    assert loop._default_executor is None


@pytest.mark.parametrize(
    ("feature", "in_ring", "in_threads"),
    [
        ("none", "open read truncate mkdir link symlink unlink", ""),
        ("file_truncate", "open read mkdir link symlink unlink", "truncate"),
        ("file_names", "open read truncate unlink", "mkdir link symlink"),
        ("files", "", "open read truncate mkdir link symlink unlink"),
    ],
)
def test_what_the_kernel_lacks_is_done_in_threads(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    new_ring: Any,
    feature: str,
    in_ring: str,
    in_threads: str,
) -> None:
    (tmp_path / "file").write_bytes(b"content")
    monkeypatch.chdir(tmp_path)
    if feature != "none":
        monkeypatch.setenv("URINGLOOP_DISABLE", feature)

    async def truncate() -> None:
        async with uringloop.open("file", "r+b") as file:
            threads.clear()
            await file.truncate(3)
            did.extend(threads)

    calls = {
        "open": lambda: files.write_bytes("new", b"new"),
        "read": lambda: files.read_bytes("new"),
        "truncate": truncate,
        "mkdir": lambda: files.mkdir("folder"),
        "link": lambda: files.link("file", "second"),
        "symlink": lambda: files.symlink("file", "third"),
        "unlink": lambda: files.unlink("second"),
    }
    threads: list[str] = []
    did: list[str] = []
    used: dict[str, bool] = {}
    for name, call in calls.items():
        loop = new_ring()
        threads, did = [], []
        run_in_executor = loop.run_in_executor

        def watched(*arguments: Any, run: Any = run_in_executor, told: Any = threads) -> Any:
            told.append("a thread")
            return run(*arguments)

        monkeypatch.setattr(loop, "run_in_executor", watched)
        loop.run_until_complete(call())
        used[name] = bool(did if name == "truncate" else threads)
        loop.run_until_complete(loop.shutdown_default_executor())
    assert [name for name in used if not used[name]] == in_ring.split()
    assert [name for name in used if used[name]] == in_threads.split()
    assert (tmp_path / "file").read_bytes() == b"con"
