"""What transport.set_zero_copy() costs or saves: large writes one way, with it and without.

Each round measures both, one after the other, in fresh processes; the figures of the table are
those with it, and the extras compare. Load and server are on one machine: there the kernel makes
the copy all the same, only later, when the loopback interface hands the bytes to the other socket
(skb_orphan_frags_rx), and pins the memory and posts a notice besides. So this shows what is lost
where nothing can be gained. What a network card gains, only one can show.
"""

from __future__ import annotations

from dataclasses import replace

from bench.children import Cores, python_command
from bench.scenario import Sample, Scenario
from bench.scenarios.sendfile import KIB, MIB, Fetch
from bench.tables import size

LOOPS = ("uringloop", "uringloop-auto")  # no other has set_zero_copy(), or it has no effect
BYTES_AT_ONCE = 4 * MIB  # that the client asks for


class Uncopied(Fetch):
    """One size of writes."""

    operation = "MiB"

    def __init__(self, write_bytes: int, warmup_s: float, seconds: float) -> None:
        super().__init__(BYTES_AT_ONCE, warmup_s, seconds)
        self._write_bytes = write_bytes

    @property
    def title(self) -> str:
        return f"set_zero_copy, TCP, one way, writes of {size(self._write_bytes)}"

    def runs_on(self, loop: str) -> bool:
        return loop in LOOPS

    def run_round(self, loop: str, cores: Cores) -> Sample:
        copied = self._measured(loop, "copied", cores)
        uncopied = self._measured(loop, "uncopied", cores)
        before, after = self.cpu_us_per_mib(copied), self.cpu_us_per_mib(uncopied)
        return replace(
            uncopied,
            operations=uncopied.operations * BYTES_AT_ONCE // MIB,
            extra={"CPU µs/MiB copied": before, "ratio to copied": after / before},
        )

    def _measured(self, loop: str, way: str, cores: Cores) -> Sample:
        arguments = (loop, self._path, str(self._write_bytes), way)
        return self._fetch_from(
            python_command("bench.scenarios.uncopied_server", *arguments), cores
        )


def scenarios(extent: str) -> list[Scenario]:
    """Only in full: it tells of one call, not of a loop."""
    if extent == "quick":
        return []
    return [Uncopied(write_bytes, 0.1, 0.4) for write_bytes in (64 * KIB, 256 * KIB, MIB)]
