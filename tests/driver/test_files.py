"""RECV and SEND with UL_FILE: pipes, FIFOs, terminals, and devices that epoll refuses."""

from __future__ import annotations

import errno
import os
import pty
import random
import resource
import select
import time
import tty

import pytest
from uringloop.driver._engine import lib

from .conftest import operation_kinds
from .engine_harness import LIMIT_S

pytestmark = operation_kinds("buffer_ring", reason="where a read goes")

KIB = 1 << 10
MIB = 1 << 20
FILE = lib.UL_FILE


class End:
    """One descriptor of a test, closed once."""

    def __init__(self, fd, blocking):
        self.fd = fd
        os.set_blocking(fd, blocking)

    def close(self):
        if self.fd >= 0:
            os.close(self.fd)
        self.fd = -1


@pytest.fixture
def new_ends(resources):
    """Wraps descriptors that a test opened."""

    def factory(*descriptors, blocking=False):
        ends = [End(fd, blocking) for fd in descriptors]
        for end in ends:
            resources.callback(end.close)
        return ends

    return factory


@pytest.fixture(params=[False, True], ids=["nonblocking", "blocking"])
def any_pipe(request, new_ends):
    """Both ends of a pipe, reader first. Row 14: with O_NONBLOCK and without."""
    return new_ends(*os.pipe(), blocking=request.param)


@pytest.fixture
def pipe(new_ends):
    return new_ends(*os.pipe())


@pytest.fixture
def terminal(new_ends):
    """A pseudo-terminal in raw mode: our side and the program's side."""
    master, slave = pty.openpty()
    tty.setraw(slave)
    return new_ends(master, slave)


def write_all(fd, data):
    """Writes to a descriptor that may not block, in a thread of its own."""
    view = memoryview(data)
    while view:
        select.select([], [fd], [], LIMIT_S)
        try:
            view = view[os.write(fd, view[: 4 * KIB]) :]
        except BlockingIOError:
            continue


def read_all(fd, size):
    data = bytearray()
    while len(data) < size:
        select.select([fd], [], [], LIMIT_S)
        piece = os.read(fd, size - len(data))
        assert piece, "the end came early"
        data += piece
    return bytes(data)


# Reading


def test_pieces_of_a_pipe_come_in_order_and_then_the_end_of_file(sized_engine, any_pipe):
    reader, writer = any_pipe
    receiving = sized_engine.receive(reader.fd, FILE)
    for piece in (b"one", b"two", b"three"):
        os.write(writer.fd, piece)
        sized_engine.run_until(lambda piece=piece: receiving.data.endswith(piece))
    writer.close()
    sized_engine.finish(receiving)
    assert receiving.data == b"onetwothree"
    assert receiving.result == 0


def test_what_a_pipe_held_when_its_writer_closed_is_received(sized_engine, any_pipe):
    reader, writer = any_pipe
    os.write(writer.fd, b"x" * 20_000)
    writer.close()
    receiving = sized_engine.receive(reader.fd, FILE)
    sized_engine.finish(receiving)
    assert receiving.data == b"x" * 20_000
    assert receiving.result == 0


def test_4_mib_come_through_a_pipe_whole(sized_engine, pipe, in_thread):
    reader, writer = pipe
    data = random.Random(1).randbytes(4 * MIB)
    writing = in_thread(write_all, writer.fd, data)
    receiving = sized_engine.receive(reader.fd, FILE)
    sized_engine.run_until(lambda: sum(receiving.results) == len(data))
    writing.result(LIMIT_S)
    assert receiving.data == data


def test_a_blocking_pipe_stays_blocking_and_blocks_no_turn(engine, new_ends):
    reader, writer = new_ends(*os.pipe(), blocking=True)
    receiving = engine.receive(reader.fd, FILE)
    start = time.monotonic()
    engine.turn()
    engine.turn()
    os.write(writer.fd, b"x")
    engine.run_until(lambda: receiving.data == b"x")
    engine.turn()
    assert time.monotonic() - start < LIMIT_S
    assert os.get_blocking(reader.fd)


