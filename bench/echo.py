"""Echo servers under a load: the echo part of the matrix, and a command for any cells of it.

    python -m bench.echo --loops uringloop,uvloop,asyncio --modes protocol,streams
    python -m bench.echo --families tls --sizes 1024,102400 --connections 10 --json FILE

Server and load are processes of their own, on a core each where there are two. The
figure that counts is the server's CPU time per message: rate and latency on a loopback
also measure the load. The bytes are compared in every run unless --no-verify is given.

Exit status: 0 done, 1 nothing to measure or a loop failed, 130 interrupted.
"""

from __future__ import annotations

import argparse
import itertools
import json
import resource
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

if not __package__:  # run as a file: let `import bench` find the package around it
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from bench import loops, options, runner, tables
from bench.certificate import write_certificate
from bench.children import Child, Cores, choose_cores, python_command
from bench.errors import BenchError, MissingError
from bench.load import Address, LoadPlan, run_load
from bench.probe import native_command
from bench.scenario import Sample, Scenario
from bench.server import MODES, PIECE_BYTES, WITHOUT_TLS

DEFAULT_LOOPS = "uringloop,uringloop-epoll,uvloop,asyncio"
FAMILIES = ("tcp", "unix", "tls")
FAMILY_WORDS = {"tcp": "TCP", "unix": "Unix", "tls": "TLS", "udp": "UDP"}

# Has a family of its own, whatever --families says.
DATAGRAM = "datagram"
TWO_WRITES = "two-writes"
# The C servers send back what they have received, as it is.
NATIVE_MODES = ("protocol", "buffered", "streams", "sock")
NATIVE_FAMILIES = ("tcp", "unix")
# Of a process beside its connections: standard streams, modules, rings.
DESCRIPTORS_BESIDE = 100
CRASH_LIMIT_S = 1.0


@dataclass(frozen=True)
class EchoScenario:
    """One cell: what is served, and under which load."""

    mode: str
    family: str
    size_bytes: int = 1024
    connections: int = 10
    pipeline: int = 1
    seconds: float = 0.4
    warmup_s: float = 0.1
    verify: bool = True
    is_on_one_core: bool = False
    operation: str = "message"

    @property
    def title(self) -> str:
        connections = "1 connection" if self.connections == 1 else f"{self.connections} connections"
        pipeline = f", pipeline {self.pipeline}" if self.pipeline > 1 else ""
        place = ", one core" if self.is_on_one_core else ""
        served = FAMILY_WORDS[self.family]
        if self.family != "udp":
            served = f"{self.mode}, {served}"
        size = tables.size(self.size_bytes)
        return f"echo {served}, {size}, {connections}{pipeline}{place}"

    @property
    def plan(self) -> LoadPlan:
        return LoadPlan(
            connections=self.connections,
            size_bytes=self.size_bytes,
            pipeline=self.pipeline,
            warmup_s=self.warmup_s,
            duration_s=self.seconds,
            verify=self.verify,
            is_tls=self.family == "tls",
        )

    def runs_on(self, loop: str) -> bool:
        if loop in loops.NATIVE_SERVERS:
            return self.mode in NATIVE_MODES and self.family in NATIVE_FAMILIES
        return loops.is_python(loop)

    def run_round(self, loop: str, cores: Cores) -> Sample:
        """A fresh server, the load on it, and the server's end."""
        _need_descriptors(self.connections + DESCRIPTORS_BESIDE)
        if self.is_on_one_core:
            cores = cores.shared()
        with tempfile.TemporaryDirectory(prefix="echo-") as directory:
            address = self._address_in(Path(directory))
            with Child(server_command(loop, self.mode, address), cores.measured) as server:
                answer = server.read_answer()
                try:
                    return run_load(answer["address"], self.plan, server.pid, cores.load)
                except MissingError:
                    raise
                except BenchError as error:
                    raise BenchError(_with_words_of(server, str(error))) from error

    def _address_in(self, directory: Path) -> Address:
        """Where the server shall listen; its certificate is made anew."""
        if self.family == "unix":
            return ["unix", str(directory / "echo.sock")]
        address = [self.family, "127.0.0.1", "0"]
        if self.family == "tls":
            certificate = directory / "certificate.pem"
            write_certificate(certificate)
            address.append(str(certificate))
        return address


def server_command(name: str, mode: str, address: Sequence[str]) -> list[str]:
    if name in loops.NATIVE_SERVERS:
        return native_command(name, address)
    return python_command("bench.server", name, mode, *address)


def _with_words_of(server: Child, reason: str) -> str:
    """The load may have noticed a crash before the server has said why."""
    server.ends_within(CRASH_LIMIT_S)
    words = server.last_words()
    return f"{reason}; the server: {words}" if words else reason


def _need_descriptors(count: int) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most != resource.RLIM_INFINITY and most < count:
        raise MissingError(f"{count} descriptors are needed, and the limit (ulimit -Hn) is {most}")


# ---- the matrix --------------------------------------------------------------------

KIB = 1024

