"""A memory cgroup for a child process, on either version of cgroups (cgroups(7)).

Of version 1 it is made below the group of this process. Version 2 allows no processes in a group
whose groups have limits, so there it is made beside, below the nearest group that allows it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class _Files:
    """The names of a version's files.

    limit, used   bytes
    kills         has a line "oom_kill COUNT"
    no_swap       a file, and what to write there so that nothing of the group is swapped out
    """

    limit: str
    used: str
    kills: str
    no_swap: tuple[str, str]


_FILES = {
    "cgroup": _Files(
        "memory.limit_in_bytes",
        "memory.usage_in_bytes",
        "memory.oom_control",
        ("memory.swappiness", "0"),
    ),
    "cgroup2": _Files("memory.max", "memory.current", "memory.events", ("memory.swap.max", "0")),
}


class MemoryCgroup:
    """One group.

    processes   the file into which a process writes its number to be of the group
    """

    def __init__(self, folder: Path, files: _Files) -> None:
        self.processes = folder / "cgroup.procs"
        self._folder = folder
        self._files = files
        name, nothing = files.no_swap
        if (folder / name).exists():  # version 2 has it where the kernel can swap
            (folder / name).write_text(nothing)

    def leave_bytes(self, count: int) -> None:
        """From now on the group may use so much more than it does."""
        used = int((self._folder / self._files.used).read_text())
        (self._folder / self._files.limit).write_text(str(used + count))

    def kills(self) -> int:
        """How many processes the kernel has killed for want of memory."""
        lines = (self._folder / self._files.kills).read_text().splitlines()
        return int(dict(line.split() for line in lines)["oom_kill"])


@contextlib.contextmanager
def memory_cgroup() -> Iterator[MemoryCgroup]:
    """A new group, for as long as it has processes.

    raises   OSError where this process may not make one
    """
    folder, files = _place()
    folder /= f"uringloop-test-{os.getpid()}"
    folder.mkdir()
    try:
        yield MemoryCgroup(folder, files)
    finally:
        folder.rmdir()


def _place() -> tuple[Path, _Files]:
    """Where to make a group."""
    for kind, root, mounted, options in _mounts():
        if kind == "cgroup" and "memory" in options.split(","):
            return _below(mounted, root, _own_path("memory")), _FILES[kind]
        if kind == "cgroup2":
            own = _below(mounted, root, _own_path(""))
            for folder in (own, *own.parents):
                control = folder / "cgroup.subtree_control"
                if control.exists() and "memory" in control.read_text().split():
                    return folder, _FILES[kind]
    raise FileNotFoundError("no cgroup of this machine limits memory")


def _mounts() -> Iterator[tuple[str, str, Path, str]]:
    """Each file system: its kind, which of its folders is mounted, where, and its own options."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        mount, _, rest = line.partition(" - ")
        root, mounted = mount.split()[3:5]
        kind, _, options = rest.split()
        yield kind, root, Path(mounted), options


def _own_path(controller: str) -> str:
    """Of this process; `controller` is "" for version 2."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            return path
    raise FileNotFoundError(f"this process is in no cgroup of {controller or 'version 2'}")


def _below(mounted: Path, root: str, path: str) -> Path:
    """Where the group `path` is, of a mount that shows `root` and what is below it."""
    relative = os.path.relpath(path, root)
    return mounted if relative.startswith("..") else mounted / relative
