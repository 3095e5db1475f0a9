"""CANCEL: the target's answer is the truth; what is not in use is passed over."""

from __future__ import annotations

import errno
import os
import random
import socket
from contextlib import suppress
from select import POLLIN

import pytest
from uringloop.driver._engine import lib

from .engine_harness import read_rest, sockaddr


def open_pipes(resources):
    """The end of an empty pipe to read from, and two of other pipes to write to."""
    ends = [end for _ in range(3) for end in os.pipe()]
    for end in ends:
        resources.callback(os.close, end)
        os.set_blocking(end, False)
    return ends[0], ends[3], ends[5]


def full_datagram_socket(new_socket):
    """Connected to a receiver whose queue is full."""
    sender, receiver = new_socket(socket.AF_UNIX), new_socket(socket.AF_UNIX, b"")
    sender.connect(receiver.getsockname())
    with suppress(BlockingIOError):
        while True:
            sender.send(b"filler")
    return sender.fileno()


@pytest.fixture
def stage_each(new_pair, new_listener, new_socket, resources, tmp_path):
    """Stages one operation of each kind, none of which can complete; answers them."""

    def stage(engine):
        full = new_listener(backlog=0)
        for _ in range(4):
            filler = resources.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        unconnected = resources.enter_context(socket.socket())
        unconnected.setblocking(False)
        receiving, sending, polled = new_pair()[0], new_pair()[0], new_pair()[0]
        file = resources.enter_context((tmp_path / "file").open("w+b"))
        file.truncate(1 << 24)
        reader, writer, full_writer = open_pipes(resources)
        return [
            engine.accept(new_listener().fileno()),
            engine.receive(receiving.fileno()),
            engine.send(sending.fileno(), bytes(1 << 24)),
            engine.connect(unconnected.fileno(), sockaddr(full.getsockname())),
            engine.poll(polled.fileno(), POLLIN),
            engine.accept_one(new_listener().fileno()),
            engine.receive_one(new_pair()[0].fileno()),
            engine.receive(reader, lib.UL_FILE),
            engine.receive_one(reader, flags=lib.UL_FILE),
            engine.send(writer, bytes(1 << 24), lib.UL_FILE),
            engine.receive_messages(new_socket().fileno()),
            engine.receive_messages(new_socket().fileno(), flags=lib.UL_ONCE),
            engine.send_message(full_datagram_socket(new_socket), b"x"),
            engine.send_file(new_pair()[0].fileno(), file.fileno()),
            engine.send_file(full_writer, file.fileno(), flags=lib.UL_FILE),
        ]

    return stage


def test_every_kind_can_be_cancelled(sized_engine, stage_each):
    operations = stage_each(sized_engine)
    sized_engine.turn()
    sized_engine.turn()
    for operation in operations:
        sized_engine.cancel(operation)
    sized_engine.finish(*operations)
    assert {operation.result for operation in operations} == {-errno.ECANCELED}


def test_every_kind_can_be_cancelled_in_the_turn_that_takes_it(sized_engine, stage_each):
    """Row 9: on io_uring a cancel that is submitted before its target finds nothing."""
    operations = stage_each(sized_engine)
    for operation in operations:
        sized_engine.cancel(operation)
    sized_engine.finish(*operations)
    assert {operation.result for operation in operations} == {-errno.ECANCELED}


def test_a_second_cancel_changes_nothing(engine, pair):
    receiving = engine.receive(pair[0].fileno())
    for _ in range(3):
        engine.cancel(receiving)
    engine.finish(receiving)
    engine.cancel(receiving)
    assert engine.turn(0.01) == []
    assert receiving.result == -errno.ECANCELED


def test_a_cancel_that_comes_too_late_gets_the_true_result(engine, pair):
    ours, peer = pair
    polling = engine.poll(ours.fileno(), POLLIN)
    engine.turn()
    peer.sendall(b"x")
    engine.cancel(polling)
    engine.finish(polling)
    assert polling.result in (POLLIN, -errno.ECANCELED)
    receiving = engine.receive(ours.fileno())
    engine.run_until(lambda: receiving.data == b"x")


