"""The benchmark's C programs, built when they are first needed.

A program is kept in `bench/native/build` under a name that contains the hash of all that
goes into it (sources, headers, compiler, flags): changing any of them builds anew, and two
runs at once do not disturb each other, because a finished program is renamed into place.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.errors import MissingError

SOURCE_DIRECTORY = Path(__file__).parent / "native"
BUILD_DIRECTORY = SOURCE_DIRECTORY / "build"
COMPILE_LIMIT_S = 60
FLAGS = ("-std=gnu11", "-O2", "-Wall", "-Wextra")

LOAD_SOURCES = ("load.c", "window.c", "endpoint.c", "histogram.c")
LIBURING = ("uring",), "liburing-dev"


@dataclass(frozen=True)
class Program:
    """A C program: its sources, what it is linked with, and Debian's package of that."""

    name: str
    sources: tuple[str, ...]
    libraries: tuple[str, ...] = ()
    package: str = ""


PROGRAMS = {
    program.name: program
    for program in (
        Program("load", (*LOAD_SOURCES, "channel_plain.c"), ("m",)),
        Program("load_tls", (*LOAD_SOURCES, "channel_tls.c"), ("m", "ssl", "crypto"), "libssl-dev"),
        Program("churn", ("churn.c", "window.c", "endpoint.c", "histogram.c"), ("m",)),
        Program("sink", ("sink.c", "endpoint.c")),
        Program("echo_epoll", ("echo_epoll.c", "endpoint.c")),
        Program("echo_uring", ("echo_uring.c", "pool.c", "endpoint.c"), *LIBURING),
        Program("relay_epoll", ("relay_epoll.c", "blocks.c", "endpoint.c")),
        Program("relay_uring", ("relay_uring.c", "pool.c", "blocks.c", "endpoint.c"), *LIBURING),
    )
}


def built(name: str, build_directory: Path = BUILD_DIRECTORY, *extra_flags: str) -> Path:
    """The path of a program, compiled now if need be.

    raises      MissingError: no compiler, or the compiler's own words.
    """
    program = PROGRAMS[name]
    compiler = _compiler()
    flags = (*FLAGS, *extra_flags)
    path = build_directory / f"{name}-{_fingerprint(program, compiler, flags)}"
    if not path.exists():
        _compile(program, compiler, flags, path)
    return path


def _compiler() -> list[str]:
    command = shlex.split(os.environ.get("CC", "cc"))
    if shutil.which(command[0]) is None:
        raise MissingError(
            f"no C compiler: {command[0]} was not found (Debian, Ubuntu: apt-get install gcc)"
        )
    return command


def _fingerprint(program: Program, compiler: Sequence[str], flags: Sequence[str]) -> str:
    digest = hashlib.sha256(repr((program, list(compiler), list(flags))).encode())
    headers = sorted(path.name for path in SOURCE_DIRECTORY.glob("*.h"))
    for name in (*program.sources, *headers):
        digest.update((SOURCE_DIRECTORY / name).read_bytes())
    return digest.hexdigest()[:16]


def _compile(program: Program, compiler: Sequence[str], flags: Sequence[str], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.{os.getpid()}")
    output = ["-o", str(unfinished.absolute())]
    command = [*compiler, *flags, *output, *program.sources, *_library_flags(program)]
    result = _run(command)
    if result.returncode != 0:
        raise MissingError(f"{program.name} does not compile: {_reason(result.stderr, program)}")
    unfinished.replace(path)


def _reason(compiler_words: str, program: Program) -> str:
    """The compiler's first error, and what to install where a header was not found."""
    lines = compiler_words.strip().splitlines()
    first = next((line for line in lines if "error" in line), lines[-1])
    if "No such file" in first and program.package:
        return f"{first} (Debian, Ubuntu: apt-get install {program.package})"
    return first


def _library_flags(program: Program) -> list[str]:
    return [flag for library in program.libraries for flag in _flags_of(library)]


def _flags_of(library: str) -> list[str]:
    """What pkg-config says of lib<library>, or the plain flag where it knows nothing."""
    if shutil.which("pkg-config"):
        command = ["pkg-config", "--cflags", "--libs", f"lib{library}"]
        answer = _run(command)
        if answer.returncode == 0:
            return shlex.split(answer.stdout)
    return [f"-l{library}"]


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Where the sources are, so that no path of this machine gets into a report."""
    return subprocess.run(
        command,
        cwd=SOURCE_DIRECTORY,
        capture_output=True,
        text=True,
        timeout=COMPILE_LIMIT_S,
        check=False,
    )