def test_reads_stopped_and_started_at_random_lose_nothing(sized_engine, pipe, in_thread):
    """Rows 8, 18."""
    reader, writer = pipe
    choose = random.Random(18)
    data = choose.randbytes(1 * MIB)
    writing = in_thread(write_all, writer.fd, data)
    received = bytearray()
    while len(received) < len(data):
        receiving = sized_engine.receive(reader.fd, FILE)
        for _ in range(choose.randrange(4)):
            sized_engine.turn(0.01)
        sized_engine.cancel(receiving)
        sized_engine.finish(receiving)
        assert receiving.result == -errno.ECANCELED
        received += receiving.data
    writing.result(LIMIT_S)
    assert received == data


def test_one_piece_of_a_pipe(sized_engine, any_pipe):
    reader, writer = any_pipe
    receiving = sized_engine.receive_one(reader.fd, 3, FILE)
    sized_engine.turn()
    os.write(writer.fd, b"abcdef")
    sized_engine.finish(receiving)
    assert receiving.data == b"abc"
    assert os.read(reader.fd, 100) == b"def"


def test_a_fifo_is_read_until_its_last_writer_closes(engine, new_ends, tmp_path):
    os.mkfifo(tmp_path / "fifo")
    (reader,) = new_ends(os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK))
    first, second = new_ends(*[os.open(tmp_path / "fifo", os.O_WRONLY) for _ in range(2)])
    receiving = engine.receive(reader.fd, FILE)
    os.write(first.fd, b"first")
    first.close()
    engine.run_until(lambda: receiving.data == b"first")
    engine.turn()
    os.write(second.fd, b"second")
    second.close()
    engine.finish(receiving)
    assert receiving.data == b"firstsecond"
    assert receiving.result == 0


def test_a_terminal_is_read_from_both_sides(sized_engine, terminal):
    ours, program = terminal
    both = [sized_engine.receive(end.fd, FILE) for end in (ours, program)]
    os.write(program.fd, b"to the terminal")
    os.write(ours.fd, b"typed")
    sized_engine.run_until(lambda: all(receiving.data for receiving in both))
    assert [receiving.data for receiving in both] == [b"to the terminal", b"typed"]


def test_a_terminal_without_its_program_answers_eio_after_the_last_bytes(engine, terminal):
    ours, program = terminal
    receiving = engine.receive(ours.fd, FILE)
    engine.turn()
    os.write(program.fd, b"last words")
    program.close()
    engine.finish(receiving)
    assert receiving.data == b"last words"
    assert receiving.result == -errno.EIO


def test_a_terminal_that_was_hung_up_is_at_its_end(engine, terminal):
    """Reading the program's side answers 0 then, writing EIO."""
    ours, program = terminal
    receiving = engine.receive(program.fd, FILE)
    engine.turn()
    ours.close()
    engine.finish(receiving)
    sending = engine.send(program.fd, b"lost", FILE)
    engine.finish(sending)
    assert (receiving.result, sending.result) == (0, -errno.EIO)


def test_hundreds_of_pipes_are_read_in_one_turn(sized_engine, new_ends):
    pipes = [new_ends(*os.pipe()) for _ in range(200)]
    receives = [sized_engine.receive(reader.fd, FILE) for reader, _ in pipes]
    for index, (_, writer) in enumerate(pipes):
        os.write(writer.fd, b"%d" % index * 500)
        writer.close()
    sized_engine.finish(*receives)
    assert [receiving.data for receiving in receives] == [b"%d" % i * 500 for i in range(200)]
    assert {receiving.result for receiving in receives} == {0}


def test_the_null_device_is_at_its_end(engine, new_ends):
    """epoll takes no device without poll(2)."""
    (null,) = new_ends(os.open("/dev/null", os.O_RDWR))
    receiving = engine.receive(null.fd, FILE)
    engine.finish(receiving)
    assert receiving.result == 0


def test_a_device_that_never_ends_is_read_on_and_on(sized_engine, new_ends, pair):
    """And others are served beside it."""
    (zeros,) = new_ends(os.open("/dev/zero", os.O_RDONLY))
    ours, peer = pair
    reading = sized_engine.receive(zeros.fd, FILE)
    for count in range(1, 20):
        receiving = sized_engine.receive_one(ours.fileno())
        peer.sendall(b"ping")
        sized_engine.finish(receiving)
        sized_engine.run_until(lambda count=count: len(reading.results) >= count)
    sized_engine.cancel(reading)
    sized_engine.finish(reading)
    assert reading.result == -errno.ECANCELED
    assert reading.data == bytes(sum(reading.results))