def test_tokens_never_used_or_of_another_generation_are_passed_over(engine, pair):
    ours, peer = pair
    first = engine.receive(ours.fileno())
    engine.cancel(first)
    engine.finish(first)
    second = engine.receive(ours.fileno())
    assert second.token & 0xFFFFFFFF == first.token & 0xFFFFFFFF
    for token in (first.token, 0, second.token + (1 << 32), 12_345_678, 2**64 - 1):
        engine.write_command(opcode=lib.UL_OP_CANCEL, argument=token)
    engine.turn()
    peer.sendall(b"still here")
    engine.run_until(lambda: second.data == b"still here")
    assert not second.is_done


def test_receives_cancelled_in_a_race_with_data_lose_no_byte(engine, pair):
    """Row 8: thousands of cancels, each against bytes that arrive before, between or
    after; what one receive did not get the next one does."""
    ours, peer = pair
    choose = random.Random(8)
    received = bytearray()
    sent = bytearray()
    for i in range(2000):
        receiving = engine.receive(ours.fileno())
        message = b"%d," % i
        moment = choose.randrange(4)
        if moment == 0:
            peer.sendall(message)
        if moment in (1, 2):
            engine.turn()
            peer.sendall(message)
        if moment == 2:
            engine.turn()
        engine.cancel(receiving)
        if moment == 3:
            peer.sendall(message)
        engine.finish(receiving)
        sent += message
        received += receiving.data
        assert receiving.result == -errno.ECANCELED
    last = engine.receive(ours.fileno())
    engine.run_until(lambda: len(received) + len(last.data) == len(sent))
    assert received + last.data == sent


def test_polls_cancelled_in_a_race_with_readiness_answer_once(engine, pair):
    """Row 8."""
    ours, peer = pair
    choose = random.Random(9)
    outcomes = {POLLIN: 0, -errno.ECANCELED: 0}
    for _ in range(2000):
        polling = engine.poll(ours.fileno(), POLLIN)
        if choose.random() < 0.5:
            engine.turn()
        if choose.random() < 0.5:
            peer.sendall(b"x")
        engine.cancel(polling)
        engine.finish(polling)
        outcomes[polling.result] += 1
        peer.sendall(b"x")
        ours.recv(10)
    assert outcomes[-errno.ECANCELED] > 0


def test_sends_cancelled_in_a_race_with_the_reader_count_exactly(engine, new_pair):
    """Row 8: what the answer says was sent is what the peer reads."""
    choose = random.Random(10)
    for _ in range(200):
        ours, peer = new_pair()
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        data = choose.randbytes(choose.choice([10, 5_000, 40_000]))
        sending = engine.send(ours.fileno(), data)
        received = b""
        for _ in range(choose.randrange(3)):
            engine.turn()
            if not sending.is_done:
                received += peer.recv(10_000)
        engine.cancel(sending)
        engine.finish(sending)
        final = sending.final
        sent_bytes = final.result if final.result >= 0 else final.address
        ours.close()
        received += read_rest(peer)
        peer.close()
        assert final.result in (len(data), -errno.ECANCELED)
        assert received == data[:sent_bytes]


def test_a_cancelled_number_is_free_for_another_socket_at_once(engine, new_pair):
    """Rows 5, 9: cancel, close, open, start, in as few turns as there can be."""
    for _ in range(300):
        ours, peer = new_pair()
        old = engine.receive(ours.fileno())
        engine.turn()
        engine.cancel(old)
        engine.finish(old)
        number = ours.fileno()
        ours.close()
        fresh, fresh_peer = new_pair()
        assert number in (fresh.fileno(), fresh_peer.fileno())
        new = engine.receive(fresh.fileno())
        fresh_peer.sendall(b"new")
        engine.run_until(lambda new=new: bool(new.events))
        assert new.data == b"new"
        engine.cancel(new)
        engine.finish(new)
        for open_socket in (peer, fresh, fresh_peer):
            open_socket.close()
