"""connect_write_pipe: order and flow control, a reader that goes away, the end."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from pathlib import Path
from typing import Any

import pytest
from peers import in_thread, numbered_bytes, turns
from pipe_ends import (
    WRITE_KINDS,
    Ends,
    PipeRecorder,
    ends,
    read_exactly,
    read_until_eof,
    write_all,
)

PIPE_BYTES = 65536  # what a pipe holds
WARNING = "pipe closed by peer or os.write(pipe, data) raised exception."


async def connect(ours: Any, factory: Any = PipeRecorder) -> tuple[Any, Any]:
    return await asyncio.get_running_loop().connect_write_pipe(factory, ours)


@pytest.fixture
def pipe(tmp_path: Path):
    with ends("pipe", tmp_path, reads=False) as made:
        yield made


@pytest.mark.parametrize("kind", WRITE_KINDS)
async def test_what_is_written_arrives_in_order(loop, tmp_path: Path, kind: str):
    with ends(kind, tmp_path, reads=False) as each:
        transport, protocol = await connect(each.ours)
        for number in range(100):
            transport.write(b"%03d" % number)
        expected = b"".join(b"%03d" % number for number in range(100))
        assert await in_thread(read_exactly, each.theirs, 300) == expected
        transport.close()
        assert await protocol.lost is None


@pytest.mark.parametrize("kind", ["pipe", "socket"])
async def test_much_data_of_odd_sizes_arrives_whole(loop, tmp_path: Path, kind: str):
    """Row 11."""
    with ends(kind, tmp_path, reads=False) as each:
        transport, protocol = await connect(each.ours)
        reading = in_thread(read_until_eof, each.theirs)
        data = numbered_bytes(4 << 20)
        sent = 0
        size = 1
        while sent < len(data):
            transport.write(data[sent : sent + size])
            sent += size
            size = size * 3 % 70001 + 1
            if "pause" in protocol.calls and protocol.calls[-1] == "pause":
                await protocol.until(lambda: protocol.calls[-1] == "resume")
        transport.write_eof()
        assert await reading == data
        assert await protocol.lost is None


async def test_one_write_may_exceed_the_pipe_by_far(loop, pipe: Ends):
    transport, protocol = await connect(pipe.ours)
    data = numbered_bytes(8 << 20)
    transport.write(data)
    reading = in_thread(read_until_eof, pipe.theirs)
    transport.close()
    assert await reading == data
    assert await protocol.lost is None
    await turns(3)
    assert pipe.ours.closed


async def test_more_pieces_than_a_vector_holds_arrive_whole(loop, pipe: Ends):
    transport, protocol = await connect(pipe.ours)
    data = numbered_bytes(3000 * 5000)
    transport.writelines(data[start : start + 5000] for start in range(0, len(data), 5000))
    transport.writelines([])
    transport.close()
    assert await in_thread(read_until_eof, pipe.theirs) == data
    assert await protocol.lost is None


async def test_bytes_of_each_kind_can_be_written(loop, pipe: Ends):
    transport, protocol = await connect(pipe.ours)
    for piece in (b"bytes ", bytearray(b"array "), memoryview(b"view"), b"", bytearray()):
        transport.write(piece)
    for wrong in ("text", 7, None):
        with pytest.raises((TypeError, AssertionError)):
            transport.write(wrong)
    transport.close()
    assert await in_thread(read_until_eof, pipe.theirs) == b"bytes array view"
    await protocol.lost


async def test_the_caller_may_read_what_it_wrote_before_the_loop_turns(loop, pipe: Ends):
    transport, protocol = await connect(pipe.ours)
    transport.write(b"at once")
    assert os.read(pipe.theirs, 100) == b"at once"
    transport.writelines([b"and ", b"again"])
    assert os.read(pipe.theirs, 100) == b"and again"
    transport.close()
    await protocol.lost


# -- flow control --------------------------------------------------------------------------------


async def test_a_full_pipe_pauses_and_an_emptied_one_resumes(loop, pipe: Ends):
    transport, protocol = await connect(pipe.ours)
    transport.set_write_buffer_limits(high=1000, low=100)
    transport.write(bytes(PIPE_BYTES))
    assert protocol.calls == ["made"]  # it all went into the pipe
    transport.write(bytes(1000))
    assert protocol.calls == ["made"]
    transport.write(b"!")
    assert protocol.calls == ["made", "pause"]
    assert transport.get_write_buffer_size() == 1001
    transport.write(bytes(500))
    assert protocol.calls == ["made", "pause"]
    await in_thread(read_exactly, pipe.theirs, PIPE_BYTES)
    await protocol.until_called("resume")
    transport.close()
    await protocol.lost
    assert protocol.calls == ["made", "pause", "resume", "lost"]


async def test_limits_are_checked(loop, pipe: Ends):
    transport, protocol = await connect(pipe.ours)
    assert transport.get_write_buffer_limits() == (16 * 1024, 64 * 1024)
    transport.set_write_buffer_limits(high=8)
    assert transport.get_write_buffer_limits() == (2, 8)
    with pytest.raises(ValueError, match="must be >= low"):
        transport.set_write_buffer_limits(high=1, low=2)
    transport.close()
    await protocol.lost


async def test_a_stream_writer_drains_into_a_pipe(loop, pipe: Ends):
    transport, protocol = await connect(pipe.ours, asyncio.streams.FlowControlMixin)
    writer = asyncio.StreamWriter(transport, protocol, None, loop)
    reading = in_thread(read_until_eof, pipe.theirs)
    for _ in range(50):
        writer.write(bytes(50000))
        await writer.drain()
    writer.close()
    assert len(await reading) == 50 * 50000
    await turns(3)


async def test_another_protocol_may_take_over(loop, pipe: Ends):
    transport, first = await connect(pipe.ours)
    second = PipeRecorder()
    transport.set_protocol(second)
    assert transport.get_protocol() is second
    transport.close()
    await second.lost
    assert first.calls == ["made"]


# -- a reader that goes away -----------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["pipe", "fifo", "socket"])
async def test_a_reader_that_goes_away_is_noticed_while_idle(loop, tmp_path: Path, kind: str):
    with ends(kind, tmp_path, reads=False) as each:
        transport, protocol = await connect(each.ours)
        transport.write(b"read before")
        assert await in_thread(read_exactly, each.theirs, 11) == b"read before"
        each.close_theirs()
        assert await protocol.lost is None
        assert transport.is_closing()
        await turns(3)
        assert each.ours.closed


async def test_a_terminal_that_goes_away_is_noticed_by_writing(loop, tmp_path: Path):
    with ends("terminal", tmp_path, reads=False) as each:
        transport, protocol = await connect(each.ours)
        each.close_theirs()
        await turns(20)
        assert protocol.calls == ["made"]
        transport.write(b"to nobody")
        error = await protocol.lost
        assert error.errno == errno.EIO


@pytest.mark.parametrize("kind", ["pipe", "fifo", "socket"])
async def test_writing_to_nobody_is_a_broken_pipe(loop, tmp_path: Path, kind: str):
    """Written in the turn in which the reader went: the writer knows nothing yet."""
    with ends(kind, tmp_path, reads=False) as each:
        transport, protocol = await connect(each.ours)
        await turns(3)
        each.close_theirs()
        transport.write(b"to nobody")
        assert isinstance(await protocol.lost, BrokenPipeError)


async def test_what_is_still_queued_when_the_reader_goes_breaks_the_pipe(loop, pipe: Ends):
    transport, protocol = await connect(pipe.ours)
    transport.write(bytes(4 * PIPE_BYTES))
    await turns(5)
    pipe.close_theirs()
    assert isinstance(await protocol.lost, BrokenPipeError)
    assert transport.get_write_buffer_size() == 0


async def test_what_is_flushed_after_close_may_break_the_pipe_too(loop, pipe: Ends):
    transport, protocol = await connect(pipe.ours)
    transport.write(bytes(4 * PIPE_BYTES))
    transport.close()
    await turns(5)
    assert "lost" not in protocol.calls
    pipe.close_theirs()
    assert isinstance(await protocol.lost, BrokenPipeError)


async def test_writes_after_the_end_are_dropped_and_then_warned_of(loop, pipe: Ends, caplog):
    transport, protocol = await connect(pipe.ours)
    transport.close()
    await protocol.lost
    for _ in range(8):
        transport.write(b"dropped")
    assert caplog.messages == [WARNING] * 3


async def test_writes_after_a_broken_pipe_are_warned_of_one_earlier(loop, pipe: Ends, caplog):
    transport, protocol = await connect(pipe.ours)
    transport.write(bytes(4 * PIPE_BYTES))
    await turns(5)
    transport.close()
    pipe.close_theirs()
    await protocol.lost
    for _ in range(8):
        transport.write(b"dropped")
    assert set(caplog.messages) == {WARNING}
    assert len(caplog.messages) in (3, 4)  # whether poll or write found it out


@pytest.mark.difference("pipe_hears_its_socket")
async def test_what_the_peer_of_a_socket_sends_is_not_its_end(loop):
    ours, peer = socket.socketpair()
    with peer:
        transport, protocol = await connect(ours)
        peer.sendall(b"unasked")
        await turns(20)
        transport.write(b"still there")
        assert await in_thread(peer.recv, 100) == b"still there"
        peer.shutdown(socket.SHUT_WR)
        assert await protocol.lost is None


@pytest.mark.difference("pipe_hears_its_socket")
async def test_a_fifo_that_is_open_for_both_is_not_ended_by_what_it_holds(loop, tmp_path: Path):
    os.mkfifo(tmp_path / "fifo")
    with (tmp_path / "fifo").open("r+b", buffering=0) as both:
        transport, protocol = await connect(both)
        transport.write(b"to ourselves")
        await turns(20)
        assert os.read(both.fileno(), 100) == b"to ourselves"
        transport.close()
        assert await protocol.lost is None
        await turns(3)


async def test_a_terminal_is_read_and_written_through_one_descriptor(loop, tmp_path: Path):
    """What is typed does not end the writer."""
    with ends("terminal", tmp_path, reads=False) as each:
        again = os.fdopen(os.dup(each.ours.fileno()), "rb", buffering=0)
        reading, reader = await loop.connect_read_pipe(PipeRecorder, again)
        writing, writer = await connect(each.ours)
        write_all(each.theirs, b"typed")
        assert await reader.received(5) == b"typed"
        writing.write(b"shown")
        assert await in_thread(read_exactly, each.theirs, 5) == b"shown"
        assert writer.calls == ["made"]
        reading.close()
        writing.close()
        await reader.lost
        await writer.lost


# -- the end ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["close", "write_eof"])
async def test_the_end_comes_after_what_was_written(loop, pipe: Ends, end: str):
    transport, protocol = await connect(pipe.ours)
    assert transport.can_write_eof()
    transport.write(numbered_bytes(10 * PIPE_BYTES))
    getattr(transport, end)()
    assert transport.is_closing()
    transport.write(b"not this")
    getattr(transport, end)()
    assert await in_thread(read_until_eof, pipe.theirs) == numbered_bytes(10 * PIPE_BYTES)
    assert await protocol.lost is None
    assert protocol.calls[-1] == "lost"


async def test_abort_drops_what_is_queued(loop, pipe: Ends):
    transport, protocol = await connect(pipe.ours)
    transport.write(bytes(4 * PIPE_BYTES))
    await turns(5)
    transport.abort()
    assert transport.get_write_buffer_size() == 0
    assert await protocol.lost is None
    await turns(3)
    assert pipe.ours.closed
    assert len(await in_thread(read_until_eof, pipe.theirs)) <= PIPE_BYTES


@pytest.mark.difference("pipe_abort_after_close")
async def test_abort_after_close_ends_once(loop, pipe: Ends):
    transport, protocol = await connect(pipe.ours)
    transport.close()
    transport.abort()
    assert await protocol.lost is None
    transport.abort()
    await turns(3)
    assert protocol.calls == ["made", "lost"]


async def test_close_in_connection_made_ends_at_once(loop, pipe: Ends):
    class Closing(PipeRecorder):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            self.transport.write(b"hello and goodbye")
            transport.close()

    _, protocol = await connect(pipe.ours, Closing)
    assert await protocol.lost is None
    assert await in_thread(read_until_eof, pipe.theirs) == b"hello and goodbye"


async def test_connecting_that_is_cancelled_closes_the_file(loop, pipe: Ends):
    connecting = asyncio.create_task(connect(pipe.ours))
    await turns(1)
    connecting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await connecting
    assert await in_thread(read_until_eof, pipe.theirs) == b""


async def test_a_write_pipe_says_what_it_is(loop, pipe: Ends):
    transport, protocol = await connect(pipe.ours)
    fd = pipe.ours.fileno()
    assert isinstance(transport, asyncio.WriteTransport)
    assert transport.get_extra_info("pipe") is pipe.ours
    assert transport.get_extra_info("socket") is None
    assert not os.get_blocking(fd)
    assert f"fd={fd} idle bufsize=0" in repr(transport)
    transport.write(bytes(PIPE_BYTES + 100))
    await turns(3)
    assert f"fd={fd} polling bufsize=" in repr(transport)
    transport.close()
    assert "closing" in repr(transport)
    assert len(await in_thread(read_until_eof, pipe.theirs)) == PIPE_BYTES + 100
    await protocol.lost
    await turns(3)
    assert "closed" in repr(transport)


async def test_a_pipe_is_no_stream_to_the_loop(loop, pipe: Ends):
    transport, protocol = await connect(pipe.ours)
    with pytest.raises(RuntimeError, match="sendfile"):
        await loop.sendfile(transport, None, fallback=False)
    transport.close()
    await protocol.lost


async def test_debug_mode_writes_too(loop, pipe: Ends):
    loop.set_debug(True)
    loop.slow_callback_duration = 10
    transport, protocol = await connect(pipe.ours)
    transport.write(b"seen")
    assert await in_thread(read_exactly, pipe.theirs, 4) == b"seen"
    pipe.close_theirs()
    assert await protocol.lost is None
