"""The relays in C: every byte, both ends of file, back-pressure, and what breaks."""

from __future__ import annotations

import hashlib
import random
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bench import native, probe
from bench.children import Child
from bench.errors import MissingError
from bench.load import ChurnPlan, LoadPlan, run_churn, run_load
from bench.scenarios import relay

LIMIT_S = 30.0
LOOK_AGAIN_S = 0.01
MIB = 1024 * 1024
BULK_BYTES = 24 * MIB
SHORT_PLAN = LoadPlan(connections=5, warmup_s=0.02, duration_s=0.1, verify=True)


@pytest.fixture(params=list(relay.NATIVE_RELAYS))
def name(request: pytest.FixtureRequest) -> str:
    """A relay in C; skipped, with the reason, where it does not run."""
    try:
        probe.probe(request.param)
    except MissingError as error:
        pytest.skip(str(error))
    return str(request.param)


@contextmanager
def pair_through(name: str) -> Iterator[tuple[socket.socket, socket.socket, Child]]:
    """A client and what its upstream accepted, with a relay between them."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(LIMIT_S)
        upstream = ["tcp", "127.0.0.1", str(listener.getsockname()[1])]
        with relay.proxy(name, upstream, None) as (address, child):
            client = socket.create_connection((address[1], int(address[2])), LIMIT_S)
            with client, listener.accept()[0] as server:
                server.settimeout(LIMIT_S)
                yield client, server, child


def read_to_end(sock: socket.socket) -> bytes:
    return b"".join(iter(lambda: sock.recv(MIB), b""))


def send_and_shut(sock: socket.socket, data: bytes) -> None:
    sock.sendall(data)
    sock.shutdown(socket.SHUT_WR)


def started(send: socket.socket, data: bytes) -> threading.Thread:
    thread = threading.Thread(target=send_and_shut, args=(send, data))
    thread.start()
    return thread


def closes_all_but(count: int, child: Child) -> bool:
    """Whether it comes down to so many open files: it may still be closing some."""
    deadline = time.monotonic() + LIMIT_S
    while open_files(child) > count:
        if time.monotonic() > deadline or child.ends_within(LOOK_AGAIN_S):
            return False
    return True


def open_files(child: Child) -> int:
    return len(list(Path(f"/proc/{child.pid}/fd").iterdir()))


@pytest.mark.parametrize(
    ("connections", "size_bytes", "pipeline"),
    [(1, 1, 1), (50, 1024, 1), (7, 100_001, 5), (3, 3_000_000, 2), (100, 20_000, 3)],
)
def test_a_relay_carries_every_byte(
    name: str, connections: int, size_bytes: int, pipeline: int
) -> None:
    plan = LoadPlan(connections, size_bytes, pipeline, 0.02, 0.2, verify=True)
    with (
        relay.native_server("echo_epoll", [], None) as upstream,
        relay.proxy(name, upstream, None) as (address, child),
    ):
        for _ in range(2):  # the second load finds what the first one left
            assert run_load(address, plan, child.pid, core=None).operations > 0


def test_a_relay_goes_between_unix_sockets_too(name: str, tmp_path: Path) -> None:
    program = str(native.built(relay.NATIVE_RELAYS[name]))
    upstream, listen = (["unix", str(tmp_path / each)] for each in ("upstream", "listen"))
    with Child([str(native.built("echo_epoll")), *upstream]) as server:
        server.read_answer()
        with Child([program, *listen, *upstream]) as child:
            assert run_load(child.read_answer()["address"], SHORT_PLAN, child.pid, None).operations


def test_each_end_of_file_is_carried_while_the_other_direction_goes_on(name: str) -> None:
    with pair_through(name) as (client, server, _):
        send_and_shut(client, b"question")
        assert read_to_end(server) == b"question"
        send_and_shut(server, b"answer to question")
        assert read_to_end(client) == b"answer to question"
    with pair_through(name) as (client, server, _):
        send_and_shut(server, b"greeting")
        assert read_to_end(client) == b"greeting"
        send_and_shut(client, b"late words")
        assert read_to_end(server) == b"late words"


def test_bulk_in_both_directions_at_once_arrives_unchanged(name: str) -> None:
    numbers = random.Random(7)
    to_server, to_client = numbers.randbytes(BULK_BYTES), numbers.randbytes(BULK_BYTES)
    found: dict[str, bytes] = {}
    with pair_through(name) as (client, server, _):
        threads = [started(client, to_server), started(server, to_client)]
        reader = threading.Thread(target=lambda: found.update(server=read_to_end(server)))
        reader.start()
        found["client"] = read_to_end(client)
        for thread in (*threads, reader):
            thread.join(LIMIT_S)
    for end, expected in (("client", to_client), ("server", to_server)):
        assert hashlib.sha256(found[end]).digest() == hashlib.sha256(expected).digest()


def test_a_peer_that_does_not_read_holds_up_nobody_and_loses_nothing(name: str) -> None:
    """The client sends until nothing moves; the others pass by; then the upstream reads on."""
    data = random.Random(8).randbytes(BULK_BYTES)
    with pair_through(name) as (client, server, child):
        client.setblocking(False)
        sent = fill(client, data)
        assert sent < len(data), "the relay took everything: no back-pressure"
        client.settimeout(LIMIT_S)
        rest = started(client, data[sent:])
        assert hashlib.sha256(read_to_end(server)).digest() == hashlib.sha256(data).digest()
        rest.join(LIMIT_S)
        assert child.last_words() == ""


def fill(sock: socket.socket, data: bytes) -> int:
    sent = 0
    try:
        while sent < len(data):
            sent += sock.send(memoryview(data)[sent : sent + 65536])
    except BlockingIOError:
        pass
    return sent


def test_slow_pairs_beside_a_load_keep_no_descriptors(name: str) -> None:
    """Peers that fill their connections and break them, while others are served."""
    with (
        relay.native_server("echo_epoll", [], None) as upstream,
        relay.proxy(name, upstream, None) as (address, child),
    ):
        before = open_files(child)
        for _ in range(20):
            with socket.create_connection((address[1], int(address[2]))) as sock:
                sock.setblocking(False)
                fill(sock, bytes(BULK_BYTES))
                assert run_load(address, SHORT_PLAN, child.pid, None).operations > 0
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        plan = ChurnPlan(at_once=10, size_bytes=1024, warmup_s=0.02, duration_s=0.1)
        assert run_churn(address, plan, child.pid, core=None).operations > 0
        assert closes_all_but(before, child)


def test_a_reset_of_either_side_is_a_reset_of_the_other(name: str) -> None:
    for breaks in (0, 1):
        with pair_through(name) as pair:
            sock, partner = pair[breaks], pair[1 - breaks]
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.close()
            with pytest.raises(ConnectionResetError):
                partner.recv(1)


def test_clients_without_upstream_are_reset(name: str) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound, not listening: connecting is refused
        upstream = ["tcp", "127.0.0.1", str(unused.getsockname()[1])]
        with relay.proxy(name, upstream, None) as (address, child):
            before = open_files(child)
            for _ in range(10):
                with pytest.raises(ConnectionResetError):
                    use_and_close((address[1], int(address[2])))
            assert closes_all_but(before, child)


def use_and_close(address: tuple[str, int]) -> None:
    with socket.create_connection(address, LIMIT_S) as sock:
        assert sock.recv(1) == b""
