"""Nobody starves: a flood on one descriptor leaves its share to the others."""

from __future__ import annotations

import os
import socket
import threading

import pytest

from .engine_harness import LIMIT_S

TURNS_MAX = 200  # with two buffers and eight events a turn, thirty answers take some


@pytest.fixture
def flood(new_pair, in_thread):
    """A socket whose peer sends all the time, until the test ends."""
    ours, peer = new_pair()
    is_over = threading.Event()

    def pour():
        block = bytes(1 << 18)
        try:
            while not is_over.is_set():
                peer.sendall(block)
        except OSError:
            assert is_over.is_set()

    pouring = in_thread(pour)
    yield ours
    is_over.set()
    ours.shutdown(socket.SHUT_RDWR)
    pouring.result(LIMIT_S)


def test_ping_pong_goes_on_beside_a_flood(sized_engine, new_pair, flood):
    """Row 22: each of thirty answers is there within a few turns of its question, however
    much the flood brings in between."""
    engine = sized_engine
    flooded = engine.receive(flood.fileno())
    pairs = [new_pair() for _ in range(30)]
    receives = [engine.receive(ours.fileno()) for ours, _ in pairs]
    for _ in range(20):
        answered = [len(receiving.events) for receiving in receives]
        for _, peer in pairs:
            peer.sendall(b"ping")
        turns = 0
        while any(
            len(receiving.events) == before
            for receiving, before in zip(receives, answered, strict=True)
        ):
            engine.turn(LIMIT_S)
            flooded.events.clear()
            turns += 1
            assert turns < TURNS_MAX
    engine.cancel(flooded)
    engine.finish(flooded)


def test_an_accept_goes_on_beside_a_flood(sized_engine, listener, new_client, flood):
    """Row 22."""
    flooded = sized_engine.receive(flood.fileno())
    accepting = sized_engine.accept(listener.fileno())
    for count in range(1, 20):
        new_client(listener)
        turns = 0
        while len(accepting.results) < count:
            sized_engine.turn(LIMIT_S)
            flooded.events.clear()
            turns += 1
            assert turns < TURNS_MAX
    for fd in accepting.results:
        os.close(fd)
    sized_engine.cancel(flooded)
    sized_engine.finish(flooded)


def test_a_wake_comes_through_beside_a_flood(sized_engine, flood):
    """Row 22: the wake descriptor is read, so that the next wait sleeps."""
    flooded = sized_engine.receive(flood.fileno())
    sized_engine.wake_from_any_thread()
    for _ in range(100):
        sized_engine.turn(LIMIT_S)
        flooded.events.clear()
    sized_engine.cancel(flooded)
    sized_engine.finish(flooded)
    sized_engine.turn()
    assert sized_engine.turn(0.01) == []
