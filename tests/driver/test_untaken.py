"""Commands that are cancelled before a turn has taken them: they are not carried out.

Rows 5 and 9. Whoever gives up closes the descriptor, and its number may be another file's by
the time of the turn. That file must not be received from, sent to, accepted on or connected.
"""

from __future__ import annotations

import errno
import os
import socket

import pytest
from uringloop.driver._engine import ffi, lib

from .engine_harness import address_of, open_descriptors, sockaddr

pytestmark = pytest.mark.engines(
    "io_uring", "io_uring-plain", "epoll", reason="it is decided before the engines differ"
)
of_files = pytest.mark.engines("io_uring", "io_uring-plain", reason="epoll has no such requests")


def give_number_of(old, new):
    """The number of `old` is closed, and then names the file of `new`."""
    os.dup2(new.fileno(), old.fileno())


def assert_none_was_carried_out(engine, *operations):
    for operation in operations:
        engine.cancel(operation)
    assert engine.shared.in_flight == 0
    engine.finish(*operations)
    assert {operation.result for operation in operations} == {-errno.ECANCELED}
    assert {operation.final.address for operation in operations} == {0}
    engine.turn()


@pytest.fixture
def reused(new_pair):
    """A number, whose file will be the second of the pair (ours, peer) when it is taken."""
    old, _ = new_pair()
    return old, *new_pair()


def test_bytes_of_the_numbers_next_owner_are_left_to_it(engine, reused):
    old, ours, peer = reused
    peer.sendall(b"for ours")
    receives = [
        engine.receive(old.fileno()),
        engine.receive_one(old.fileno()),
        engine.receive(old.fileno(), lib.UL_READABLE),
        engine.receive(old.fileno(), lib.UL_FILE),
        engine.receive_messages(old.fileno()),
        engine.receive_messages(old.fileno(), flags=lib.UL_ONCE),
    ]
    give_number_of(old, ours)
    assert_none_was_carried_out(engine, *receives)
    assert ours.recv(100) == b"for ours"


def test_nothing_is_sent_to_the_peer_of_the_numbers_next_owner(engine, reused, resources):
    old, ours, peer = reused
    file = resources.enter_context(socket.socket())  # anything: it is not looked at
    sends = [
        engine.send(old.fileno(), b"not for you"),
        engine.send_vectored(old.fileno(), [b"not", b"for you"]),
        engine.send(old.fileno(), b"not for you", lib.UL_FILE),
        engine.send_message(old.fileno(), b"not for you"),
        engine.send_file(old.fileno(), file.fileno()),
    ]
    give_number_of(old, ours)
    assert_none_was_carried_out(engine, *sends)
    peer.setblocking(False)
    with pytest.raises(BlockingIOError):
        peer.recv(1)


def test_connections_of_the_numbers_next_owner_are_left_to_it(engine, new_listener, new_client):
    old, listener = new_listener(), new_listener()
    client = new_client(listener)
    accepts = [
        engine.accept(old.fileno()),
        engine.accept(old.fileno(), lib.UL_SHARED),
        engine.accept_one(old.fileno()),
    ]
    give_number_of(old, listener)
    assert_none_was_carried_out(engine, *accepts)
    with listener.accept()[0] as accepted:
        assert accepted.getpeername() == client.getsockname()


def test_the_numbers_next_owner_is_not_connected(engine, listener, resources):
    old, ours = (resources.enter_context(socket.socket()) for _ in range(2))
    connecting = engine.connect(old.fileno(), sockaddr(listener.getsockname()))
    give_number_of(old, ours)
    assert_none_was_carried_out(engine, connecting)
    with pytest.raises(OSError, match="not connected"):
        ours.getpeername()
    with pytest.raises(BlockingIOError):
        listener.accept()


def test_relays_of_the_numbers_next_owner_do_not_begin(engine, reused, new_pair):
    old, ours, peer = reused
    other, _ = new_pair()
    peer.sendall(b"for ours")
    relays = [
        engine.relay(old.fileno(), other.fileno()),
        engine.relay(other.fileno(), old.fileno()),
    ]
    give_number_of(old, ours)
    assert_none_was_carried_out(engine, *relays)
    assert ours.recv(100) == b"for ours"


def test_a_number_that_is_closed_is_not_asked_for(engine, pair):
    ours, _ = pair
    receiving = engine.receive(ours.fileno())
    ours.close()
    assert_none_was_carried_out(engine, receiving)


def test_more_of_them_than_there_is_room_for_events(open_engine, pair):
    """They, or their cancels, wait for the next turn; and there are more than the engine has had
    room for in its table so far."""
    ours, peer = pair
    peer.sendall(b"for ours")
    engine = open_engine(event_capacity=8)
    receives = [engine.receive_one(ours.fileno()) for _ in range(1500)]
    assert_none_was_carried_out(engine, *receives)
    assert ours.recv(100) == b"for ours"


@pytest.mark.parametrize("is_in_one_turn", [True, False])
def test_a_cancel_that_came_before_its_command_does_not_reach_it(engine, pair, is_in_one_turn):
    ours, peer = pair
    first = engine.receive_one(ours.fileno())
    peer.sendall(b"1")
    engine.finish(first)
    next_token = first.token + (1 << 32)
    engine.write_command(opcode=lib.UL_OP_CANCEL, argument=next_token)
    if not is_in_one_turn:
        engine.turn()
    second = engine.receive_one(ours.fileno())
    assert second.token == next_token
    peer.sendall(b"2")
    engine.finish(second)
    assert second.data == b"2"


def test_a_token_in_use_is_cancelled_and_its_second_command_refused(engine, pair):
    """A mistake of the caller's; each of the two is answered."""
    fd = pair[0].fileno()
    receiving = engine.receive(fd)
    engine.turn()
    engine.write_command(token=receiving.token, opcode=lib.UL_OP_RECV, fd=fd)
    engine.cancel(receiving)
    results = []
    while engine.shared.in_flight or not results:
        count = lib.ul_turn(engine.handle, 0)
        results += [engine.shared.events[index].result for index in range(count)]
    assert results == [-errno.EEXIST, -errno.ECANCELED]
    engine.operations.clear()


@of_files
def test_a_close_takes_place_all_the_same(engine):
    """The descriptor is the engine's, and would be left over."""
    fd = os.dup(engine.wake_fd)
    closing = engine.stage(lib.UL_OP_CLOSE, fd)
    engine.cancel(closing)
    engine.finish(closing)
    assert closing.result == 0
    assert fd not in open_descriptors()


@of_files
def test_a_file_is_not_opened(engine, tmp_path):
    name = ffi.new("char[]", os.fsencode(tmp_path / "file"))
    opening = engine.stage(
        lib.UL_OP_OPEN,
        -100,
        memory=(name,),
        address=address_of(name),
        length=(os.O_CREAT | os.O_WRONLY) << 32 | 0o600,
    )
    assert_none_was_carried_out(engine, opening)
    assert not (tmp_path / "file").exists()
