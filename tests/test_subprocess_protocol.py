"""Subprocess transports and what they tell their protocol."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import os
import signal
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from children import assert_no_children
from peers import turns

PIPE, DEVNULL = subprocess.PIPE, subprocess.DEVNULL


@pytest.fixture(autouse=True)
def no_child_is_left() -> Iterator[None]:
    yield
    assert_no_children()


class Listener(asyncio.SubprocessProtocol):
    """Remembers its calls; `lost` is done with the last."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.data = {1: b"", 2: b""}
        self.exited = asyncio.get_running_loop().create_future()
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.SubprocessTransport)
        self.calls.append("made")

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self.data[fd] += data

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        self.calls.append(f"pipe {fd} lost")

    def process_exited(self) -> None:
        self.calls.append("exited")
        self.exited.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self.calls.append("lost")
        self.lost.set_result(exc)


async def test_a_protocol_hears_everything_once(loop):
    transport, protocol = await loop.subprocess_exec(Listener, "sh", "-c", "cat; echo bad >&2")
    stdin = transport.get_pipe_transport(0)
    stdin.write(b"through")
    stdin.write_eof()
    assert await protocol.lost is None
    assert protocol.data == {1: b"through", 2: b"bad\n"}
    assert protocol.calls[0] == "made"
    assert protocol.calls[-1] == "lost"
    assert sorted(protocol.calls) == sorted(
        ["made", "pipe 0 lost", "pipe 1 lost", "pipe 2 lost", "exited", "lost"]
    )
    assert transport.get_returncode() == 0
    transport.close()


async def test_close_kills_and_the_protocol_hears_of_the_end(loop):
    """uvloop 128: after close() neither came, and a zombie stayed."""
    transport, protocol = await loop.subprocess_exec(Listener, "cat")
    transport.close()
    assert transport.is_closing()
    await protocol.lost
    assert "exited" in protocol.calls
    assert transport.get_returncode() == -signal.SIGKILL


async def test_the_end_of_the_process_is_not_the_end_of_its_pipes(loop, held_pipe):
    """A grandchild holds stdout: process_exited() comes, connection_lost() waits for it."""
    script = f"cat < /proc/self/fd/{held_pipe.reader} & exit 5"
    transport, protocol = await loop.subprocess_exec(
        Listener, "sh", "-c", script, stdin=None, stderr=None, pass_fds=[held_pipe.reader]
    )
    await protocol.exited
    await turns(3)
    assert transport.get_returncode() == 5
    assert "lost" not in protocol.calls
    transport.send_signal(signal.SIGKILL)  # the process is gone, and nobody else is meant
    os.write(held_pipe.writer, b"from the grandchild")
    held_pipe.release()
    await protocol.lost
    assert protocol.data[1] == b"from the grandchild"
    transport.close()


class HeldPipe:
    """A pipe that keeps a `cat` of its reading end alive until it is released."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()

    def release(self) -> None:
        for fd in (self.reader, self.writer):
            with contextlib.suppress(OSError):
                os.close(fd)


@pytest.fixture
def held_pipe() -> Iterator[HeldPipe]:
    pipe = HeldPipe()
    yield pipe
    pipe.release()


async def test_closing_a_transport_twice_and_late_is_nothing(loop):
    transport, protocol = await loop.subprocess_exec(Listener, "true")
    await protocol.lost
    transport.close()
    transport.close()
    assert protocol.calls.count("lost") == 1


async def test_pipe_transports_know_their_pipe(loop):
    """uvloop 595."""
    transport, protocol = await loop.subprocess_exec(Listener, "cat")
    popen = transport.get_extra_info("subprocess")
    for fd, stream in enumerate((popen.stdin, popen.stdout, popen.stderr)):
        pipe = transport.get_pipe_transport(fd)
        assert pipe.get_extra_info("pipe") is stream
        assert isinstance(pipe, asyncio.WriteTransport if fd == 0 else asyncio.ReadTransport)
    assert transport.get_pipe_transport(3) is None
    transport.close()
    await protocol.lost


@pytest.mark.difference("exit_context")
async def test_callbacks_run_in_the_context_of_the_call(loop):
    mark: contextvars.ContextVar[str] = contextvars.ContextVar("mark", default="none")
    seen: list[tuple[str, str]] = []

    class Marked(Listener):
        def pipe_data_received(self, fd: int, data: bytes) -> None:
            seen.append(("data", mark.get()))

        def process_exited(self) -> None:
            seen.append(("exited", mark.get()))

        def connection_lost(self, exc: Exception | None) -> None:
            seen.append(("lost", mark.get()))
            super().connection_lost(exc)

    mark.set("caller")
    transport, protocol = await loop.subprocess_exec(Marked, "echo", stdin=None, stderr=None)
    await protocol.lost
    transport.close()
    assert sorted(seen) == [("data", "caller"), ("exited", "caller"), ("lost", "caller")]


async def test_a_large_write_pauses_the_protocol_and_resumes_it(loop):
    class Paused(Listener):
        def pause_writing(self) -> None:
            self.calls.append("pause")

        def resume_writing(self) -> None:
            self.calls.append("resume")

    transport, protocol = await loop.subprocess_exec(Paused, "cat", stdout=DEVNULL)
    stdin = transport.get_pipe_transport(0)
    stdin.write(bytes(4 << 20))
    assert protocol.calls == ["made", "pause"]
    assert stdin.get_write_buffer_size() > 64 * 1024
    stdin.close()
    await protocol.lost
    assert "resume" in protocol.calls
    assert transport.get_returncode() == 0
    transport.close()


async def test_a_transport_describes_itself(loop):
    transport, protocol = await loop.subprocess_exec(Listener, "cat")
    assert f"pid={transport.get_pid()} running stdin=<" in repr(transport)
    transport.get_pipe_transport(0).close()
    await protocol.exited
    assert "returncode=0" in repr(transport)
    await protocol.lost
    transport.close()
    assert "closed" in repr(transport)


async def test_everything_works_in_debug_mode(loop, caplog):
    loop.set_debug(True)
    loop.slow_callback_duration = 10
    process = await asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
    assert await process.communicate(b"debugged") == (b"debugged", None)
    assert process.returncode == 0
