"""wrk seen from Python: an HTTP load of many connections, and what it found.

wrk counts answers and looks at no body. So before it begins, requests of our own compare
status and body and take the answer's length; afterwards the bytes that wrk read must be
those of the answers it counted, and of at most one begun answer a connection.
"""

from __future__ import annotations

import json
import shutil
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from bench.children import Answer, Child
from bench.errors import BenchError, MissingError
from bench.load import Address
from bench.scenario import Sample
from bench.scenarios.clocks import Stopwatch

SCRIPT = Path(__file__).with_name("wrk.lua")
# What wrk may need beyond its seconds: connecting, and its own time-out of 2 s.
SLACK_S = 15.0
REQUEST_LIMIT_S = 10.0
WARMUP_LIMIT_S = 0.5


@dataclass(frozen=True)
class HttpPlan:
    """The load on one server, the same for each loop. wrk knows whole seconds only."""

    body: bytes  # that each answer must have
    connections: int = 50
    warmup_requests: int = 200  # or fewer, where they take longer than WARMUP_LIMIT_S
    duration_s: int = 1


def run_wrk(address: Address, plan: HttpPlan, measured_pid: int, core: int | None) -> Sample:
    """Put wrk on a server and wait for its end.

    The CPU time is that of wrk's whole life: opening and closing its connections is in it,
    and the requests that are under way at its end.

    raises      MissingError: wrk is not installed; BenchError: an answer was lost, or wrong.
    """
    command = _command(address, plan)
    answer_bytes = warm_up(address, plan)
    stopwatch = Stopwatch(measured_pid)
    with Child(command, core) as child:
        found = _read_result(child, plan.duration_s + SLACK_S)
    _, cpu_s = stopwatch.read_s()
    _check(found, answer_bytes, plan.connections)
    return Sample(
        operations=found["requests"],
        seconds=found["duration_us"] / 1e6,
        measured_cpu_s=cpu_s,
        p50_us=found["p50_us"],
        p99_us=found["p99_us"],
        p99_9_us=found["p99_9_us"],
    )


def _command(address: Address, plan: HttpPlan) -> list[str]:
    program = shutil.which("wrk")
    if program is None:
        raise MissingError("wrk was not found (Debian, Ubuntu: apt-get install wrk)")
    load = ["--threads", "1", "--connections", str(plan.connections)]
    end = ["--duration", f"{plan.duration_s}s", "--script", str(SCRIPT)]
    return [program, *load, *end, f"http://{address[1]}:{address[2]}/"]


def _read_result(child: Child, limit_s: float) -> Answer:
    """The line that wrk.lua writes, after those that wrk writes for people."""
    line = child.read_line(limit_s)
    while not line.startswith(b"{"):
        line = child.read_line(limit_s)
    return cast(Answer, json.loads(line))


def _check(found: Answer, answer_bytes: int, connections: int) -> None:
    failed = {kind: count for kind, count in found["errors"].items() if count}
    if failed:
        raise BenchError(f"wrk lost answers, or got wrong ones: {failed}")
    if found["requests"] == 0:
        raise BenchError("wrk got not one answer")
    surplus = found["bytes"] - found["requests"] * answer_bytes
    if not 0 <= surplus < connections * answer_bytes:
        raise BenchError(
            f"wrk read {found['bytes']} bytes in {found['requests']} answers, "
            f"which have {answer_bytes} bytes each"
        )


def warm_up(address: Address, plan: HttpPlan) -> int:
    """Compare some answers, one after the other on a connection. Returns the bytes of one."""
    host, port = address[1], int(address[2])
    try:
        with (
            socket.create_connection((host, port), REQUEST_LIMIT_S) as sock,
            sock.makefile("rb") as stream,
        ):
            lengths = set(_lengths(sock, stream, plan))
    except OSError as error:
        raise BenchError(f"the server did not answer: {error}") from error
    if len(lengths) != 1:
        raise BenchError(f"the same answer had different lengths: {sorted(lengths)}")
    return lengths.pop()


def _lengths(sock: socket.socket, stream: BinaryIO, plan: HttpPlan) -> Iterator[int]:
    deadline = time.monotonic() + WARMUP_LIMIT_S
    for _ in range(plan.warmup_requests):
        yield _request(sock, stream, plan.body)
        if time.monotonic() > deadline:
            return


def _request(sock: socket.socket, stream: BinaryIO, body: bytes) -> int:
    """One request, its answer compared. Returns the answer's bytes, headers included."""
    sock.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    head = stream.readline()
    while not head.endswith(b"\r\n\r\n") and (line := stream.readline()):
        head += line
    wanted = f"content-length: {len(body)}\r\n".encode()
    if head.split()[1:2] != [b"200"] or wanted not in head.lower():
        raise BenchError(f"the server answered {head!r} instead of 200 and {len(body)} bytes")
    found = stream.read(len(body))
    if found != body:
        raise BenchError(f"the server answered {found!r} instead of {body!r}")
    return len(head) + len(body)