def test_a_regular_file_is_read_to_its_end(sized_engine, new_ends, tmp_path):
    (tmp_path / "file").write_bytes(b"content" * 10_000)
    (file,) = new_ends(os.open(tmp_path / "file", os.O_RDONLY))
    receiving = sized_engine.receive(file.fd, FILE)
    sized_engine.finish(receiving)
    assert receiving.data == b"content" * 10_000
    assert receiving.result == 0


def test_a_directory_answers_eisdir(engine, new_ends, tmp_path):
    (folder,) = new_ends(os.open(tmp_path, os.O_RDONLY))
    receiving = engine.receive(folder.fd, FILE)
    engine.finish(receiving)
    assert receiving.result == -errno.EISDIR


def test_a_pipe_read_at_its_writing_end_answers_ebadf(engine, pipe):
    _, writer = pipe
    receiving = engine.receive_one(writer.fd, 10, FILE)
    sending = engine.send(pipe[0].fd, b"x", FILE)
    engine.finish(sending)
    pipe[0].close()  # makes the writing end ready, with an error
    engine.finish(receiving)
    assert (receiving.result, sending.result) == (-errno.EBADF, -errno.EBADF)


# Writing


def test_a_small_message_goes_through_a_pipe(engine, any_pipe):
    reader, writer = any_pipe
    sending = engine.send(writer.fd, b"hello", FILE)
    engine.finish(sending)
    assert sending.result == 5
    assert os.read(reader.fd, 100) == b"hello"


def test_nothing_to_write_is_written_at_once(engine, any_pipe):
    _, writer = any_pipe
    for pieces in ([], [b"", b""]):
        sending = engine.send_vectored(writer.fd, pieces, FILE)
        engine.finish(sending)
        assert sending.result == 0
    sending = engine.send(writer.fd, b"", FILE)
    engine.finish(sending)
    assert sending.result == 0


def test_a_large_message_goes_through_a_pipe_whole(sized_engine, any_pipe, in_thread):
    """Far more than a pipe holds, so it is continued many times."""
    reader, writer = any_pipe
    data = random.Random(12).randbytes(4 * MIB)
    reading = in_thread(read_all, reader.fd, len(data))
    sending = sized_engine.send(writer.fd, data, FILE)
    sized_engine.finish(sending)
    assert sending.result == len(data)
    assert reading.result(LIMIT_S) == data
    assert sized_engine.shared.counters.bytes_sent == len(data)


def test_pieces_of_odd_sizes_keep_their_order(sized_engine, any_pipe, in_thread):
    reader, writer = any_pipe
    generator = random.Random(13)
    sizes = [0, 1, 7, 0, 4099, 65_537, 1, 0, 300_001, 3, 0] + [5] * 3000
    pieces = [generator.randbytes(size) for size in sizes]
    whole = b"".join(pieces)
    reading = in_thread(read_all, reader.fd, len(whole))
    sending = sized_engine.send_vectored(writer.fd, pieces, FILE)
    sized_engine.finish(sending)
    assert sending.result == len(whole)
    assert reading.result(LIMIT_S) == whole


def test_a_write_to_a_full_pipe_sleeps(engine, any_pipe):
    _, writer = any_pipe
    sending = engine.send(writer.fd, bytes(MIB), FILE)
    engine.turn()
    submissions = engine.shared.counters.submissions
    before_s = resource.getrusage(resource.RUSAGE_THREAD).ru_utime
    assert engine.turn(0.05) == []
    assert not sending.is_done
    assert engine.shared.counters.submissions - submissions <= 1
    assert resource.getrusage(resource.RUSAGE_THREAD).ru_utime - before_s < 0.04


