"""Files sent over TCP by loop.sendfile() as scenarios, one after the other on a connection.

What counts is CPU time for a MiB: it shows how many turns and system calls a loop needs for
a file, beside the kernel's own work, which is the same for all.
"""

from __future__ import annotations

import os
import random
import tempfile
import weakref
from dataclasses import replace
from functools import cached_property

from bench.children import Child, Cores, python_command
from bench.errors import MissingError
from bench.loops import is_python
from bench.scenario import Sample, Scenario
from bench.tables import size

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
# What a client may need beyond its times: comparing a file of 1 GiB, and the last one.
SLACK_S = 60.0


class FileOnDisk:
    """A file of random bytes without a name, which children open by `path`.

    Gone with the process, however it ends. Written at once, so that it is in the page cache.
    """

    def __init__(self, size_bytes: int) -> None:
        try:
            with tempfile.TemporaryFile() as file:
                write_random(file.fileno(), size_bytes)
                fd = os.dup(file.fileno())
        except OSError as error:
            raise MissingError(f"no room for a file of {size(size_bytes)}: {error}") from error
        self.path = f"/proc/{os.getpid()}/fd/{fd}"
        weakref.finalize(self, os.close, fd)


def write_random(fd: int, size_bytes: int) -> None:
    """No MiB is as another: a piece sent from the wrong place shows."""
    block = random.Random(size_bytes).randbytes(MIB)
    written = 0
    while written < size_bytes:
        turn = written // MIB * 257 % MIB
        piece = block[turn:] + block[:turn]
        written += os.write(fd, piece[: size_bytes - written])


class Fetch:
    """A file's bytes, again and again, from a server that a scenario starts."""

    def __init__(self, size_bytes: int, warmup_s: float, seconds: float) -> None:
        self._size_bytes = size_bytes
        self._warmup_s = warmup_s
        self._seconds = seconds

    @cached_property
    def _path(self) -> str:
        """Written for the first round, and kept for the others."""
        self._file = FileOnDisk(self._size_bytes)
        return self._file.path

    def _fetch_from(self, command: list[str], cores: Cores) -> Sample:
        """Starts the server and fetches from it; an operation is a file."""
        with Child(command, cores.measured) as server:
            answer = server.read_answer()
            if "missing" in answer:
                raise MissingError(answer["missing"])
            return self._fetch(answer["address"], server.pid, cores)

    def _fetch(self, address: list[str], server_pid: int, cores: Cores) -> Sample:
        plan = (self._path, str(self._warmup_s), str(self._seconds), str(server_pid))
        command = python_command("bench.scenarios.sendfile_client", *address[1:], *plan)
        with Child(command, cores.load) as client:
            answer = client.read_answer(self._warmup_s + self._seconds + SLACK_S)
        return Sample(
            operations=answer["files"],
            seconds=answer["seconds"],
            measured_cpu_s=answer["measured_cpu_s"],
            p50_us=answer["p50_us"],
            p99_us=answer["p99_us"],
            p99_9_us=answer["p99_9_us"],
        )

    def cpu_us_per_mib(self, sample: Sample) -> float:
        return sample.cpu_us_per_operation * MIB / self._size_bytes


class SendFile(Fetch):
    """One size of file."""

    operation = "file"

    @property
    def title(self) -> str:
        return f"sendfile, TCP, {size(self._size_bytes)}"

    def runs_on(self, loop: str) -> bool:
        return is_python(loop)

    def run_round(self, loop: str, cores: Cores) -> Sample:
        command = python_command("bench.scenarios.sendfile_server", loop, self._path)
        sample = self._fetch_from(command, cores)
        return replace(sample, extra={"CPU µs per MiB": self.cpu_us_per_mib(sample)})


def scenarios(extent: str) -> list[Scenario]:
    """64 KiB, and in full 1 MiB, and 1 GiB, which takes its time with any window."""
    if extent == "quick":
        return [SendFile(64 * KIB, 0.03, 0.1)]
    small = [SendFile(size_bytes, 0.1, 0.4) for size_bytes in (64 * KIB, MIB)]
    return [*small, SendFile(GIB, 0.0, 0.4)]
