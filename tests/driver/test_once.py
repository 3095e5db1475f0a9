"""RECV and ACCEPT with UL_ONCE: one answer, which is final, and nothing is lost by it."""

from __future__ import annotations

import errno
import os
import random
import socket

import pytest
from uringloop.driver._engine import ffi, lib

from .conftest import operation_kinds
from .engine_harness import TINY, abstract_name, descriptors_left, name_of, sockaddr

pytestmark = operation_kinds(
    "buffer_ring", "incremental_buffers", "multishot_recvmsg", reason="where a receive goes"
)

KIB = 1 << 10


def new_name():
    """A struct ul_name that holds what no kernel writes."""
    name = ffi.new("struct ul_name *")
    name.length = 0xFFFF
    return name


# RECV


def test_one_piece_comes_in_the_final_event(sized_engine, pair):
    ours, peer = pair
    receiving = sized_engine.receive_one(ours.fileno())
    sized_engine.turn()
    peer.sendall(b"hello")
    sized_engine.finish(receiving)
    assert receiving.result == 5
    assert receiving.data == b"hello"
    assert len(receiving.events) == 1
    assert sized_engine.shared.counters.bytes_received == 5


def test_what_was_there_before_is_received_in_one_wait(engine, pair):
    ours, peer = pair
    peer.sendall(b"early")
    receiving = engine.receive_one(ours.fileno())
    engine.turn(None)
    assert receiving.data == b"early"


@pytest.mark.parametrize("length", [1, 7, 2 * KIB])
def test_no_more_is_taken_than_was_asked_for(sized_engine, pair, length):
    """What is left stays in the socket, for the next or for another reader."""
    ours, peer = pair
    data = random.Random(length).randbytes(5 * KIB)
    peer.sendall(data)
    receiving = sized_engine.receive_one(ours.fileno(), length)
    sized_engine.finish(receiving)
    assert receiving.data == data[:length]
    assert ours.recv(len(data)) == data[length:]


def test_a_piece_is_never_longer_than_a_buffer(open_engine, pair):
    ours, peer = pair
    engine = open_engine(**TINY)
    peer.sendall(bytes(20 * KIB))
    receiving = engine.receive_one(ours.fileno(), 1 << 40)
    engine.finish(receiving)
    assert 0 < receiving.result <= TINY["buffer_bytes"]
    assert len(ours.recv(1 << 20)) == 20 * KIB - receiving.result


def test_the_end_of_file_is_a_result_of_0(engine, pair):
    ours, peer = pair
    receiving = engine.receive_one(ours.fileno())
    engine.turn()
    peer.close()
    engine.finish(receiving)
    again = engine.receive_one(ours.fileno())
    engine.finish(again)
    assert (receiving.result, again.result) == (0, 0)
    assert receiving.final.address == 0


def test_pieces_asked_for_one_by_one_are_the_stream(sized_engine, pair, in_thread):
    """Row 8: each with a length of its own, some cancelled at some moment."""
    ours, peer = pair
    choose = random.Random(5)
    data = choose.randbytes(200 * KIB)
    writing = in_thread(peer.sendall, data)
    received = bytearray()
    while len(received) < len(data):
        receiving = sized_engine.receive_one(ours.fileno(), choose.choice([1, 100, 4 * KIB]))
        for _ in range(choose.randrange(3)):
            sized_engine.turn()
        if choose.random() < 0.3:
            sized_engine.cancel(receiving)
        sized_engine.finish(receiving)
        assert receiving.result > 0 or receiving.result == -errno.ECANCELED
        received += receiving.data
    writing.result(10)
    assert received == data


def test_a_receive_cancelled_in_its_own_turn_answers_once(engine, pair):
    """Row 9. The byte is either in the answer or still in the socket."""
    ours, peer = pair
    peer.sendall(b"x")
    first = engine.receive_one(ours.fileno())
    engine.cancel(first)
    engine.finish(first)
    second = engine.receive_one(ours.fileno())
    if first.result == 1:
        peer.sendall(b"y")
    engine.finish(second)
    assert first.result in (1, -errno.ECANCELED)
    assert first.data + second.data in (b"xy", b"x")


