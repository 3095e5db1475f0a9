"""Prints which files a root must have so that this Python runs in it: one path a line.

    .venv/bin/python scripts/root_files.py 'uringloop[test]' uringloop tests | cpio -o -H newc

An argument is a file or a folder of the current one, or else a distribution, which brings all that
it needs. Added are the interpreter, its standard library and the shared libraries of all of
these. Paths are this machine's, links are named beside what they lead to, and a folder comes
before what is in it. It copies nothing. For kernels.sh.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Set
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement

# Of the standard library: large, and of no use to the tests of this project.
LEFT_OUT = {
    "dist-packages",
    "ensurepip",
    "idlelib",
    "lib2to3",
    "pydoc_data",
    "site-packages",
    "test",
    "tkinter",
    "turtledemo",
}
ELF = b"\x7fELF"


def main(arguments: list[str]) -> None:
    files = {*interpreter(), *below(Path(sysconfig.get_path("stdlib")), LEFT_OUT)}
    for argument in arguments:
        path = Path(argument).absolute()
        if path.is_dir():
            files.update(below(path))
        elif path.exists():
            files.add(path)
        else:
            files.update(distribution_files(Requirement(argument), set()))
    files.update(libraries(files))
    found = {each for file in files for each in way_to(file)}
    for path in sorted(found):
        print(path.relative_to("/"))


def interpreter() -> Iterator[Path]:
    """Of a virtual environment, too: its link, and the file that makes it one."""
    yield Path(sys.executable)
    if sys.prefix != sys.base_prefix:
        yield Path(sys.prefix, "pyvenv.cfg")


def below(folder: Path, left_out: Set[str] = frozenset()) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in left_out]
        for name in names:
            if not name.endswith(".a"):  # for who links, not for who runs
                yield Path(parent, name)


def distribution_files(wanted: Requirement, seen: set[str]) -> Iterator[Path]:
    """What is installed of it and of what it needs here, with the extras that are asked for."""
    if str(wanted) in seen:
        return
    seen.add(str(wanted))
    installed = distribution(wanted.name)
    for file in installed.files or []:
        path = Path(os.path.abspath(installed.locate_file(file)))
        if path.is_file():
            yield path
    for line in installed.requires or []:
        needed = Requirement(line)
        extras = ("", *wanted.extras)
        if not needed.marker or any(needed.marker.evaluate({"extra": each}) for each in extras):
            yield from distribution_files(needed, seen)


def libraries(files: set[Path]) -> set[Path]:
    """All that ldd names. What it does not find, Python misses by name when it is imported."""
    programs = [file for file in files if file.is_file() and is_program(file)]
    answer = subprocess.run(["ldd", *programs], capture_output=True, text=True, check=False)
    return {Path(path) for path in re.findall(r"(/\S+) \(0x", answer.stdout)}


def is_program(file: Path) -> bool:
    with file.open("rb") as opened:
        return opened.read(len(ELF)) == ELF


def way_to(path: Path) -> Iterator[Path]:
    """The folders and links on the way to `path`, and what it names."""
    reached = Path("/")
    for position, part in enumerate(path.parts[1:], 1):
        reached /= part
        yield reached
        if reached.is_symlink():
            target = Path(os.path.normpath(reached.parent / reached.readlink()))
            yield from way_to(target.joinpath(*path.parts[position + 1 :]))
            return


main(sys.argv[1:])
