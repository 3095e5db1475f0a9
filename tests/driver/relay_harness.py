"""Traffic for tests of RELAY: at both ends, in conversations, until nothing moves."""

from __future__ import annotations

import contextlib
import hashlib
import random
import socket
import struct
import threading

from .engine_harness import LIMIT_S

MIB = 1 << 20
LINGER_RESET = struct.pack("ii", 1, 0)


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


def talk(engine, client, server, rounds=8):
    """A conversation: after some of it io_uring goes about it in another way."""
    for number in range(rounds):
        exchange(engine, client, server, bytes([number]) * (1 + 100 * number))
    return sum(1 + 100 * number for number in range(rounds))


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


@contextlib.contextmanager
def flooded(client, server, in_thread):
    """With threads that send into one end without pause, and take all at the other."""
    is_over = threading.Event()

    def flood():
        with contextlib.suppress(OSError):
            while not is_over.is_set():
                client.sendall(bytes(65_536))

    def drain():
        with contextlib.suppress(OSError):
            while server.recv(MIB):
                pass

    threads = [in_thread(flood), in_thread(drain)]
    try:
        yield
    finally:
        is_over.set()
        client.shutdown(socket.SHUT_RDWR)
        server.shutdown(socket.SHUT_RDWR)
    for thread in threads:
        thread.result(LIMIT_S)


def reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
    sock.close()


def talk_random(engine, client, server, generator):
    messages = [generator.randbytes(generator.randrange(1, 3000)) for _ in range(8)]
    for message in messages:
        exchange(engine, client, server, message)
    return sum(map(len, messages))
