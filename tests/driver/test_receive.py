"""RECV: every byte once, in order, through pools of any size."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import select
import socket
import struct

import pytest
from uringloop.driver._engine import ffi

from .conftest import DISABLED, operation_kinds
from .engine_harness import TINY

pytestmark = operation_kinds(
    "buffer_ring", "incremental_buffers", "multishot_recv", reason="how a stream is received"
)

ONE_SHOT = ("io_uring-no-multishot_recv", "io_uring-no-buffer_ring", "io_uring-plain")
LINGER_RESET = struct.pack("ii", 1, 0)
MIB = 1 << 20


def feed(peer, total_bytes, seed):
    """Sends random pieces of random bytes, then end-of-file; answers their digest."""
    generator = random.Random(seed)
    block = generator.randbytes(MIB)
    digest = hashlib.sha256()
    left = total_bytes
    while left:
        size = min(left, generator.choice([1, 100, 4096, 65_537, MIB]))
        start = generator.randrange(MIB - size + 1)
        peer.sendall(block[start : start + size])
        digest.update(block[start : start + size])
        left -= size
    peer.shutdown(socket.SHUT_WR)
    return digest.hexdigest()


def digest_of(engine, receiving):
    """Turns until the end of file; keeps no more than one turn's pieces."""
    digest = hashlib.sha256()

    def consume():
        for event in receiving.events:
            digest.update(event.data)
        is_done = receiving.is_done
        receiving.events[:] = receiving.events[-1:] if is_done else []
        return is_done

    engine.run_until(consume, limit_s=30)
    assert receiving.result == 0
    return digest.hexdigest()


def test_pieces_come_in_order_and_then_the_end_of_file(sized_engine, pair):
    ours, peer = pair
    receiving = sized_engine.receive(ours.fileno())
    for piece in (b"one", b"two", b"three"):
        peer.sendall(piece)
        sized_engine.run_until(lambda piece=piece: receiving.data.endswith(piece))
    peer.close()
    sized_engine.finish(receiving)
    assert receiving.data == b"onetwothree"
    assert receiving.result == 0


def test_what_was_there_before_the_command_is_received(sized_engine, pair):
    ours, peer = pair
    peer.sendall(b"x" * 20_000)
    peer.shutdown(socket.SHUT_WR)
    receiving = sized_engine.receive(ours.fileno())
    sized_engine.finish(receiving)
    assert receiving.data == b"x" * 20_000
    assert receiving.result == 0


def test_a_reset_ends_a_receive_with_econnreset(engine, tcp_pair):
    ours, peer = tcp_pair
    receiving = engine.receive(ours.fileno())
    engine.turn()
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
    peer.close()
    engine.finish(receiving)
    assert receiving.result == -errno.ECONNRESET


def test_our_own_shutdown_ends_a_receive(engine, tcp_pair):
    ours, _ = tcp_pair
    receiving = engine.receive(ours.fileno())
    engine.turn()
    ours.shutdown(socket.SHUT_RD)
    engine.finish(receiving)
    assert receiving.result == 0


def test_a_blocking_socket_does_not_block_the_turn(engine, new_pair):
    """Row 14."""
    ours, peer = new_pair(blocking=True)
    receiving = engine.receive(ours.fileno())
    engine.turn()
    peer.sendall(b"hello")
    engine.run_until(lambda: receiving.data == b"hello")
    engine.turn()
    assert os.get_blocking(ours.fileno())


def test_64_mib_come_through_whole(sized_engine, tcp_pair, in_thread):
    """Row 16: two buffers of 4 KiB in the tiny size, which run out all the time."""
    ours, peer = tcp_pair
    total_bytes = 64 * MIB if sized_engine.capacity > TINY["event_capacity"] else 8 * MIB
    receiving = sized_engine.receive(ours.fileno())
    fed = in_thread(feed, peer, total_bytes, seed=16)
    received = digest_of(sized_engine, receiving)
    assert received == fed.result(10)
    assert sized_engine.shared.counters.bytes_received == total_bytes


