"""What io_uring's engine carries out itself: polls that mislead, signals, ends, shortages.

The contract of these operations is tested in test_once, test_files, test_messages,
test_send_messages and test_sendfile; here is what only this engine has to get right.
"""

from __future__ import annotations

import errno
import os
import socket
import time
from contextlib import suppress
from pathlib import Path

import pytest
from uringloop.driver._engine import ffi, lib

from .conftest import DISABLED, FORKS
from .engine_harness import LIMIT_S, Engine, read_rest
from .isolation import run_isolated

MIB = 1 << 20
only_io_uring = pytest.mark.engines(
    *[kind for kind in DISABLED if kind != "epoll"], reason="how io_uring polls"
)


@pytest.fixture
def half_closed(tcp_pair):
    """Our end has room for a part of the file, and the peer has shut its sending side."""
    ours, peer = tcp_pair
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 256 * 1024)
    peer.shutdown(socket.SHUT_WR)
    return ours, peer


@pytest.fixture(scope="module")
def large_path(tmp_path_factory):
    """16 MiB, of which no two KiB are alike."""
    path = tmp_path_factory.mktemp("steps") / "file"
    path.write_bytes(b"".join(b"%1024d" % i for i in range(16 * 1024)))
    return path


@pytest.fixture
def file(resources, large_path):
    fd = os.open(large_path, os.O_RDONLY)
    resources.callback(os.close, fd)
    return fd


def completions_while_idle(engine):
    """How many the engine sees in a time in which nothing happens."""
    engine.turn(0.02)
    before = engine.shared.counters.completions
    end = time.monotonic() + 0.2
    while time.monotonic() < end:
        assert engine.turn(0.05) == []
    return engine.shared.counters.completions - before


@only_io_uring
def test_a_half_closed_peer_is_waited_for_asleep(engine, half_closed, file, in_thread):
    """Row 14: the poll for writing is answered with POLLRDHUP at once, again and again."""
    ours, peer = half_closed
    sending = engine.send_file(ours.fileno(), file, length=4 * MIB)
    assert completions_while_idle(engine) < 20
    reading = in_thread(read_rest, peer)
    engine.finish(sending)
    ours.close()
    assert sending.result == 4 * MIB
    assert reading.result(LIMIT_S) == os.pread(file, 4 * MIB, 0)


def test_a_file_to_a_half_closed_peer_is_cancelled_exactly(sized_engine, half_closed, file):
    ours, peer = half_closed
    sending = sized_engine.send_file(ours.fileno(), file)
    for _ in range(3):
        sized_engine.turn(0.01)
    sized_engine.cancel(sending)
    sized_engine.finish(sending)
    ours.close()
    assert sending.result == -errno.ECANCELED
    assert read_rest(peer) == os.pread(file, sending.final.address, 0)


def test_files_to_half_closed_peers_cancelled_in_a_race_count_exactly(
    engine, listener, new_client, file
):
    """Row 8: the reader makes room while the cancel is under way."""
    for round_number in range(40):
        peer = new_client(listener)
        ours, _ = listener.accept()
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 256 * 1024)
        ours.setblocking(False)
        peer.shutdown(socket.SHUT_WR)
        sending = engine.send_file(ours.fileno(), file, length=8 * MIB)
        engine.turn(0.002)
        head = peer.recv(MIB * (1 + round_number % 3))
        if round_number % 2:
            engine.turn()
        engine.cancel(sending)
        engine.finish(sending)
        ours.close()
        sent = sending.result if sending.result >= 0 else sending.final.address
        assert sending.result in (-errno.ECANCELED, 8 * MIB)
        assert head + read_rest(peer) == os.pread(file, sent, 0)
        peer.close()


@pytest.mark.engines("io_uring", reason="both ways of one kind are tried by the script")
def test_broken_pipes_raise_no_signal_where_it_would_kill(engine_kind):
    """The script has SIGPIPE as a C program has it."""
    assert run_isolated("broken_pipe.py") == "ok\n"