def test_nothing_is_taken_after_the_answer(engine, pair):
    ours, peer = pair
    receiving = engine.receive_one(ours.fileno())
    engine.turn()
    peer.sendall(b"first")
    engine.finish(receiving)
    peer.sendall(b"second")
    assert engine.turn(0.01) == []
    assert ours.recv(100) == b"second"


def test_two_receives_of_one_socket_share_what_comes(sized_engine, pair):
    ours, peer = pair
    both = [sized_engine.receive_one(ours.fileno(), 3) for _ in range(2)]
    sized_engine.turn()
    peer.sendall(b"abcdef")
    sized_engine.finish(*both)
    assert sorted(receiving.data for receiving in both) == [b"abc", b"def"]


def test_hundreds_of_receives_in_one_turn_all_answer(sized_engine, new_pair):
    """Rows 16, 19: more answers than events, and more bytes than buffers. A piece may be
    short, where a buffer is nearly used up; the rest is still in the socket."""
    pairs = [new_pair() for _ in range(300)]
    for index, (_, peer) in enumerate(pairs):
        peer.sendall(b"%d" % index * 300)
    receives = [sized_engine.receive_one(ours.fileno(), 1000) for ours, _ in pairs]
    sized_engine.finish(*receives)
    for index, ((ours, _), receiving) in enumerate(zip(pairs, receives, strict=True)):
        assert 0 < len(receiving.data) <= 1000
        assert len(receiving.data) == receiving.result
        left = b"%d" % index * 300
        left = left.removeprefix(receiving.data)
        assert len(left) == 300 * len(str(index)) - receiving.result
        assert not left or ours.recv(2000) == left


def test_the_buffers_of_single_receives_are_counted_and_given_back(engine, new_pair):
    pairs = [new_pair() for _ in range(10)]
    for _, peer in pairs:
        peer.sendall(b"x")
    receives = [engine.receive_one(ours.fileno()) for ours, _ in pairs]
    engine.run_until(lambda: engine.shared.buffers_held > 0)
    engine.finish(*receives)
    engine.turn()
    assert engine.shared.buffers_held == 0


def test_a_blocking_socket_does_not_block_the_turn(engine, new_pair):
    ours, peer = new_pair(blocking=True)
    receiving = engine.receive_one(ours.fileno())
    engine.turn()
    peer.sendall(b"hello")
    engine.finish(receiving)
    assert receiving.data == b"hello"
    assert os.get_blocking(ours.fileno())


def test_a_length_of_0_is_refused(engine, pair):
    receiving = engine.receive_one(pair[0].fileno(), 0)
    engine.finish(receiving)
    assert receiving.result == -errno.EINVAL


# ACCEPT


def test_one_connection_is_accepted_and_the_others_stay(sized_engine, listener, new_client):
    clients = [new_client(listener) for _ in range(3)]
    accepting = sized_engine.accept_one(listener.fileno())
    sized_engine.finish(accepting)
    with socket.socket(fileno=accepting.result) as accepted:
        assert accepted.getpeername() == clients[0].getsockname()
        assert not os.get_blocking(accepted.fileno())
        assert not os.get_inheritable(accepted.fileno())
    assert len(accepting.events) == 1
    for client in clients[1:]:
        connection, name = listener.accept()
        connection.close()
        assert name == client.getsockname()


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
@pytest.mark.parametrize("is_early", [True, False])
def test_the_name_of_the_peer_is_filled_in(engine, new_listener, new_client, family, is_early):
    listener = new_listener(family=family)
    name = new_name()
    early = [new_client(listener)] if is_early else []
    accepting = engine.accept_one(listener.fileno(), name)
    engine.turn()
    client = early[0] if is_early else new_client(listener)
    engine.finish(accepting)
    os.close(accepting.result)
    assert name_of(name) == sockaddr(client.getsockname())


