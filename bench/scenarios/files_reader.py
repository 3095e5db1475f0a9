"""Opens, reads and closes files on one loop for a given time, as a child process.

    python -m bench.scenarios.files_reader LOOP FOLDER PIECE_BYTES AT_ONCE WARMUP_S SECONDS

Loops of uringloop do it by uringloop.open, all others by aiofiles. Says how many files were
read, in how many seconds and CPU seconds of its own (threads included). Each byte is counted,
and a file that is read short or long is an error.
"""

from __future__ import annotations

import asyncio
import importlib
import itertools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from bench import loops
from bench.children import die_with_parent, say
from bench.errors import BenchError, MissingError
from bench.scenarios.repeat import measured

ROUNDS = 4  # of all tasks, between two looks at the clock


def opener_of(loop_name: str) -> Callable[..., Any]:
    """What opens files on the loop of this name."""
    source = loops.PYTHON_LOOPS.get(loop_name)
    is_ours = source is not None and source.module == "uringloop"
    try:
        module = importlib.import_module("uringloop" if is_ours else "aiofiles")
        return cast(Callable[..., Any], module.open)
    except ImportError as error:
        raise MissingError(f"{loop_name}: {error}") from error


async def read_file(opens: Callable[..., Any], path: str, piece_bytes: int) -> int:
    """How many bytes there were."""
    count = 0
    async with opens(path, "rb") as file:
        if piece_bytes < 0:
            return len(await file.read())
        while piece := await file.read(piece_bytes):
            count += len(piece)
    return count


class Reader:
    """Tasks that read file after file, all of the same size."""

    def __init__(self, loop_name: str, folder: str, piece_bytes: int, at_once: int) -> None:
        self._opens = opener_of(loop_name)
        paths = [str(path) for path in sorted(Path(folder).iterdir())]
        self._size_bytes = os.stat(paths[0]).st_size
        self._paths = itertools.cycle(paths)
        self._piece_bytes = piece_bytes
        self._at_once = at_once

    async def read_files(self) -> int:
        """How many files were read."""
        await asyncio.gather(*(self._read_some() for _ in range(self._at_once)))
        return ROUNDS * self._at_once

    async def _read_some(self) -> None:
        for _ in range(ROUNDS):
            path = next(self._paths)
            count = await read_file(self._opens, path, self._piece_bytes)
            if count != self._size_bytes:
                raise BenchError(f"{path}: {count} bytes instead of {self._size_bytes}")


def main(arguments: list[str]) -> None:
    die_with_parent()
    name, folder, piece_bytes, at_once, warmup_s, seconds = arguments
    try:
        reader = Reader(name, folder, int(piece_bytes), int(at_once))
        loop = loops.new_event_loop(name)
    except MissingError as error:
        say({"missing": str(error)})
        return
    asyncio.set_event_loop(loop)
    try:
        say(
            measured(
                lambda: loop.run_until_complete(reader.read_files()),
                float(warmup_s),
                float(seconds),
            )
        )
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()


if __name__ == "__main__":
    main(sys.argv[1:])
