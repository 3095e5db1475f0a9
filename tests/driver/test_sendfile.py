"""SENDFILE: the bytes of a file from any offset, to sockets and pipes, and how many went."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import signal
import socket

import pytest
from uringloop.driver._engine import lib

from .conftest import operation_kinds
from .engine_harness import LIMIT_S, read_digest, read_rest

pytestmark = operation_kinds(reason="sendfile(2) needs readiness, and no feature")

MIB = 1 << 20
GIB = 1 << 30
# What says that this file cannot be sent so; the caller reads and sends it by itself.
NOT_SO = {-errno.EINVAL, -errno.ENOSYS, -errno.EOPNOTSUPP, -errno.ESPIPE}


@pytest.fixture
def new_file(resources, tmp_path):
    """An open file with this content, its position at the end; answers the descriptor."""

    def factory(content=b"", flags=os.O_RDWR):
        path = tmp_path / f"file {len(os.listdir(tmp_path))}"
        path.write_bytes(content)
        fd = os.open(path, flags)
        resources.callback(os.close, fd)
        os.lseek(fd, 0, os.SEEK_END)
        return fd

    return factory


@pytest.fixture(params=["unix", "tcp"])
def either_pair(request):
    """Two connected stream sockets of either kind: ours, not blocking, and the peer."""
    return request.getfixturevalue({"unix": "pair", "tcp": "tcp_pair"}[request.param])


@pytest.fixture
def narrow_pair(pair):
    """A send buffer that holds a small part of what is sent."""
    pair[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 32 * 1024)
    return pair


def content_of(seed, size):
    return random.Random(seed).randbytes(size)


def test_a_small_file_is_sent_to_its_end(sized_engine, either_pair, new_file):
    ours, peer = either_pair
    file = new_file(b"content")
    sending = sized_engine.send_file(ours.fileno(), file)
    sized_engine.finish(sending)
    assert sending.result == 7
    assert peer.recv(100) == b"content"
    assert sized_engine.shared.counters.bytes_sent == 7


@pytest.mark.parametrize(
    ("offset", "length", "expected"),
    [(0, 4, b"0123"), (3, 4, b"3456"), (8, 100, b"89"), (10, 5, b""), (99, 5, b""), (2, 0, b"")],
)
def test_offset_and_length_choose_the_part(engine, pair, new_file, offset, length, expected):
    ours, peer = pair
    sending = engine.send_file(ours.fileno(), new_file(b"0123456789"), offset, length)
    engine.finish(sending)
    assert sending.result == len(expected)
    ours.shutdown(socket.SHUT_WR)
    assert read_rest(peer) == expected


def test_the_position_of_the_file_is_neither_used_nor_changed(engine, pair, new_file):
    ours, peer = pair
    file = new_file(b"0123456789")
    os.lseek(file, 5, os.SEEK_SET)
    sending = engine.send_file(ours.fileno(), file, 2, 4)
    engine.finish(sending)
    assert peer.recv(100) == b"2345"
    assert os.lseek(file, 0, os.SEEK_CUR) == 5


def test_a_large_file_arrives_whole(sized_engine, either_pair, new_file, in_thread):
    """Row 12: far more than a socket holds, and than one step sends."""
    ours, peer = either_pair
    content = content_of(1, 6 * MIB + 12_345)
    reading = in_thread(read_digest, peer, len(content))
    sending = sized_engine.send_file(ours.fileno(), new_file(content))
    sized_engine.finish(sending)
    assert sending.result == len(content)
    assert reading.result(LIMIT_S) == hashlib.sha256(content).hexdigest()


def test_a_slow_reader_gets_everything(engine, narrow_pair, new_file):
    """The socket is full between any two reads; the engine waits without spinning."""
    ours, peer = narrow_pair
    content = content_of(2, 300_000)
    sending = engine.send_file(ours.fileno(), new_file(content))
    received = bytearray()
    engine.turn()
    assert not sending.is_done
    while len(received) < len(content):
        received += peer.recv(17_777)
        engine.turn()
    engine.finish(sending)
    assert received == content
    assert sending.result == len(content)
    assert engine.shared.counters.submissions < 1000


def test_a_full_socket_is_waited_for_asleep(engine, narrow_pair, new_file):
    ours, _ = narrow_pair
    sending = engine.send_file(ours.fileno(), new_file(bytes(16 * MIB)))
    engine.turn(0.05)
    engine.turn(0.05)
    submissions = engine.shared.counters.submissions
    assert engine.turn(0.05) == []
    assert not sending.is_done
    assert engine.shared.counters.submissions - submissions <= 1


def test_a_blocking_socket_does_not_block_the_turn(engine, new_pair, new_file):
    ours, peer = new_pair(blocking=True)
    content = content_of(3, 2 * MIB)
    sending = engine.send_file(ours.fileno(), new_file(content))
    engine.turn()
    assert not sending.is_done
    assert os.get_blocking(ours.fileno())
    received = bytearray()
    while len(received) < len(content):
        received += peer.recv(MIB)
        engine.turn()
    engine.finish(sending)
    assert received == content
    engine.turn()
    assert os.get_blocking(ours.fileno())


@pytest.mark.parametrize("offset", [2**31 - 5, 2**32 - 5, 5 * GIB])
def test_offsets_beyond_31_and_32_bits_are_exact(engine, pair, new_file, offset):
    """A sparse file: it takes no room, whatever its size."""
    ours, peer = pair
    file = new_file()
    os.ftruncate(file, 6 * GIB)
    os.pwrite(file, b"here it is", offset)
    sending = engine.send_file(ours.fileno(), file, offset - 3, 16)
    engine.finish(sending)
    assert sending.result == 16
    assert peer.recv(100) == b"\0\0\0here it is\0\0\0"


@pytest.mark.parametrize("border", [2**31, 2**32])
def test_a_part_that_crosses_31_or_32_bits_arrives_whole(
    sized_engine, pair, new_file, in_thread, border
):
    """In many steps, of which one goes over the border."""
    ours, peer = pair
    content = content_of(8, 6 * MIB)
    file = new_file()
    os.pwrite(file, content, border - 3 * MIB - 1)
    reading = in_thread(read_digest, peer, len(content))
    sending = sized_engine.send_file(ours.fileno(), file, border - 3 * MIB - 1)
    sized_engine.finish(sending)
    assert sending.result == len(content)
    assert reading.result(LIMIT_S) == hashlib.sha256(content).hexdigest()


def test_a_file_truncated_while_it_is_sent_ends_there(engine, narrow_pair, new_file):
    ours, peer = narrow_pair
    content = content_of(4, 2 * MIB)
    file = new_file(content)
    sending = engine.send_file(ours.fileno(), file)
    engine.turn()
    assert not sending.is_done
    os.ftruncate(file, MIB)
    received = bytearray()
    while not sending.is_done:
        received += peer.recv(MIB)
        engine.turn()
    ours.close()
    received += read_rest(peer)
    assert sending.result == len(received) == MIB
    assert received == content[:MIB]


def test_a_file_that_grows_is_sent_to_the_end_found(engine, narrow_pair, new_file):
    ours, peer = narrow_pair
    file = new_file(bytes(MIB))
    sending = engine.send_file(ours.fileno(), file)
    engine.turn()
    os.pwrite(file, b"more", MIB)
    received = bytearray()
    while not sending.is_done:
        received += peer.recv(MIB)
        engine.turn()
    ours.close()
    received += read_rest(peer)
    assert sending.result == len(received) == MIB + 4
    assert received.endswith(b"more")


def test_a_peer_closed_in_the_middle_tells_how_much_was_sent(engine, narrow_pair, new_file):
    """SIGPIPE is ignored by Python; the process lives on."""
    assert signal.getsignal(signal.SIGPIPE) is signal.SIG_IGN
    ours, peer = narrow_pair
    sending = engine.send_file(ours.fileno(), new_file(bytes(16 * MIB)))
    engine.turn()
    taken = len(peer.recv(100_000))
    engine.turn()
    peer.close()
    engine.finish(sending)
    assert sending.result in (-errno.EPIPE, -errno.ECONNRESET)
    assert taken <= sending.final.address < 16 * MIB


def test_a_peer_closed_before_answers_epipe(engine, pair, new_file):
    ours, peer = pair
    peer.close()
    sending = engine.send_file(ours.fileno(), new_file(b"lost"))
    engine.finish(sending)
    assert sending.result == -errno.EPIPE
    assert sending.final.address == 0


@pytest.mark.parametrize("turns", [0, 1, 3])
def test_a_cancelled_file_tells_exactly_how_much_was_sent(
    sized_engine, narrow_pair, new_file, turns
):
    """Rows 8, 9: the caller goes on from there."""
    ours, peer = narrow_pair
    content = content_of(5, 2 * MIB)
    sending = sized_engine.send_file(ours.fileno(), new_file(content))
    start = b""
    for _ in range(turns):
        sized_engine.turn()
        start += peer.recv(50_000)
    sized_engine.cancel(sending)
    sized_engine.finish(sending)
    assert sending.result == -errno.ECANCELED
    ours.close()
    received = start + read_rest(peer)
    assert len(received) == sending.final.address
    assert received == content[: len(received)]


def test_files_cancelled_at_random_count_exactly(sized_engine, new_pair, new_file):
    choose = random.Random(6)
    content = content_of(6, MIB)
    file = new_file(content)
    for _ in range(60):
        ours, peer = new_pair()
        size = choose.choice([10, 5_000, 300_000, MIB])
        sending = sized_engine.send_file(ours.fileno(), file, 0, size)
        received = b""
        for _ in range(choose.randrange(4)):
            sized_engine.turn()
            if not sending.is_done:
                received += peer.recv(100_000)
        sized_engine.cancel(sending)
        sized_engine.finish(sending)
        final = sending.final
        sent_bytes = final.result if final.result >= 0 else final.address
        ours.close()
        received += read_rest(peer)
        peer.close()
        assert final.result in (size, -errno.ECANCELED)
        assert received == content[:sent_bytes]


@pytest.mark.parametrize("blocking", [False, True], ids=["nonblocking", "blocking"])
def test_a_file_goes_through_a_pipe(sized_engine, resources, new_file, in_thread, blocking):
    reader, writer = os.pipe()
    resources.callback(os.close, reader)
    resources.callback(os.close, writer)
    os.set_blocking(writer, blocking)
    content = content_of(7, MIB + 77)

    def read_all():
        data = b""
        while len(data) < len(content):
            data += os.read(reader, MIB)
        return data

    reading = in_thread(read_all)
    sending = sized_engine.send_file(writer, new_file(content), flags=lib.UL_FILE)
    sized_engine.finish(sending)
    assert sending.result == len(content)
    assert reading.result(LIMIT_S) == content


def test_a_broken_pipe_answers_epipe(engine, resources, new_file):
    reader, writer = os.pipe()
    resources.callback(os.close, writer)
    os.close(reader)
    sending = engine.send_file(writer, new_file(b"lost"), flags=lib.UL_FILE)
    engine.finish(sending)
    assert sending.result == -errno.EPIPE


def test_others_are_served_while_a_file_is_sent(sized_engine, new_pair, new_file, in_thread):
    """Row 22."""
    (ours, peer), (quiet, quiet_peer) = new_pair(), new_pair()
    size = 64 * MIB
    file = new_file()
    os.ftruncate(file, size)
    reading = in_thread(read_digest, peer, size)
    sending = sized_engine.send_file(ours.fileno(), file)
    receiving = sized_engine.receive(quiet.fileno())
    answers = 0
    while not sending.is_done:
        quiet_peer.sendall(b"x")
        answers += 1
        turns = 0
        while len(receiving.data) < answers:
            sized_engine.turn(LIMIT_S)
            turns += 1
            assert turns < 20
    assert sending.result == size
    assert answers > 5
    reading.result(LIMIT_S)


def test_a_send_and_a_file_one_after_the_other_keep_their_order(sized_engine, pair, new_file):
    ours, peer = pair
    file = new_file(b"file")
    for _ in range(10):
        for sending in (
            lambda: sized_engine.send(ours.fileno(), b"head"),
            lambda: sized_engine.send_file(ours.fileno(), file),
        ):
            sized_engine.finish(sending())
    assert peer.recv(1000) == b"headfile" * 10


def test_hundreds_of_files_in_one_turn_all_answer(sized_engine, new_pair, new_file):
    file = new_file(b"content")
    pairs = [new_pair() for _ in range(150)]
    sends = [sized_engine.send_file(ours.fileno(), file, 3) for ours, _ in pairs]
    sized_engine.finish(*sends)
    assert [sending.result for sending in sends] == [4] * 150
    assert {peer.recv(100) for _, peer in pairs} == {b"tent"}


def test_what_is_no_regular_file_says_that_it_cannot_be_sent_so(engine, new_pair, resources):
    ours, _ = new_pair()
    reader, writer = os.pipe()
    resources.callback(os.close, reader)
    resources.callback(os.close, writer)
    os.write(writer, b"kept")
    results = set()
    for file in (reader, new_pair()[0].fileno()):
        sending = engine.send_file(ours.fileno(), file)
        engine.finish(sending)
        assert sending.final.address == 0
        results.add(sending.result)
    assert results <= NOT_SO
    assert os.read(reader, 100) == b"kept"


def test_a_file_that_is_only_written_answers_ebadf(engine, pair, new_file):
    sending = engine.send_file(pair[0].fileno(), new_file(b"secret", os.O_WRONLY))
    engine.finish(sending)
    assert sending.result == -errno.EBADF


@pytest.mark.parametrize("offset", [2**63 - 1, 2**63, 2**64 - 1])
def test_impossible_offsets_are_errors_or_the_end(engine, pair, new_file, offset):
    ours, peer = pair
    sending = engine.send_file(ours.fileno(), new_file(b"x"), offset, 10)
    engine.finish(sending)
    assert sending.result in (0, -errno.EINVAL, -errno.EOVERFLOW)
    ours.close()
    assert peer.recv(10) == b""


@pytest.mark.parametrize("fd", [-1, 19_999, 2**31 - 1])
def test_closed_descriptors_answer_ebadf(engine, pair, new_file, fd):
    operations = [
        engine.send_file(fd, new_file(b"x")),
        engine.send_file(fd, new_file(b"x"), flags=lib.UL_FILE),
        engine.send_file(pair[0].fileno(), fd & 0xFFFFFFFF),
    ]
    engine.finish(*operations)
    assert [operation.result for operation in operations] == [-errno.EBADF] * 3


def test_a_socket_not_connected_answers_an_error(engine, resources, new_file):
    unconnected = resources.enter_context(socket.socket())
    sending = engine.send_file(unconnected.fileno(), new_file(b"x"))
    engine.finish(sending)
    assert sending.result in (-errno.EPIPE, -errno.ENOTCONN)
