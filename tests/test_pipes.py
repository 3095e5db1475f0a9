"""connect_read_pipe: what arrives, pausing, the end, errors; test_write_pipes.py has writing."""

from __future__ import annotations

import asyncio
import contextvars
import errno
import gc
import io
import os
import warnings
from pathlib import Path
from typing import Any

import pytest
from loops import LoopFactory
from peers import in_thread, numbered_bytes, turns
from pipe_ends import READ_KINDS, Ends, PipeRecorder, ends, write_all


async def connect(ours: Any, factory: Any = PipeRecorder) -> tuple[Any, Any]:
    return await asyncio.get_running_loop().connect_read_pipe(factory, ours)


@pytest.fixture
def pipe(tmp_path: Path):
    with ends("pipe", tmp_path, reads=True) as made:
        yield made


@pytest.mark.parametrize("kind", READ_KINDS)
async def test_what_is_written_arrives(loop, tmp_path: Path, kind: str):
    with ends(kind, tmp_path, reads=True) as each:
        transport, protocol = await connect(each.ours)
        for text in (b"one", b"two"):
            os.write(each.theirs, text)
            await protocol.until(lambda text=text: protocol.data.endswith(text))
        assert protocol.data == b"onetwo"
        assert not os.get_blocking(each.ours.fileno())
        transport.close()
        assert await protocol.lost is None
    assert "eof" not in protocol.calls


@pytest.mark.parametrize("kind", ["pipe", "fifo", "socket"])
async def test_large_pieces_arrive_one_after_the_other(loop, tmp_path: Path, kind: str):
    """As large as a pipe holds: a stream would receive them in another way."""
    payload = numbered_bytes(60_000)
    with ends(kind, tmp_path, reads=True) as each:
        transport, protocol = await connect(each.ours)
        for count in range(1, 8):
            write_all(each.theirs, payload)
            await protocol.until(lambda count=count: len(protocol.data) >= count * len(payload))
        assert protocol.data == payload * 7
        transport.close()
        assert await protocol.lost is None


@pytest.mark.parametrize("kind", ["pipe", "fifo", "socket"])
async def test_the_end_is_told_and_closes(loop, tmp_path: Path, kind: str):
    """Whatever eof_received() answers."""
    with ends(kind, tmp_path, reads=True) as each:
        transport, protocol = await connect(each.ours)
        protocol.keep_open = True
        os.write(each.theirs, b"last words")
        each.close_theirs()
        assert await protocol.lost is None
        assert protocol.data == b"last words"
        assert protocol.calls == ["made", "data", "eof", "lost"]
        assert transport.is_closing()
        await turns(3)
        assert each.ours.closed


@pytest.mark.parametrize("kind", ["pipe", "socket"])
async def test_much_data_arrives_whole(loop, tmp_path: Path, kind: str):
    data = numbered_bytes(8 << 20)
    with ends(kind, tmp_path, reads=True) as each:
        _, protocol = await connect(each.ours)
        writing = in_thread(write_all, each.theirs, data)
        assert await protocol.received(len(data)) == data
        await writing
        each.close_theirs()
        await protocol.lost


async def test_a_fifo_waits_for_its_first_writer(loop, tmp_path: Path):
    os.mkfifo(tmp_path / "fifo")
    reader = os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    _, protocol = await connect(io.FileIO(reader, "rb"))
    await turns(20)
    assert protocol.calls == ["made"]
    writer = os.open(tmp_path / "fifo", os.O_WRONLY)
    os.write(writer, b"late")
    assert await protocol.received(4) == b"late"
    os.close(writer)
    await protocol.lost
    assert protocol.calls == ["made", "data", "eof", "lost"]


async def test_a_terminal_that_hangs_up_ends_with_eio_and_without_a_report(loop, tmp_path: Path):
    with ends("terminal", tmp_path, reads=True) as each:
        slave = os.dup(each.ours.fileno())
        each.ours.close()
        master, each.theirs = each.theirs, slave
        _, protocol = await connect(io.FileIO(master, "rb"))
        os.write(slave, b"typed")
        assert await protocol.received(5) == b"typed"
        each.close_theirs()
        error = await protocol.lost
        assert isinstance(error, OSError)
        assert error.errno == errno.EIO
        assert "eof" not in protocol.calls


async def test_an_error_of_reading_is_reported(loop, tmp_path: Path, reported):
    """The writing end of a pipe cannot be read."""
    with ends("pipe", tmp_path, reads=False) as each:
        each.close_theirs()
        transport, protocol = await connect(each.ours)
        error = await protocol.lost
        assert error.errno == errno.EBADF
        (report,) = reported
        reported.clear()
        assert report["message"] == "Fatal read error on pipe transport"
        assert report["exception"] is error
        assert report["transport"] is transport


@pytest.mark.parametrize("direction", ["read", "write"])
async def test_files_and_folders_are_refused_and_stay_open(loop, tmp_path: Path, direction: str):
    method = getattr(loop, f"connect_{direction}_pipe")
    with (tmp_path / "file").open("wb") as file:
        with pytest.raises(ValueError, match="Pipe transport is"):
            await method(PipeRecorder, file)
        gc.collect()
        assert not file.closed
        assert os.get_blocking(file.fileno())


