"""Whole files and names of files, for coroutines: uringloop.files.

    data = await uringloop.files.read_bytes(path)
    await uringloop.files.rename(path, other)

Each function does what the one of its name in os or pathlib does, with the same results and
errors, `filename` in them included. On uringloop's io_uring engine they are requests of the
loop's ring (Linux 5.11; link, mkdir and symlink 5.15); on any other event loop, and for what
the kernel has no request, calls in the loop's default executor.

A call that is cancelled may have taken place all the same; it leaves no descriptor open.
"""

from __future__ import annotations

import asyncio
import io
import os
from typing import Any

from uringloop.async_files.opening import check_path
from uringloop.async_files.opening import open as open_file
from uringloop.async_files.requests import calls_of
from uringloop.async_files.threads import ThreadCalls

Path = str | bytes | os.PathLike[Any]

__all__ = [
    "link",
    "lstat",
    "mkdir",
    "read_bytes",
    "read_text",
    "rename",
    "replace",
    "rmdir",
    "stat",
    "symlink",
    "unlink",
    "write_bytes",
    "write_text",
]


async def read_bytes(path: Path) -> bytes:
    """All bytes of a file. Of a regular file by io_uring: two turns of the loop."""
    name = _checked_path(path)
    answer = await _calls().read_file(name)
    if answer is None:
        async with open_file(name, "rb") as file:
            data: bytes = await file.read()
        return data
    if isinstance(answer, int):
        raise _error(answer, name)
    return answer


async def write_bytes(path: Path, data: Any) -> int:
    """Makes a file of a bytes-like object, or writes over one; answers how many bytes."""
    name = _checked_path(path)
    with memoryview(data) as view:
        content = data if type(data) is bytes else view.tobytes()
    answer = await _calls().write_file(name, content)
    if answer is None:
        async with open_file(name, "wb", buffering=0) as file:
            answer = await file.write(content)
    if answer < 0:
        raise _error(answer, name)
    return answer


async def read_text(
    path: Path, encoding: str | None = None, errors: str | None = None, newline: str | None = None
) -> str:
    """All text of a file; the arguments are those of the builtin open."""
    encoding = io.text_encoding(encoding)
    memory = io.BytesIO()
    text = io.TextIOWrapper(memory, encoding, errors, newline)
    memory.write(await read_bytes(path))
    memory.seek(0)
    return text.read()


async def write_text(
    path: Path,
    text: str,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
) -> int:
    """Makes a file of a text, or writes over one; answers how many characters."""
    if not isinstance(text, str):
        raise TypeError(f"data must be str, not {type(text).__name__}")
    memory = io.BytesIO()
    wrapper = io.TextIOWrapper(memory, io.text_encoding(encoding), errors, newline)
    wrapper.write(text)
    wrapper.flush()
    await write_bytes(path, memory.getvalue())
    return len(text)


async def stat(path: Path | int, *, follow_symlinks: bool = True) -> os.stat_result:
    """The status of a file, by its path or descriptor."""
    name = path if isinstance(path, int) else _checked_path(path)
    answer = await _calls().stat(name, follow_symlinks)
    if isinstance(answer, int):
        raise _error(answer, name)
    return answer


async def lstat(path: Path) -> os.stat_result:
    """The status of a file, of a symbolic link itself."""
    return await stat(path, follow_symlinks=False)


async def rename(source: Path, target: Path) -> None:
    """Gives a file another name; one that has it is replaced."""
    names = _checked_path(source), _checked_path(target)
    _check_two(await _calls().rename(*names), names)


async def replace(source: Path, target: Path) -> None:
    """rename(); the two differ on other systems only."""
    await rename(source, target)


async def link(source: Path, target: Path) -> None:
    """Gives a file a second name. As link(2), of a symbolic link itself."""
    names = _checked_path(source), _checked_path(target)
    _check_two(await _calls().link(*names), names)


async def symlink(source: Path, target: Path) -> None:
    """Makes `target` a symbolic link that says `source`."""
    names = _checked_path(source), _checked_path(target)
    _check_two(await _calls().symlink(*names), names)


async def unlink(path: Path) -> None:
    """Removes a name of a file."""
    name = _checked_path(path)
    _check_one(await _calls().unlink(name), name)


async def mkdir(path: Path, mode: int = 0o777) -> None:
    """Makes a directory."""
    name = _checked_path(path)
    _check_one(await _calls().mkdir(name, mode), name)


async def rmdir(path: Path) -> None:
    """Removes an empty directory."""
    name = _checked_path(path)
    _check_one(await _calls().rmdir(name), name)


def _calls() -> ThreadCalls:
    return calls_of(asyncio.get_running_loop())


def _checked_path(path: Path) -> Any:
    name = os.fspath(path)
    check_path(name)
    return name


def _error(answer: int, name: Any) -> OSError:
    return OSError(-answer, os.strerror(-answer), name)


def _check_one(answer: int, name: Any) -> None:
    if answer < 0:
        raise _error(answer, name)


def _check_two(answer: int, names: tuple[Any, Any]) -> None:
    if answer < 0:
        raise OSError(-answer, os.strerror(-answer), names[0], None, names[1])