def test_two_buffers_serve_a_hundred_senders(open_engine, new_pair):
    """Row 16: each fills its socket, so all are ready at once and the pool is always
    short; none may stall or lose a byte."""
    engine = open_engine(**TINY)
    pairs = [new_pair() for _ in range(100)]
    receives = [engine.receive(ours.fileno()) for ours, _ in pairs]
    sent = []
    for index, (_, peer) in enumerate(pairs):
        message = random.Random(index).randbytes(50_000 + index)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 18)
        peer.sendall(message)
        peer.shutdown(socket.SHUT_WR)
        sent.append(message)
    engine.finish(*receives)
    assert [receiving.data for receiving in receives] == sent
    assert {receiving.result for receiving in receives} == {0}


def test_receives_stopped_and_started_at_random_lose_nothing(sized_engine, tcp_pair, in_thread):
    """Row 18: pausing is a cancel. Bytes that the kernel handed over before the cancel won
    come before its final event; what it did not, the next receive gets."""
    ours, peer = tcp_pair
    engine = sized_engine
    choose = random.Random(18)
    fed = in_thread(feed, peer, 4 * MIB, seed=18)
    digest = hashlib.sha256()
    while True:
        receiving = engine.receive(ours.fileno())
        for _ in range(choose.randrange(4)):
            engine.turn(0.01)
        engine.cancel(receiving)
        engine.finish(receiving)
        digest.update(receiving.data)
        if receiving.result == 0:
            break
        assert receiving.result == -errno.ECANCELED
    assert digest.hexdigest() == fed.result(10)


def test_memory_of_a_piece_stays_as_it_is_until_the_next_turn(engine, pair):
    """Row 6: more arrives while the caller has not come back."""
    ours, peer = pair
    receiving = engine.receive(ours.fileno())
    peer.sendall(b"first" * 1000)
    engine.run_until(lambda: bool(receiving.events))
    piece = receiving.events[-1]
    peer.sendall(b"other" * 1000)
    named = ffi.buffer(ffi.cast("char *", piece.address), piece.result)
    assert bytes(named) == piece.data
    engine.run_until(lambda: len(receiving.data) == 10_000)


def test_held_buffers_are_counted_and_given_back(engine, new_pair):
    pairs = [new_pair() for _ in range(10)]
    for ours, peer in pairs:
        engine.receive(ours.fileno())
        peer.sendall(b"x")
    engine.run_until(lambda: engine.shared.buffers_held > 0)
    engine.run_until(lambda: engine.shared.counters.bytes_received == 10)
    engine.turn()
    assert engine.shared.buffers_held == 0


def test_urgent_data_is_not_part_of_the_stream(engine, tcp_pair):
    ours, peer = tcp_pair
    receiving = engine.receive(ours.fileno())
    engine.turn()
    peer.sendall(b"before")
    peer.send(b"!", socket.MSG_OOB)
    peer.sendall(b"after")
    engine.run_until(lambda: receiving.data == b"beforeafter")


def test_a_closed_number_used_again_gives_the_new_socket_its_own_bytes(engine, new_pair, resources):
    """Row 5. The caller closed a descriptor too early, against the contract, and its number
    names another socket now: the old operation may not take a byte from it."""
    ours, _ = new_pair()
    number = ours.detach()
    old = engine.receive(number)
    engine.turn()
    os.close(number)
    fresh, peer = socket.socketpair()
    resources.enter_context(fresh)
    resources.enter_context(peer)
    assert number in (fresh.fileno(), peer.fileno())
    if number == peer.fileno():
        fresh, peer = peer, fresh
    new = engine.receive(fresh.fileno())
    peer.sendall(b"for the new one")
    engine.run_until(lambda: new.data == b"for the new one")
    engine.cancel(old)
    engine.finish(old)
    assert old.data == b""
    assert old.result in (-errno.EBADF, -errno.ECANCELED)


@pytest.mark.engines(
    *[kind for kind in DISABLED if kind not in ONE_SHOT],
    reason="a violated contract; a one-shot receive has only the number to start again with",
)
def test_a_closed_number_whose_file_lives_on_does_not_spin(engine, new_pair, resources):
    """Row 5, worse: a duplicate keeps the old file open, and it is readable. The engine may
    neither report it under the number's new owner nor wake for it again and again."""
    ours, ours_peer = new_pair()
    duplicate = os.dup(ours.fileno())
    resources.callback(os.close, duplicate)
    number = ours.detach()
    old = engine.receive(number)
    engine.turn()
    os.close(number)
    fresh, peer = new_pair()
    if number == peer.fileno():
        fresh, peer = peer, fresh
    assert number == fresh.fileno()
    new = engine.receive(number)
    engine.turn()
    ours_peer.sendall(b"for the old one")
    engine.turn(0.01)
    peer.sendall(b"for the new one")
    engine.run_until(lambda: new.data == b"for the new one")
    assert new.data == b"for the new one"
    engine.cancel(old)
    engine.finish(old)
    enters = engine.shared.counters.enters
    assert engine.turn(0.05) == []
    assert engine.shared.counters.enters - enters <= 3


