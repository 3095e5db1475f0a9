"""Child processes of a benchmark: started, placed on a core, waited for, always ended.

A child runs in a session of its own, so that Ctrl-C reaches the benchmark alone, which
then ends its children in order; and it asks the kernel for SIGKILL at the parent's death,
so that even a killed benchmark leaves nothing behind. Children talk on stdout, one JSON
object a line. What they say on stderr is shown when they have ended, the end of it at least,
so that it does not run into the progress; its last line is the reason of a failure.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, cast

from bench.errors import BenchError

if TYPE_CHECKING:
    from typing_extensions import Self

ROOT = Path(__file__).resolve().parent.parent
PARENT_VARIABLE = "BENCH_PARENT_PID"
READY_LIMIT_S = 20.0
STOP_LIMIT_S = 5.0
READ_BYTES = 65536
SHOWN_BYTES_MAX = 4096
PR_SET_PDEATHSIG = 1  # <linux/prctl.h>

Answer = dict[str, Any]


@dataclass(frozen=True)
class Cores:
    """Where the measured process and its load run; None: wherever the kernel likes."""

    measured: int | None
    load: int | None

    def shared(self) -> Cores:
        """Both on the measured process's core."""
        return replace(self, load=self.measured)


def choose_cores() -> Cores:
    """The first two cores this process may use, or no choice where there is one only."""
    allowed = sorted(os.sched_getaffinity(0))
    return Cores(allowed[0], allowed[1]) if len(allowed) >= 2 else Cores(None, None)


def python_command(module: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", module, *arguments]


def die_with_parent() -> None:
    """In a child: be killed when the benchmark ends, however it ends."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL) < 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    parent = os.environ.get(PARENT_VARIABLE)
    if parent is not None and os.getppid() != int(parent):
        raise SystemExit("the benchmark ended before its child began")


def say(answer: Answer) -> None:
    """In a child: one line to the benchmark."""
    print(json.dumps(answer), flush=True)


class Child:
    """A running child; leaving the `with` block ends it."""

    def __init__(self, command: Sequence[str], core: int | None = None) -> None:
        self.name = _name_of(command)
        self._unread = b""
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115  # until the child has ended
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            start_new_session=True,
            env=_environment(),
        )
        if core is not None:
            os.sched_setaffinity(self._process.pid, {core})

    @property
    def pid(self) -> int:
        return self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End the child: SIGTERM, and SIGKILL if that is not heeded."""
        assert self._process.stdout is not None
        try:
            self._process.terminate()
            self._process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            print(f"{self.name} ignored SIGTERM and is killed", file=sys.stderr)
        finally:
            self._process.kill()
            self._process.wait()
            self._process.stdout.close()
            self._show_stderr()

    def ends_within(self, limit_s: float) -> bool:
        """Waits for the child to end by itself."""
        try:
            self._process.wait(limit_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def last_words(self) -> str:
        """The last line that the child has said on stderr so far, or nothing."""
        lines = self._said_on_stderr().split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "")

    def _said_on_stderr(self) -> str:
        length = os.fstat(self._stderr.fileno()).st_size
        start = max(length - SHOWN_BYTES_MAX, 0)
        return os.pread(self._stderr.fileno(), SHOWN_BYTES_MAX, start).decode(errors="replace")

    def _show_stderr(self) -> None:
        if self._stderr.closed:
            return
        sys.stderr.write(self._said_on_stderr())
        self._stderr.close()

    def read_answer(self, limit_s: float = READY_LIMIT_S) -> Answer:
        """The child's next line, read as JSON; BenchError if it is none, and as in read_line()."""
        line = self.read_line(limit_s)
        try:
            return cast(Answer, json.loads(line))
        except ValueError as error:
            raise BenchError(f"{self.name} said what is no answer: {line!r}") from error

    def read_line(self, limit_s: float = READY_LIMIT_S) -> bytes:
        """The child's next line. BenchError if it ends or says nothing within `limit_s`."""
        deadline = time.monotonic() + limit_s
        while b"\n" not in self._unread:
            self._unread += self._read_some(deadline - time.monotonic(), limit_s)
        line, _, self._unread = self._unread.partition(b"\n")
        return line

    def _read_some(self, left_s: float, limit_s: float) -> bytes:
        assert self._process.stdout is not None
        stdout_fd = self._process.stdout.fileno()
        if not select.select([stdout_fd], [], [], max(left_s, 0.0))[0]:
            raise BenchError(f"{self.name} did not answer within {limit_s:g} s")
        data = os.read(stdout_fd, READ_BYTES)
        if not data:
            status = self._exit_status()
            words = f": {self.last_words()}" if self.last_words() else ""
            raise BenchError(f"{self.name} ended without an answer, exit status {status}{words}")
        return data

    def _exit_status(self) -> int:
        """Of a child that has closed its stdout, and so is about to end."""
        if not self.ends_within(STOP_LIMIT_S):
            raise BenchError(f"{self.name} closed its output and did not end")
        return self._process.wait()


def _name_of(command: Sequence[str]) -> str:
    """The module, or the program without the hash that native.py puts behind its name."""
    return command[2] if command[1:2] == ["-m"] else Path(command[0]).name.partition("-")[0]


def _environment() -> dict[str, str]:
    path = os.environ.get("PYTHONPATH")
    return {
        **os.environ,
        PARENT_VARIABLE: str(os.getpid()),
        "PYTHONPATH": os.pathsep.join([str(ROOT), path] if path else [str(ROOT)]),
    }