# Mode, family, size, and each number of connections.
QUICK = (
    ("protocol", "tcp", KIB, (10,)),
    ("streams", "tcp", KIB, (10,)),
    ("sock", "tcp", KIB, (10,)),
    ("protocol", "tls", KIB, (10,)),
)
FULL = (
    ("protocol", "tcp", 64, (10,)),
    ("protocol", "tcp", KIB, (1, 10, 100, 1000)),
    ("protocol", "tcp", 10 * KIB, (10,)),
    ("protocol", "tcp", 100 * KIB, (10, 100)),
    ("buffered", "tcp", KIB, (10,)),
    ("buffered", "tcp", 100 * KIB, (10,)),
    ("streams", "tcp", KIB, (1, 10, 100)),
    ("streams", "tcp", 100 * KIB, (10,)),
    ("sock", "tcp", KIB, (1, 10, 100)),
    ("sock", "tcp", 100 * KIB, (10,)),
    ("protocol", "unix", KIB, (10,)),
    ("protocol", "unix", 100 * KIB, (10,)),
    ("streams", "unix", KIB, (10,)),
    ("sock", "unix", KIB, (10,)),
    ("protocol", "tls", KIB, (1, 10, 100)),
    ("protocol", "tls", 100 * KIB, (10,)),
    ("streams", "tls", KIB, (10,)),
    (DATAGRAM, "udp", KIB, (1, 10)),
    (TWO_WRITES, "tcp", PIECE_BYTES, (10,)),
)
# With a core each, a server that is faster than its load sleeps between messages and pays for
# it; these show the cost of the message alone.
ON_ONE_CORE = (
    ("protocol", "tcp", KIB, (1, 10, 100)),
    ("protocol", "tcp", 100 * KIB, (10,)),
    ("streams", "tcp", KIB, (10,)),
    ("sock", "tcp", KIB, (10,)),
    ("protocol", "tls", KIB, (10,)),
)
PIPELINED = EchoScenario(TWO_WRITES, "tcp", PIECE_BYTES, pipeline=10)


def scenarios(extent: str) -> list[Scenario]:
    """The echo cells of the matrix, "quick" or "full"."""
    if extent == "quick":
        return [*cells(QUICK)]
    shared = (replace(cell, is_on_one_core=True) for cell in cells(ON_ONE_CORE))
    return [*cells(FULL), PIPELINED, *shared]


def cells(lines: Iterable[tuple[str, str, int, tuple[int, ...]]]) -> Iterator[EchoScenario]:
    for mode, family, size_bytes, numbers in lines:
        for connections in numbers:
            yield EchoScenario(mode, family, size_bytes, connections)


# ---- the command -------------------------------------------------------------------


def scenarios_asked_for(chosen: argparse.Namespace) -> list[Scenario]:
    common = EchoScenario(
        "",
        "",
        pipeline=chosen.pipeline,
        seconds=chosen.seconds,
        warmup_s=chosen.warmup,
        verify=chosen.verify,
    )
    return [
        replace(common, mode=mode, family=family, size_bytes=size_bytes, connections=connections)
        for mode in chosen.modes
        for family, size_bytes, connections in itertools.product(
            families_of(mode, chosen.families), chosen.sizes, chosen.connections
        )
    ]


def families_of(mode: str, families: Sequence[str]) -> Sequence[str]:
    if mode == DATAGRAM:
        return ("udp",)
    return [family for family in families if family != "tls" or mode not in WITHOUT_TLS]


def parser() -> argparse.ArgumentParser:
    parser = options.parser_of("bench.echo", __doc__)
    add = parser.add_argument
    names = options.names
    add("--loops", type=names, default=names(DEFAULT_LOOPS), help=f"default {DEFAULT_LOOPS}")
    modes, families = options.names_among(list(MODES)), options.names_among(FAMILIES)
    add("--modes", type=modes, default=["protocol"], help=", ".join(MODES))
    add("--families", type=families, default=["tcp"], help=", ".join(FAMILIES))
    add("--sizes", type=options.numbers, default=[1024], help="message sizes in bytes")
    add("--connections", type=options.numbers, default=[10], help="numbers of connections")
    add("--pipeline", type=options.positive, default=1, help="messages under way on a connection")
    add("--rounds", type=options.positive, default=5)
    add("--seconds", type=options.positive_seconds, default=1.0, help="measured in each round")
    add("--warmup", type=options.positive_seconds, default=0.3, help="seconds before measuring")
    add("--baseline", default="uvloop", help="the loop that ratios refer to")
    add("--no-verify", dest="verify", action="store_false", help="do not compare the bytes")
    add("--json", type=Path, metavar="FILE", help="write the full report there")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    chosen = parser().parse_args(arguments)
    settings = runner.Settings(chosen.rounds, chosen.baseline, choose_cores())
    try:
        report = runner.run(
            chosen.loops, scenarios_asked_for(chosen), settings, options.print_progress
        )
    except BenchError as error:
        options.print_progress(f"bench.echo: {error}")
        return 1
    except KeyboardInterrupt:
        return 130
    if chosen.json:
        chosen.json.write_text(json.dumps(report, indent=1) + "\n")
    print(tables.report_text(report))
    return 1 if runner.failures(report) else 0


if __name__ == "__main__":
    sys.exit(main())
