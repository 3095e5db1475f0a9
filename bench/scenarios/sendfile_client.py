"""A client that has files sent to it and throws them away, as a child process.

    python -m bench.scenarios.sendfile_client IPV4 PORT FILE WARMUP_S SECONDS MEASURED_PID

The first answer is compared with FILE byte by byte. Of the others the length counts: the
kernel discards their bytes without copying them (MSG_TRUNC), so that the client waits for
the server and not the other way round. Says how many came, and the server's CPU time.
"""

from __future__ import annotations

import math
import os
import socket
import struct
import sys
import time
from collections.abc import Sequence

from bench.children import die_with_parent, say
from bench.errors import BenchError
from bench.scenarios.clocks import Stopwatch

PIECE_BYTES = 1 << 20
STALL_LIMIT_S = 20


class Client:
    """A connection to a file server, and where the bytes go."""

    def __init__(self, host: str, port: int, size_bytes: int) -> None:
        self._sock = socket.create_connection((host, port))
        limit = struct.pack("ll", STALL_LIMIT_S, 0)
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        self._size_bytes = size_bytes
        self._buffer = bytearray(PIECE_BYTES)

    def compare(self, path: str) -> None:
        """Fetch the file and compare its bytes with those in `path`."""
        self._sock.sendall(b"?")
        with open(path, "rb") as file:
            for offset in range(0, self._size_bytes, PIECE_BYTES):
                expected = file.read(PIECE_BYTES)
                length = self._receive(len(expected), 0)
                if length != len(expected) or self._buffer[:length] != expected:
                    raise BenchError(f"other bytes than the file's, from {offset} on")

    def fetch(self) -> float:
        """Fetch the file without looking at it. Returns the seconds that took."""
        started = time.perf_counter()
        self._sock.sendall(b"?")
        left = self._size_bytes
        while left:
            length = self._receive(min(left, PIECE_BYTES), socket.MSG_TRUNC)
            if length == 0:
                raise BenchError(f"the server closed with {left} bytes of the file to come")
            left -= length
        return time.perf_counter() - started

    def finish(self) -> None:
        """Say the end; the server must not have sent more than the files."""
        self._sock.shutdown(socket.SHUT_WR)
        length = self._receive(PIECE_BYTES, 0)
        self._sock.close()
        if length:
            raise BenchError(f"{length} bytes came after the end of the file")

    def _receive(self, size_bytes: int, flags: int) -> int:
        """As many bytes as asked for, or fewer at the end of the stream."""
        try:
            return self._sock.recv_into(self._buffer, size_bytes, flags | socket.MSG_WAITALL)
        except BlockingIOError as error:
            raise BenchError(f"the server stood still for {STALL_LIMIT_S} s") from error


def fetch_for(client: Client, seconds: float) -> list[float]:
    """The seconds that each file took, until the time is over; one at the least."""
    deadline = time.perf_counter() + seconds
    latencies = [client.fetch()]
    while time.perf_counter() < deadline:
        latencies.append(client.fetch())
    return latencies


def percentile_us(latencies: Sequence[float], fraction: float) -> float | None:
    """The smallest value that `fraction` of all do not exceed; None for too few values."""
    if len(latencies) * (1 - fraction) < 0.5:
        return None
    return sorted(latencies)[math.ceil(fraction * len(latencies)) - 1] * 1e6


def main(arguments: list[str]) -> None:
    die_with_parent()
    host, port, path, warmup_s, seconds, measured_pid = arguments
    client = Client(host, int(port), os.stat(path).st_size)
    client.compare(path)
    if float(warmup_s):
        fetch_for(client, float(warmup_s))
    stopwatch = Stopwatch(int(measured_pid))
    latencies = fetch_for(client, float(seconds))
    elapsed_s, cpu_s = stopwatch.read_s()
    client.finish()
    percentiles = {"p50_us": 0.5, "p99_us": 0.99, "p99_9_us": 0.999}
    say(
        {
            "files": len(latencies),
            "seconds": elapsed_s,
            "measured_cpu_s": cpu_s,
            **{name: percentile_us(latencies, each) for name, each in percentiles.items()},
        }
    )


if __name__ == "__main__":
    main(sys.argv[1:])