@pytest.mark.engines("io_uring", "io_uring-no-multishot_recvmsg", reason="whose memory it is")
def test_without_memory_for_many_messages_they_come_one_by_one(engine_kind):
    assert run_isolated("no_memory_for_messages.py", DISABLED[engine_kind]) == "ok\n"


def stage_steps(engine, pair, half_closed, file, resources):
    """Each operation of steps.c in flight, and some that a poll misled."""
    reader, writer = os.pipe()
    full_reader, full_writer = os.pipe()
    for fd in (reader, writer, full_reader, full_writer):
        resources.callback(os.close, fd)
        os.set_blocking(fd, False)
    udp = resources.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    udp.bind(("127.0.0.1", 0))
    unix = resources.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
    sender = resources.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
    unix.bind(b"")
    name = b"\x01\x00" + unix.getsockname()
    with suppress(BlockingIOError):
        while True:
            sender.sendto(b"filler", socket.MSG_DONTWAIT, unix.getsockname())
    return [
        engine.receive(reader, lib.UL_FILE),
        engine.receive_one(reader, 10, lib.UL_FILE),
        engine.receive_one(pair[0].fileno(), 10),
        engine.send(full_writer, bytes(4 * MIB), lib.UL_FILE),
        engine.receive_messages(udp.fileno()),
        engine.receive_messages(udp.fileno(), flags=lib.UL_ONCE),
        engine.receive_messages(udp.fileno(), length=10),
        engine.send_message(sender.fileno(), b"x", name),
        engine.send_file(half_closed[0].fileno(), file),
    ]


@pytest.mark.parametrize("turns", [0, 1, 4])
def test_close_with_all_of_them_in_flight(sized_engine, pair, half_closed, file, resources, turns):
    """Rows 5, 6."""
    staged = stage_steps(sized_engine, pair, half_closed, file, resources)
    for _ in range(turns):
        sized_engine.turn(0.01)
    assert not any(operation.is_done for operation in staged)
    sized_engine.close()
    half_closed[0].close()
    read_rest(half_closed[1])


def test_all_of_them_are_cancelled(sized_engine, pair, half_closed, file, resources):
    staged = stage_steps(sized_engine, pair, half_closed, file, resources)
    for _ in range(4):
        sized_engine.turn(0.01)
    sized_engine.cancel_all()
    sized_engine.finish(*staged)
    assert {each.result for each in staged} == {-errno.ECANCELED}


@FORKS
def test_a_child_leaves_all_of_them_to_the_parent(engine, pair, half_closed, file, resources):
    """Row 26."""
    staged = stage_steps(engine, pair, half_closed, file, resources)
    engine.turn(0.01)
    child = os.fork()
    if not child:
        lib.ul_abandon(engine.handle)
        refused = lib.ul_turn(engine.handle, 0) == -errno.EBADF
        lib.ul_close(engine.handle)
        os._exit(0 if refused else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    engine.cancel_all()
    engine.finish(*staged)


@pytest.mark.engines("io_uring", "io_uring-plain", reason="epoll has no ring of buffers")
def test_a_number_of_messages_that_is_no_power_of_two_is_refused(features):
    with pytest.raises(OSError, match=os.strerror(errno.EINVAL)):
        Engine(features=features, message_count=3)


@pytest.mark.engines("io_uring", reason="multishot RECVMSG alone has a ring of buffers")
def test_messages_take_no_memory_before_the_first_receive(engine, resources):
    def mapped():
        return int(Path("/proc/self/statm").read_text().split()[0])

    engine.turn()
    udp = resources.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    before = mapped()
    engine.receive_messages(udp.fileno())
    engine.turn()
    pages = lib.UL_MESSAGE_BYTES * 64 // os.sysconf("SC_PAGESIZE")
    assert mapped() - before >= pages
    assert ffi.sizeof("struct ul_message") == lib.UL_MESSAGE_HEADER