def test_a_duplicate_that_gets_its_old_number_back_is_received_from(engine, new_pair, resources):
    """Row 5: closed too early, cancelled, and then the same file is there again."""
    ours, peer = new_pair()
    duplicate = os.dup(ours.fileno())
    resources.callback(os.close, duplicate)
    number = ours.detach()
    old = engine.receive(number)
    engine.turn()
    os.close(number)
    engine.cancel(old)
    engine.finish(old)
    os.dup2(duplicate, number)
    resources.callback(os.close, number)
    new = engine.receive(number)
    peer.sendall(b"back again")
    engine.run_until(lambda: new.data == b"back again")
    assert old.data == b""


def test_operations_on_a_number_closed_too_early_all_end(engine, new_pair, resources):
    """Row 5: two on one number whose file is gone, one on a number whose file lives on and
    is readable. A cancel of some may end others (EBADF), and none is left over."""
    (gone, _), (kept, kept_peer) = new_pair(), new_pair()
    resources.callback(os.close, os.dup(kept.fileno()))
    gone_number, kept_number = gone.detach(), kept.detach()
    operations = [
        engine.receive(gone_number),
        engine.poll(gone_number, select.POLLPRI),
        engine.receive(kept_number),
    ]
    engine.turn()
    os.close(gone_number)
    os.close(kept_number)
    engine.cancel(operations[2])
    engine.finish(operations[2])
    kept_peer.sendall(b"to nobody")
    engine.turn(0.01)
    for operation in operations[:2]:
        engine.cancel(operation)
        engine.finish(operation)
    results = {operation.result for operation in operations}
    assert results <= {-errno.EBADF, -errno.ECANCELED}


def test_of_two_operations_on_a_number_closed_too_early_each_ends(engine, new_pair):
    """Row 5: as above, without anything readable."""
    ours, _ = new_pair()
    number = ours.detach()
    both = [engine.receive(number), engine.poll(number, select.POLLPRI)]
    engine.turn()
    os.close(number)
    for operation in both:
        engine.cancel(operation)
        engine.finish(operation)
        assert operation.result in (-errno.EBADF, -errno.ECANCELED)


def test_sockets_opened_and_closed_in_a_churn_never_mix(engine, new_pair):
    """Row 5: numbers are used again at once; each receive sees its own peer's bytes."""
    for round_number in range(300):
        ours, peer = new_pair()
        message = b"%d" % round_number
        receiving = engine.receive(ours.fileno())
        peer.sendall(message)
        engine.run_until(lambda receiving=receiving: bool(receiving.events))
        engine.cancel(receiving)
        engine.finish(receiving)
        ours.close()
        assert receiving.data == message
        assert peer.recv(1) == b""
        peer.close()


def test_the_peer_sees_the_end_of_file_once_the_receive_is_cancelled(engine, tcp_pair):
    """Row 5: after the final event, closing the descriptor closes the connection."""
    ours, peer = tcp_pair
    receiving = engine.receive(ours.fileno())
    engine.turn()
    engine.cancel(receiving)
    engine.finish(receiving)
    ours.close()
    assert peer.recv(1) == b""


def test_receive_on_a_socket_not_connected_ends_with_enotconn(engine, resources):
    unconnected = resources.enter_context(socket.socket())
    receiving = engine.receive(unconnected.fileno())
    engine.finish(receiving)
    assert receiving.result == -errno.ENOTCONN


def test_receive_on_a_file_ends_with_enotsock(engine, resources, tmp_path):
    file = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    resources.callback(os.close, file)
    receiving = engine.receive(file)
    engine.finish(receiving)
    assert receiving.result == -errno.ENOTSOCK


@pytest.mark.parametrize("fd", [-1, 19_999, 2**31 - 1])
def test_receive_on_a_closed_descriptor_ends_with_ebadf(engine, fd):
    receiving = engine.receive(fd)
    engine.finish(receiving)
    assert receiving.result == -errno.EBADF