# -- pausing -----------------------------------------------------------------------------------


async def test_a_paused_pipe_delivers_when_it_is_resumed(loop, pipe: Ends):
    transport, protocol = await connect(pipe.ours)
    transport.pause_reading()
    transport.pause_reading()  # again is nothing
    os.write(pipe.theirs, b"held")
    await turns(20)
    assert protocol.data == b""
    transport.resume_reading()
    transport.resume_reading()
    assert await protocol.received(4) == b"held"
    transport.close()
    await protocol.lost


@pytest.mark.difference("pipe_is_reading")
async def test_a_pipe_knows_whether_it_reads(loop, pipe: Ends):
    transport, protocol = await connect(pipe.ours)
    assert transport.is_reading()
    transport.pause_reading()
    assert not transport.is_reading()
    transport.resume_reading()
    assert transport.is_reading()
    transport.close()
    assert not transport.is_reading()
    await protocol.lost


async def test_a_pipe_that_is_paused_for_a_while_leaves_what_comes_to_others(loop, pipe: Ends):
    """A terminal may be handed to a child meanwhile."""
    transport, protocol = await connect(pipe.ours)
    await turns(3)
    transport.pause_reading()
    await turns(3)
    os.write(pipe.theirs, b"for somebody else")
    await turns(5)
    assert os.read(pipe.ours.fileno(), 100) == b"for somebody else"
    transport.resume_reading()
    os.write(pipe.theirs, b"for us")
    assert await protocol.received(6) == b"for us"
    transport.close()
    await protocol.lost


async def test_an_end_that_comes_while_paused_is_told_when_resumed(loop, pipe: Ends):
    transport, protocol = await connect(pipe.ours)
    transport.pause_reading()
    os.write(pipe.theirs, b"before the end")
    pipe.close_theirs()
    await turns(20)
    assert protocol.calls == ["made"]
    transport.resume_reading()
    assert await protocol.lost is None
    assert protocol.data == b"before the end"
    assert protocol.calls[-2:] == ["eof", "lost"]


