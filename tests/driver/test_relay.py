"""RELAY: one direction between two sockets, inside the engine, to its end."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import random
import socket
import struct
import threading

import pytest
from uringloop.driver._engine import lib

from .conftest import operation_kinds
from .engine_harness import LIMIT_S, read_digest, read_rest

pytestmark = operation_kinds(
    "buffer_ring", "multishot_recv", "quiet_sends", reason="how pieces are received and sent"
)

MIB = 1 << 20
LINGER_RESET = struct.pack("ii", 1, 0)


@pytest.fixture
def ends(new_pair):
    """(client, a, b, server): a relay goes between a and b."""
    a, client = new_pair()
    b, server = new_pair()
    return client, a, b, server


@pytest.fixture
def tcp_ends(new_listener, new_client, resources):
    """The same over TCP."""

    def connected():
        listener = new_listener()
        peer = new_client(listener)
        ours = resources.enter_context(listener.accept()[0])
        ours.setblocking(False)
        return ours, peer

    a, client = connected()
    b, server = connected()
    return client, a, b, server


@pytest.fixture(params=["unix", "tcp"])
def any_ends(request):
    return request.getfixturevalue("ends" if request.param == "unix" else "tcp_ends")


def narrow(*sockets: socket.socket) -> None:
    """As narrow as TCP takes without waiting for its timers."""
    for sock in sockets:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)


def pour(sock: socket.socket, seed: int, total_bytes: int) -> str:
    """Sends pieces of all sizes, then the end; answers the digest."""
    generator = random.Random(seed)
    digest = hashlib.sha256()
    while total_bytes:
        size = min(total_bytes, generator.choice([1, 100, 1024, 5000, 65_536, 300_000]))
        piece = generator.randbytes(size)
        digest.update(piece)
        sock.sendall(piece)
        total_bytes -= size
    sock.shutdown(socket.SHUT_WR)
    return digest.hexdigest()


def read_in_pieces(sock: socket.socket, seed: int) -> tuple[str, int]:
    """Reads to the end, in pieces of all sizes; the digest and the count."""
    generator = random.Random(seed)
    digest = hashlib.sha256()
    total_bytes = 0
    while piece := sock.recv(generator.choice([10, 1000, 40_000, 200_000])):
        digest.update(piece)
        total_bytes += len(piece)
    return digest.hexdigest(), total_bytes


def exchange(engine, client, server, message):
    """Sends from one end and reads at the other, while the engine turns."""
    client.sendall(message)
    server.setblocking(False)
    data = bytearray()

    def arrived():
        with contextlib.suppress(BlockingIOError):
            data.extend(server.recv(MIB))
        return len(data) >= len(message)

    engine.run_until(arrived, look_every_s=0.001)
    server.settimeout(LIMIT_S)
    assert data == message


def test_bytes_and_the_end_are_carried(sized_engine, any_ends):
    client, a, b, server = any_ends
    relaying = sized_engine.relay(a.fileno(), b.fileno())
    exchange(sized_engine, client, server, b"hello")
    client.shutdown(socket.SHUT_WR)
    sized_engine.finish(relaying)
    assert relaying.result == 5
    assert server.recv(10) == b""
    assert relaying.state.bytes == 5
    assert relaying.state.bytes_held == relaying.state.failed == 0
    assert sized_engine.shared.counters.bytes_relayed == 5


def test_an_end_without_bytes_is_carried(sized_engine, any_ends):
    client, a, b, server = any_ends
    relaying = sized_engine.relay(a.fileno(), b.fileno())
    client.shutdown(socket.SHUT_WR)
    sized_engine.finish(relaying)
    assert relaying.result == 0
    assert server.recv(10) == b""


@pytest.mark.parametrize("is_narrow", [False, True], ids=["wide", "narrow"])
@pytest.mark.parametrize("seed", range(3))
def test_both_directions_keep_order_and_lose_nothing(
    sized_engine, any_ends, in_thread, seed, is_narrow
):
    client, a, b, server = any_ends
    if is_narrow:
        narrow(client, a, b, server)
    total_bytes = 300_000 if is_narrow else 5_000_000
    sent = [in_thread(pour, sock, seed + i, total_bytes) for i, sock in enumerate((client, server))]
    read = [in_thread(read_in_pieces, sock, seed) for sock in (server, client)]
    there = sized_engine.relay(a.fileno(), b.fileno())
    back = sized_engine.relay(b.fileno(), a.fileno())
    sized_engine.finish(there, back)
    assert there.result == back.result == total_bytes
    for sending, reading in zip(sent, read, strict=True):
        assert reading.result(LIMIT_S) == (sending.result(LIMIT_S), total_bytes)


@pytest.mark.parametrize("limit", [1, 1000, 70_000])
def test_any_limit_will_do(sized_engine, ends, in_thread, limit):
    client, a, b, server = ends
    total_bytes = 2000 * min(limit, 500)
    read = in_thread(read_in_pieces, server, 1)
    sent = in_thread(pour, client, 1, total_bytes)
    relaying = sized_engine.relay(a.fileno(), b.fileno(), limit)
    sized_engine.finish(relaying)
    assert read.result(LIMIT_S) == (sent.result(LIMIT_S), total_bytes)


def test_a_socket_may_be_relayed_to_itself(sized_engine, any_ends):
    """An echo without Python."""
    client, a, _, _ = any_ends
    relaying = sized_engine.relay(a.fileno(), a.fileno())
    for size in (1, 1000, 60_000):
        exchange(sized_engine, client, client, os.urandom(size))
    client.shutdown(socket.SHUT_WR)
    sized_engine.finish(relaying)
    assert relaying.result == 61_001


def fill(engine, relaying, client):
    """Sends until nothing moves any more; how many bytes were taken."""
    client.setblocking(False)
    taken = quiet_turns = 0
    while quiet_turns < 10:
        before = taken, relaying.state.bytes, relaying.state.bytes_held
        with contextlib.suppress(BlockingIOError):
            while True:
                taken += client.send(bytes(65_536))
        engine.turn(0.002)
        after = taken, relaying.state.bytes, relaying.state.bytes_held
        quiet_turns = quiet_turns + 1 if before == after else 0
    client.settimeout(LIMIT_S)
    return taken


@pytest.mark.parametrize("limit", [1000, 100_000, 300_000])
def test_a_reader_that_sleeps_makes_it_hold_the_limit_and_no_more(engine, any_ends, limit):
    client, a, b, server = any_ends
    narrow(client, a, b, server)
    relaying = engine.relay(a.fileno(), b.fileno(), limit)
    taken = fill(engine, relaying, client)
    assert 0 < relaying.state.bytes_held <= limit
    assert 0 < relaying.state.buffers_held <= 8
    assert engine.shared.relay_buffers_held == relaying.state.buffers_held
    client.shutdown(socket.SHUT_WR)
    server.setblocking(False)
    read = 0

    def all_read():
        nonlocal read
        with contextlib.suppress(BlockingIOError):
            while piece := server.recv(MIB):
                read += len(piece)
        return relaying.is_done and read == taken

    engine.run_until(all_read, look_every_s=0.001)
    assert relaying.result == taken


def test_an_idle_relay_holds_no_buffer(engine, any_ends):
    client, a, b, server = any_ends
    relaying = engine.relay(a.fileno(), b.fileno())
    for size in (1, 1000, 100_000, *[10] * 10):
        exchange(engine, client, server, bytes(size))
        engine.turn(0.01)
        assert relaying.state.bytes_held == relaying.state.buffers_held == 0
        assert engine.shared.relay_buffers_held == 0


def test_what_moves_is_no_event_and_does_not_end_the_wait(engine, any_ends, in_thread):
    """A thread talks through the relay while one turn waits for a wake."""
    client, a, b, server = any_ends
    engine.relay(a.fileno(), b.fileno())
    engine.relay(b.fileno(), a.fileno())
    engine.turn()
    turns = engine.shared.counters.turns

    def talk():
        for size in (1, 10, 1000, 100_000):
            client.sendall(bytes(size))
            read_digest(server, size)
            server.sendall(bytes(size))
            read_digest(client, size)
        engine.wake_from_any_thread()

    talking = in_thread(talk)
    assert engine.turn(LIMIT_S) == []
    assert engine.shared.counters.turns == turns + 1
    talking.result(LIMIT_S)


def test_a_turn_that_only_looks_is_not_kept_by_a_busy_relay(engine, ends, in_thread):
    client, a, b, server = ends
    is_over = threading.Event()

    def flood():
        with contextlib.suppress(OSError):
            while not is_over.is_set():
                client.sendall(bytes(65_536))

    def drain():
        with contextlib.suppress(OSError):
            while server.recv(MIB):
                pass

    engine.relay(a.fileno(), b.fileno())
    threads = [in_thread(flood), in_thread(drain)]
    for _ in range(50):
        assert engine.turn(0) == []
    for _ in range(20):
        assert engine.turn(0.001) == []
    engine.wake_from_any_thread()
    assert engine.turn(None) == []
    is_over.set()
    client.shutdown(socket.SHUT_RDWR)
    server.shutdown(socket.SHUT_RDWR)
    for thread in threads:
        thread.result(LIMIT_S)


def test_others_have_their_events_beside_a_busy_relay(sized_engine, ends, new_pair, in_thread):
    engine = sized_engine
    client, a, b, server = ends
    is_over = threading.Event()

    def flood():
        with contextlib.suppress(OSError):
            while not is_over.is_set():
                client.sendall(bytes(65_536))

    def drain():
        with contextlib.suppress(OSError):
            while server.recv(MIB):
                pass

    engine.relay(a.fileno(), b.fileno())
    threads = [in_thread(flood), in_thread(drain)]
    ours, peer = new_pair()
    receiving = engine.receive(ours.fileno())
    for count in range(30):
        before = len(receiving.events)
        peer.sendall(b"ping")
        turns = 0
        while len(receiving.events) == before:
            engine.turn(LIMIT_S)
            turns += 1
            assert turns < 50, count
    is_over.set()
    client.shutdown(socket.SHUT_RDWR)
    server.shutdown(socket.SHUT_RDWR)
    for thread in threads:
        thread.result(LIMIT_S)


def reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
    sock.close()


@pytest.mark.parametrize("size", [0, 1, 1000, 100_000])
def test_a_source_that_is_reset_fails_the_receive(sized_engine, tcp_ends, size):
    client, a, b, server = tcp_ends
    relaying = sized_engine.relay(a.fileno(), b.fileno())
    if size:
        exchange(sized_engine, client, server, bytes(size))
    else:
        sized_engine.turn()
    reset(client)
    sized_engine.finish(relaying)
    assert relaying.result == -errno.ECONNRESET
    assert relaying.state.failed == lib.UL_RELAY_RECEIVE
    assert relaying.final.address == relaying.state.bytes == size


@pytest.mark.parametrize("has_begun", [False, True], ids=["before", "while sending"])
def test_a_destination_that_is_gone_fails_the_send(sized_engine, any_ends, has_begun):
    client, a, b, server = any_ends
    narrow(client, a, b, server)
    relaying = sized_engine.relay(a.fileno(), b.fileno())
    if has_begun:
        fill(sized_engine, relaying, client)
    reset(server)
    client.setblocking(False)

    def is_over():
        with contextlib.suppress(OSError):
            client.send(bytes(1000))
        return relaying.is_done

    sized_engine.run_until(is_over, look_every_s=0.001)
    assert relaying.result in (-errno.EPIPE, -errno.ECONNRESET)
    assert relaying.state.failed == lib.UL_RELAY_SEND
    assert relaying.state.bytes_held == relaying.state.buffers_held == 0


def test_a_cancel_ends_it_while_it_waits(sized_engine, any_ends):
    _, a, b, _ = any_ends
    relaying = sized_engine.relay(a.fileno(), b.fileno())
    sized_engine.turn()
    sized_engine.cancel(relaying)
    sized_engine.finish(relaying)
    assert relaying.result == -errno.ECANCELED
    assert relaying.state.failed == 0


def test_a_cancel_in_the_turn_of_the_command_reaches_it(sized_engine, any_ends):
    """Row 9."""
    _, a, b, _ = any_ends
    relaying = sized_engine.relay(a.fileno(), b.fileno())
    sized_engine.cancel(relaying)
    sized_engine.finish(relaying)
    assert relaying.result == -errno.ECANCELED


@pytest.mark.parametrize("limit", [1000, 300_000])
def test_a_cancel_ends_it_while_the_destination_is_full(sized_engine, any_ends, limit):
    client, a, b, server = any_ends
    narrow(client, a, b, server)
    relaying = sized_engine.relay(a.fileno(), b.fileno(), limit)
    fill(sized_engine, relaying, client)
    sized_engine.cancel(relaying)
    sized_engine.finish(relaying)
    assert relaying.result == -errno.ECANCELED
    assert relaying.state.bytes_held == sized_engine.shared.relay_buffers_held == 0
    b.shutdown(socket.SHUT_WR)
    assert len(read_rest(server)) == relaying.state.bytes == relaying.final.address


@pytest.mark.parametrize("seed", range(20))
def test_a_cancel_at_any_moment_counts_what_was_sent(sized_engine, ends, in_thread, seed):
    """Row 8: after so many turns, in the middle of traffic in both directions."""
    client, a, b, server = ends
    generator = random.Random(seed)
    total_bytes = generator.choice([1000, 100_000, 3_000_000])

    def pour_some(sock):
        with contextlib.suppress(OSError):
            pour(sock, seed, total_bytes)

    pouring = [in_thread(pour_some, sock) for sock in (client, server)]
    reading = [in_thread(read_rest, sock) for sock in (server, client)]
    relays = [
        sized_engine.relay(a.fileno(), b.fileno(), generator.choice([500, 100_000])),
        sized_engine.relay(b.fileno(), a.fileno(), generator.choice([500, 100_000])),
    ]
    for _ in range(generator.randrange(40)):
        sized_engine.turn(0.0005)
    for relaying in relays:
        sized_engine.cancel(relaying)
    sized_engine.finish(*relays)
    a.shutdown(socket.SHUT_RDWR)
    b.shutdown(socket.SHUT_RDWR)
    for relaying, read in zip(relays, reading, strict=True):
        assert relaying.result in (-errno.ECANCELED, total_bytes)
        assert len(read.result(LIMIT_S)) == relaying.final.address or relaying.result >= 0
    for thread in pouring:
        thread.result(LIMIT_S)


def test_an_engine_may_be_closed_with_relays_in_every_state(open_engine, new_pair):
    """Waiting, full, with something that just came, just begun."""
    engine = open_engine()
    quads = [(*new_pair(), *new_pair()) for _ in range(4)]
    relays = [engine.relay(a.fileno(), b.fileno()) for a, _, b, _ in quads]
    fill(engine, relays[0], quads[0][1])
    quads[1][1].sendall(b"late")
    a, _, b, _ = quads[3]
    engine.relay(b.fileno(), a.fileno())
    engine.close()


def test_slow_destinations_do_not_use_up_the_buffers_of_the_others(engine, new_pair):
    """Two hundred directions whose readers sleep, and one whose reader does not."""
    quads = [(*new_pair(), *new_pair()) for _ in range(200)]
    slow = [engine.relay(a.fileno(), b.fileno()) for a, _, b, _ in quads]
    for _, client, _, _ in quads:
        client.setblocking(False)
    while not all(relaying.state.bytes_held for relaying in slow):
        for _, client, _, _ in quads:
            with contextlib.suppress(BlockingIOError):
                client.send(bytes(65_536))
        engine.turn()
    (a, client), (b, server) = new_pair(), new_pair()
    engine.relay(a.fileno(), b.fileno())
    for size in (1, 1000, 100_000):
        exchange(engine, client, server, os.urandom(size))


def test_many_relays_have_data_at_once(sized_engine, new_pair):
    """More than the kernel is offered buffers for: each is served, and all buffers come home."""
    engine = sized_engine
    quads = [(*new_pair(), *new_pair()) for _ in range(150)]
    relays = [engine.relay(a.fileno(), b.fileno()) for a, _, b, _ in quads]
    engine.turn()
    for _ in range(8):
        for _, client, _, _ in quads:
            client.sendall(b"m" * 500)
        want = relays[0].state.bytes + 500
        engine.run_until(
            lambda want=want: all(each.state.bytes == want for each in relays), look_every_s=0.01
        )
        for _, _, _, server in quads:
            assert len(server.recv(1000)) == 500
    engine.turn(0.01)
    assert engine.shared.relay_buffers_held == 0


@pytest.mark.parametrize("field", ["length", "address"])
def test_without_a_limit_or_a_state_it_is_refused(engine, pair, field):
    fields = {"length": 100, "address": 8, "argument": pair[0].fileno(), field: 0}
    refused = engine.stage(lib.UL_OP_RELAY, pair[0].fileno(), **fields)
    engine.finish(refused)
    assert refused.result == -errno.EINVAL


def test_a_descriptor_that_is_none_fails(sized_engine, ends):
    client, a, b, _ = ends
    no_source = sized_engine.relay(1_000_000, b.fileno())
    sized_engine.finish(no_source)
    assert no_source.result == -errno.EBADF
    no_destination = sized_engine.relay(a.fileno(), 1_000_000)
    sized_engine.turn()
    client.sendall(b"x")
    sized_engine.finish(no_destination)
    assert no_destination.result == -errno.EBADF
