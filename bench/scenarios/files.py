"""Files opened, read and closed as scenarios: uringloop.open on our loops, aiofiles on the others.

The measured process (files_reader.py) is its own load, and alone on its core: with io_uring the
kernel's threads are on it too. All files are in the page cache; of small ones it is the way to
the kernel and back that counts, of large ones the copying.
"""

from __future__ import annotations

import shutil
import tempfile
import weakref
from functools import cached_property
from pathlib import Path

from bench.children import Child, Cores, python_command
from bench.errors import MissingError
from bench.loops import is_python
from bench.scenario import Sample, Scenario
from bench.scenarios.sendfile import KIB, MIB, write_random
from bench.tables import size

# What a round may need beyond warm-up and measuring: the interpreter, and the last files.
SLACK_S = 20.0
FILES = 64  # different ones, so that no single inode is all that is measured


class ReadFiles:
    """Files of one size, read in pieces, so many at once.

    piece_bytes   what is read at a time; None: all at once
    """

    operation = "file"

    def __init__(
        self,
        size_bytes: int,
        piece_bytes: int | None,
        at_once: int,
        warmup_s: float,
        seconds: float,
    ) -> None:
        how = f"{at_once} at once" if piece_bytes is None else f"in pieces of {size(piece_bytes)}"
        self.title = f"files of {size(size_bytes)} opened, read and closed, {how}"
        self._size_bytes = size_bytes
        self._piece_bytes = piece_bytes or -1
        self._at_once = at_once
        self._warmup_s = warmup_s
        self._seconds = seconds

    @cached_property
    def _folder(self) -> str:
        """Written for the first round, kept for the others, and gone with this object."""
        folder = tempfile.mkdtemp()
        weakref.finalize(self, shutil.rmtree, folder)
        try:
            for number in range(FILES if self._size_bytes < MIB else 1):
                with Path(folder, str(number)).open("wb") as file:
                    write_random(file.fileno(), self._size_bytes)
        except OSError as error:
            raise MissingError(f"no room for {size(self._size_bytes)}: {error}") from error
        return folder

    def runs_on(self, loop: str) -> bool:
        return is_python(loop)

    def run_round(self, loop: str, cores: Cores) -> Sample:
        plan = (self._folder, self._piece_bytes, self._at_once, self._warmup_s, self._seconds)
        command = python_command("bench.scenarios.files_reader", loop, *map(str, plan))
        with Child(command, cores.measured) as child:
            answer = child.read_answer(self._warmup_s + self._seconds + SLACK_S)
        if "missing" in answer:
            raise MissingError(answer["missing"])
        return Sample(answer["operations"], answer["seconds"], answer["cpu_s"])


def scenarios(extent: str) -> list[Scenario]:
    """Small files one after the other; in full also many at once, and a large one in pieces."""
    if extent == "quick":
        return [ReadFiles(4 * KIB, None, 1, 0.03, 0.1)]
    small: list[Scenario] = [ReadFiles(4 * KIB, None, count, 0.1, 0.4) for count in (1, 16)]
    return [*small, ReadFiles(64 * MIB, MIB, 1, 0.1, 0.6)]