async def test_pausing_at_each_piece_loses_nothing(loop, pipe: Ends):
    """Row 18."""

    class Hesitant(PipeRecorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.transport.pause_reading()
            loop.call_soon(self.transport.resume_reading)

    data = numbered_bytes(2 << 20)
    _, protocol = await connect(pipe.ours, Hesitant)
    writing = in_thread(write_all, pipe.theirs, data)
    assert await protocol.received(len(data)) == data
    await writing
    pipe.close_theirs()
    await protocol.lost


@pytest.mark.difference("pause_in_connection_made")
async def test_reading_may_be_paused_in_connection_made(loop, pipe: Ends):
    class Paused(PipeRecorder):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            self.transport.pause_reading()

    os.write(pipe.theirs, b"early")
    transport, protocol = await connect(pipe.ours, Paused)
    await turns(10)
    assert protocol.data == b""
    transport.resume_reading()
    assert await protocol.received(5) == b"early"
    transport.close()
    await protocol.lost


# -- closing -----------------------------------------------------------------------------------


async def test_close_drops_what_arrives_and_closes_the_file(loop, pipe: Ends):
    transport, protocol = await connect(pipe.ours)
    os.write(pipe.theirs, b"too late")
    transport.close()
    transport.close()
    assert transport.is_closing()
    transport.resume_reading()
    assert await protocol.lost is None
    await turns(3)
    assert protocol.calls == ["made", "lost"]
    assert pipe.ours.closed


@pytest.mark.difference("pipe_closed_in_connection_made")
async def test_close_in_connection_made_reads_nothing(loop, pipe: Ends):
    class Closing(PipeRecorder):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            transport.close()

    os.write(pipe.theirs, b"unread")
    _, protocol = await connect(pipe.ours, Closing)
    assert await protocol.lost is None
    assert protocol.calls == ["made", "lost"]


async def test_connecting_that_is_cancelled_closes_the_file(loop, pipe: Ends):
    connecting = asyncio.create_task(connect(pipe.ours))
    await turns(1)
    connecting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await connecting
    await turns(4)
    assert pipe.ours.closed


@pytest.mark.parametrize("direction", ["read", "write"])
def test_a_transport_that_is_forgotten_warns_and_closes_its_file(
    new_loop: LoopFactory, tmp_path: Path, direction: str
):
    loop = new_loop()
    with ends("pipe", tmp_path, reads=direction == "read") as each:
        method = getattr(loop, f"connect_{direction}_pipe")
        transport, protocol = loop.run_until_complete(method(asyncio.Protocol, each.ours))
        loop.close()
        heard: list[str] = []
        with warnings.catch_warnings():
            warnings.simplefilter("always", ResourceWarning)
            warnings.showwarning = lambda message, *_: heard.append(str(message))
            del transport, protocol
            gc.collect()
        assert any(each.startswith("unclosed transport <") for each in heard)
        assert each.ours.closed


@pytest.mark.difference("pipe_that_does_not_close")
async def test_what_closing_the_file_raises_is_reported(loop, pipe: Ends, reported):
    class Stubborn:
        def fileno(self) -> int:
            return pipe.ours.fileno()

        def close(self) -> None:
            raise OSError("not me")

    transport, protocol = await connect(Stubborn())
    transport.close()
    await protocol.lost
    await turns(3)
    (report,) = reported
    reported.clear()
    assert str(report["exception"]) == "not me"


# -- protocols ---------------------------------------------------------------------------------


async def test_a_protocol_that_fails_is_reported_and_keeps_its_pipe(loop, pipe: Ends, reported):
    class Failing(PipeRecorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if data == b"bad":
                raise ValueError("of the protocol")

    transport, protocol = await connect(pipe.ours, Failing)
    os.write(pipe.theirs, b"bad")
    await protocol.received(3)
    await turns(3)
    os.write(pipe.theirs, b"good")
    assert await protocol.received(7) == b"badgood"
    assert [str(report["exception"]) for report in reported] == ["of the protocol"]
    reported.clear()
    transport.close()
    await protocol.lost


async def test_eof_received_that_fails_is_reported_and_the_pipe_closes(loop, pipe: Ends, reported):
    class Failing(PipeRecorder):
        def eof_received(self) -> bool | None:
            raise ValueError("of the protocol")

    _, protocol = await connect(pipe.ours, Failing)
    pipe.close_theirs()
    assert await protocol.lost is None
    assert [str(report["exception"]) for report in reported] == ["of the protocol"]
    reported.clear()


async def test_connection_made_that_fails_is_reported(loop, pipe: Ends, reported):
    class Failing(PipeRecorder):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            raise ValueError("of the protocol")

    transport, protocol = await connect(pipe.ours, Failing)
    assert [str(report["exception"]) for report in reported] == ["of the protocol"]
    reported.clear()
    os.write(pipe.theirs, b"all the same")
    await protocol.received(12)
    transport.close()
    await protocol.lost


async def test_another_protocol_may_take_over(loop, pipe: Ends):
    transport, first = await connect(pipe.ours)
    os.write(pipe.theirs, b"first")
    await first.received(5)
    second = PipeRecorder()
    transport.set_protocol(second)
    assert transport.get_protocol() is second
    os.write(pipe.theirs, b"second")
    assert await second.received(6) == b"second"
    pipe.close_theirs()
    await second.lost
    assert first.calls == ["made", "data"]


async def test_a_buffered_protocol_is_given_bytes(loop, pipe: Ends):
    """asyncio's pipes know data_received() only."""

    class Both(PipeRecorder, asyncio.BufferedProtocol):
        def get_buffer(self, sizehint: int) -> bytearray:
            raise AssertionError

        def buffer_updated(self, nbytes: int) -> None:
            raise AssertionError

    transport, protocol = await connect(pipe.ours, Both)
    os.write(pipe.theirs, b"bytes")
    assert await protocol.received(5) == b"bytes"
    transport.close()
    await protocol.lost


async def test_a_stream_reader_reads_a_pipe(loop, pipe: Ends):
    reader = asyncio.StreamReader()
    transport, _ = await connect(pipe.ours, lambda: asyncio.StreamReaderProtocol(reader))
    os.write(pipe.theirs, b"a line\nand the rest")
    assert await reader.readline() == b"a line\n"
    pipe.close_theirs()
    assert await reader.read() == b"and the rest"
    transport.close()


async def test_callbacks_run_in_the_context_of_the_call(loop, pipe: Ends):
    mark: contextvars.ContextVar[str] = contextvars.ContextVar("mark", default="none")
    seen: list[str] = []

    class Marked(PipeRecorder):
        def _note(self, call: str) -> None:
            seen.append(f"{call} {mark.get()}")
            super()._note(call)

    mark.set("caller")
    _, protocol = await connect(pipe.ours, Marked)
    os.write(pipe.theirs, b"data")
    await protocol.received(4)
    pipe.close_theirs()
    await protocol.lost
    assert seen == ["made caller", "data caller", "eof caller", "lost caller"]


async def test_a_read_pipe_says_what_it_is(loop, pipe: Ends):
    transport, protocol = await connect(pipe.ours)
    await turns(2)
    fd = pipe.ours.fileno()
    assert isinstance(transport, asyncio.ReadTransport)
    assert not isinstance(transport, asyncio.WriteTransport)
    assert transport.get_extra_info("pipe") is pipe.ours
    assert transport.get_extra_info("socket") is None
    assert transport.get_extra_info("nothing", 7) == 7
    assert f"fd={fd} polling" in repr(transport)
    transport.pause_reading()
    assert f"fd={fd} idle" in repr(transport)
    transport.close()
    assert "closing" in repr(transport)
    await protocol.lost
    await turns(3)
    assert "closed" in repr(transport)


async def test_debug_mode_reads_too(loop, pipe: Ends, caplog):
    loop.set_debug(True)
    loop.slow_callback_duration = 10
    _, protocol = await connect(pipe.ours)
    os.write(pipe.theirs, b"seen")
    await protocol.received(4)
    pipe.close_theirs()
    await protocol.lost