def test_a_broken_pipe_answers_epipe(engine, any_pipe):
    """Python ignores SIGPIPE; the process lives on."""
    reader, writer = any_pipe
    reader.close()
    sends = [engine.send(writer.fd, b"lost", FILE)]
    engine.finish(*sends)
    sends.append(engine.send_vectored(writer.fd, [b"lost", b"too"], FILE))
    engine.finish(*sends)
    assert [sending.result for sending in sends] == [-errno.EPIPE] * 2
    assert [sending.final.address for sending in sends] == [0, 0]


def test_a_pipe_that_breaks_in_the_middle_tells_how_much_was_written(engine, any_pipe):
    reader, writer = any_pipe
    sending = engine.send(writer.fd, bytes(MIB), FILE)
    engine.turn()
    read = len(os.read(reader.fd, 30_000))
    engine.turn()
    engine.turn()
    reader.close()
    engine.finish(sending)
    assert sending.result == -errno.EPIPE
    assert read < sending.final.address < MIB


def test_a_cancelled_write_tells_exactly_how_much_was_written(sized_engine, any_pipe):
    reader, writer = any_pipe
    data = random.Random(15).randbytes(MIB)
    sending = sized_engine.send(writer.fd, data, FILE)
    sized_engine.turn()
    start = os.read(reader.fd, 10_000)
    sized_engine.turn()
    sized_engine.cancel(sending)
    sized_engine.finish(sending)
    assert sending.result == -errno.ECANCELED
    writer.close()
    while piece := os.read(reader.fd, MIB):
        start += piece
    assert start == data[: sending.final.address]
    assert 0 < len(start) < len(data)


def test_a_write_cancelled_in_its_own_turn_tells_how_much_was_written(engine, any_pipe):
    """Row 9."""
    reader, writer = any_pipe
    sending = engine.send(writer.fd, b"x" * MIB, FILE)
    engine.cancel(sending)
    engine.finish(sending)
    assert sending.result == -errno.ECANCELED
    writer.close()
    written = 0
    while piece := os.read(reader.fd, MIB):
        written += len(piece)
    assert written == sending.final.address


def test_both_ends_of_one_pipe_go_on_in_one_engine(sized_engine, pipe):
    reader, writer = pipe
    data = random.Random(3).randbytes(MIB)
    receiving = sized_engine.receive(reader.fd, FILE)
    sending = sized_engine.send(writer.fd, data, FILE)
    sized_engine.run_until(lambda: sending.is_done and sum(receiving.results) == MIB)
    assert sending.result == MIB
    assert receiving.data == data


def test_a_terminal_is_written_to(sized_engine, terminal, in_thread):
    ours, program = terminal
    data = bytes(range(256)) * 200
    reading = in_thread(read_all, program.fd, len(data))
    sending = sized_engine.send(ours.fd, data, FILE)
    sized_engine.finish(sending)
    assert sending.result == len(data)
    assert reading.result(LIMIT_S) == data


def test_devices_without_poll_are_written_to(engine, new_ends, tmp_path):
    null, full, file = new_ends(
        os.open("/dev/null", os.O_WRONLY),
        os.open("/dev/full", os.O_WRONLY),
        os.open(tmp_path / "file", os.O_WRONLY | os.O_CREAT),
    )
    sends = [engine.send(end.fd, b"written", FILE) for end in (null, full, file)]
    engine.finish(*sends)
    assert [sending.result for sending in sends] == [7, -errno.ENOSPC, 7]
    assert (tmp_path / "file").read_bytes() == b"written"


@pytest.mark.parametrize("fd", [-1, 19_999, 2**31 - 1])
def test_closed_descriptors_answer_ebadf(engine, fd):
    operations = [
        engine.receive(fd, FILE),
        engine.receive_one(fd, 10, FILE),
        engine.send(fd, b"x", FILE),
        engine.send_vectored(fd, [b"x"], FILE),
    ]
    engine.finish(*operations)
    assert [operation.result for operation in operations] == [-errno.EBADF] * 4


def test_a_number_closed_too_early_ends_a_read(engine, pipe):
    """Row 5: closed against the contract; the cancel still has its answer."""
    reader, _ = pipe
    receiving = engine.receive(reader.fd, FILE)
    engine.turn()
    reader.close()
    engine.cancel(receiving)
    engine.finish(receiving)
    assert receiving.result in (-errno.EBADF, -errno.ECANCELED)
