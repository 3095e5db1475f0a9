"""The scenarios about files: whole files are counted, a wrong one is noticed."""

from __future__ import annotations

import asyncio
import importlib.util
from pathlib import Path

import pytest

from bench.children import Cores
from bench.errors import BenchError, MissingError
from bench.loops import NATIVE_SERVERS
from bench.scenarios import files
from bench.scenarios.files import KIB, MIB, ReadFiles
from bench.scenarios.files_reader import Reader, opener_of

ANYWHERE = Cores(None, None)
HAS_AIOFILES = importlib.util.find_spec("aiofiles") is not None


@pytest.mark.parametrize(
    ("size_bytes", "piece_bytes", "at_once"),
    [(4 * KIB, None, 1), (10, None, 16), (3 * MIB, MIB, 1)],
)
def test_files_are_counted_and_timed(
    loop_name: str, size_bytes: int, piece_bytes: int | None, at_once: int
) -> None:
    scenario = ReadFiles(size_bytes, piece_bytes, at_once, warmup_s=0.0, seconds=0.02)
    if loop_name == "asyncio" and not HAS_AIOFILES:
        with pytest.raises(MissingError, match="asyncio: No module named 'aiofiles'"):
            scenario.run_round(loop_name, ANYWHERE)
        return
    sample = scenario.run_round(loop_name, ANYWHERE)
    assert sample.operations >= at_once
    assert sample.seconds > 0 and sample.measured_cpu_s > 0


def test_the_cells_are_named_by_what_they_read() -> None:
    full = files.scenarios("full")
    assert [each.title for each in full] == [
        "files of 4 KiB opened, read and closed, 1 at once",
        "files of 4 KiB opened, read and closed, 16 at once",
        "files of 64 MiB opened, read and closed, in pieces of 1 MiB",
    ]
    assert [each.title for each in files.scenarios("quick")] == [full[0].title]
    assert not any(full[0].runs_on(name) for name in NATIVE_SERVERS)


def test_our_loops_open_files_themselves() -> None:
    modules = {opener_of(name).__module__ for name in ("uringloop", "uringloop-epoll")}
    assert modules == {"uringloop.async_files.opening"}


def test_a_file_of_another_size_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "0").write_bytes(b"as long")
    (tmp_path / "1").write_bytes(b"shorter")
    reader = Reader("uringloop", str(tmp_path), -1, 2)
    (tmp_path / "1").write_bytes(b"short")
    with pytest.raises(BenchError, match="5 bytes instead of 7"):
        asyncio.run(reader.read_files())


def test_a_loop_that_is_not_installed_is_missing() -> None:
    with pytest.raises(MissingError, match="no_such_loop: No module named"):
        ReadFiles(10, None, 1, 0.0, 0.01).run_round("no_such_loop", ANYWHERE)