@pytest.mark.parametrize("kind", ["unnamed", "in the file system", "abstract"])
def test_names_of_unix_peers_are_filled_in(engine, resources, tmp_path, kind):
    own_name = {"in the file system": str(tmp_path / "client"), "abstract": abstract_name()}.get(
        kind
    )
    listener = resources.enter_context(socket.socket(socket.AF_UNIX))
    listener.bind(str(tmp_path / "listener"))
    listener.listen()
    client = resources.enter_context(socket.socket(socket.AF_UNIX))
    if own_name:
        client.bind(own_name)
    client.connect(str(tmp_path / "listener"))
    name = new_name()
    accepting = engine.accept_one(listener.fileno(), name)
    engine.finish(accepting)
    os.close(accepting.result)
    assert name_of(name) == sockaddr(client.getsockname() or b"\0")[: name.length]
    assert name.length == (2 if own_name is None else len(sockaddr(client.getsockname())))


def test_single_accepts_cancelled_at_random_lose_no_connection(sized_engine, listener, new_client):
    """Rows 8, 10: each comes out exactly once; the fixture counts the descriptors."""
    engine = sized_engine
    choose = random.Random(10)
    made = taken = 0
    for _ in range(300):
        accepting = engine.accept_one(listener.fileno())
        if choose.random() < 0.5:
            engine.turn()
        if choose.random() < 0.7:
            new_client(listener).close()
            made += 1
        if choose.random() < 0.5:
            engine.turn()
        engine.cancel(accepting)
        engine.finish(accepting)
        if accepting.result >= 0:
            os.close(accepting.result)
            taken += 1
        else:
            assert accepting.result == -errno.ECANCELED
    while taken < made:
        rest = engine.accept_one(listener.fileno())
        engine.finish(rest)
        os.close(rest.result)
        taken += 1


def test_hundreds_of_single_accepts_in_one_turn_all_answer(sized_engine, listener, new_client):
    clients = [new_client(listener) for _ in range(200)]
    accepts = [sized_engine.accept_one(listener.fileno()) for _ in range(200)]
    sized_engine.finish(*accepts)
    peers = set()
    for accepting in accepts:
        with socket.socket(fileno=accepting.result) as accepted:
            peers.add(accepted.getpeername())
    assert peers == {client.getsockname() for client in clients}


def test_a_blocking_listener_does_not_block_a_single_accept(engine, listener, new_client):
    listener.setblocking(True)
    accepting = engine.accept_one(listener.fileno())
    engine.turn()
    new_client(listener)
    engine.finish(accepting)
    os.close(accepting.result)
    assert os.get_blocking(listener.fileno())


def test_running_out_of_descriptors_answers_emfile(engine, listener, new_client):
    client = new_client(listener)
    with descriptors_left(0):
        accepting = engine.accept_one(listener.fileno())
        engine.finish(accepting)
    assert accepting.result == -errno.EMFILE
    again = engine.accept_one(listener.fileno())
    engine.finish(again)
    with socket.socket(fileno=again.result) as accepted:
        assert accepted.getpeername() == client.getsockname()


@pytest.mark.parametrize("fd", [-1, 19_999, 2**31 - 1])
@pytest.mark.parametrize("opcode", ["ACCEPT", "RECV"])
def test_closed_descriptors_answer_ebadf(engine, opcode, fd):
    operation = engine.stage(
        getattr(lib, f"UL_OP_{opcode}"), fd, flags=lib.UL_ONCE, length=opcode == "RECV"
    )
    engine.finish(operation)
    assert operation.result == -errno.EBADF


def test_single_operations_on_files_answer_enotsock(engine, resources, tmp_path):
    file = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    resources.callback(os.close, file)
    both = [engine.receive_one(file), engine.accept_one(file)]
    engine.finish(*both)
    assert [operation.result for operation in both] == [-errno.ENOTSOCK] * 2
