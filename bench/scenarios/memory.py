"""What a process occupies, as the kernel counts it.

Pss is its share: a page that n processes map counts 1/n, so that a library which others
use as well is not charged to one of them. The memory of io_uring's rings is mapped, and in
it. What the kernel keeps for a process without mapping it (sockets, epoll's entries,
io_uring's requests) is counted for the whole machine only, as slab.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from bench.errors import BenchError

RING = "anon_inode:[io_uring]"


@dataclass(frozen=True)
class Memory:
    """In KiB.

    pss      the process's share of all that is mapped
    rings    of that, io_uring's rings
    locked   what mlock() or a registered buffer keeps from being swapped
    slab     small objects of the kernel, of the whole machine
    """

    pss: int
    rings: int
    locked: int
    slab: int


def memory_of(pid: int) -> Memory:
    process = Path("/proc") / str(pid)
    try:
        return Memory(
            pss=field_kib(process / "smaps_rollup", "Pss"),
            rings=mapped_kib((process / "smaps").read_text(), RING),
            locked=sum(field_kib(process / "status", name) for name in ("VmLck", "VmPin")),
            slab=field_kib(Path("/proc/meminfo"), "Slab"),
        )
    except (FileNotFoundError, ProcessLookupError) as error:
        raise BenchError(f"the measured process {pid} has ended") from error


def field_kib(file: Path, name: str) -> int:
    """The figure of a line such as "Pss:   21286 kB"."""
    found = re.search(rf"^{name}:\s+(\d+) kB$", file.read_text(), re.MULTILINE)
    if found is None:
        raise BenchError(f"{file} has no line {name}: this kernel does not count it")
    return int(found[1])


def mapped_kib(smaps: str, name: str) -> int:
    """The Pss of all mappings of that name in the text of /proc/PID/smaps."""
    total, is_named = 0, False
    for line in smaps.splitlines():
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            is_named = line.endswith(name)
        elif is_named and line.startswith("Pss:"):
            total += int(line.split()[1])
    return total
