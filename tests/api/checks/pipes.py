"""Checks: pipes, FIFOs and other descriptors as transports."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from typing import Any

from tests.api.ends import Notes, file_of, folder, read_pipe, refusal, refusal_of, write_pipe
from tests.api.registry import Subject
from tests.peers import in_thread, turns

Loop = asyncio.AbstractEventLoop

PIPES = Subject("Pipes")

PIECE = bytes(64 * 1024)  # as much as a pipe holds by default


@PIPES.check("connect_read_pipe", "protocol_factory", "pipe")
async def a_pipe_is_read_to_its_end(loop: Loop) -> Any:
    async with read_pipe() as link:
        link.peer.write(b"hello")
        received = await link.protocol.received(5)
        link.peer.close()
        return received, await link.protocol.lost, link.protocol.calls


@PIPES.check("connect_read_pipe", "pipe")
async def a_fifo_and_a_socket_are_read_like_a_pipe(loop: Loop) -> Any:
    seen = []
    with folder() as place:
        os.mkfifo(place / "fifo")
        fifo = os.open(place / "fifo", os.O_RDWR)
        sock, peer = socket.socketpair()
        with os.fdopen(fifo, "r+b", 0) as writer, peer:
            for pipe, send in (
                (os.fdopen(os.open(place / "fifo", os.O_RDONLY), "rb", 0), writer.write),
                (sock, peer.send),
            ):
                transport, protocol = await loop.connect_read_pipe(Notes, pipe)
                send(b"hello")
                seen.append(await protocol.received(5))
                transport.close()
                await protocol.lost
    return seen


@PIPES.check("connect_read_pipe", "pipe")
@PIPES.check("connect_write_pipe", "pipe")
async def a_file_is_no_pipe(loop: Loop) -> Any:
    with file_of(b"") as file:
        return [
            await refusal(loop.connect_read_pipe(Notes, file)),
            await refusal(loop.connect_write_pipe(Notes, file)),
        ]


@PIPES.check("connect_write_pipe", "protocol_factory", "pipe")
async def a_pipe_is_written_to(loop: Loop) -> Any:
    async with write_pipe() as link:
        link.transport.write(b"hello")
        received = await in_thread(link.peer.read, 5)
        return received, type(link.transport.get_extra_info("pipe")).__name__


@PIPES.check("connect_write_pipe", "pipe")
async def the_end_of_the_reader_ends_the_writer(loop: Loop) -> Any:
    async with write_pipe() as link:
        link.peer.close()
        lost = await link.protocol.lost
        return lost if lost is None else type(lost).__name__, link.protocol.calls


@PIPES.check("connect_write_pipe", "pipe")
async def a_socket_and_a_device_are_written_like_a_pipe(loop: Loop) -> Any:
    seen: list[Any] = []
    sock, peer = socket.socketpair()
    with peer:
        for pipe in (sock, os.fdopen(os.open(os.devnull, os.O_WRONLY), "wb", 0)):
            transport, protocol = await loop.connect_write_pipe(Notes, pipe)
            transport.write(b"hello")
            transport.close()
            seen.append(await protocol.lost)
        seen.append(await in_thread(peer.recv, 100))
    return seen


# -- ReadTransport ----------------------------------------------------------------------------


@PIPES.check("ReadTransport.get_extra_info", "name", "default")
async def a_read_transport_knows_its_pipe(loop: Loop) -> Any:
    async with read_pipe() as link:
        info = link.transport.get_extra_info
        return type(info("pipe")).__name__, info("nothing"), info("nothing", "default")


@PIPES.check("ReadTransport.set_protocol", "protocol")
@PIPES.check("ReadTransport.get_protocol")
async def another_protocol_reads_on(loop: Loop) -> Any:
    async with read_pipe() as link:
        second = Notes()
        was = link.transport.get_protocol() is link.protocol
        link.transport.set_protocol(second)
        link.peer.write(b"hello")
        received = await second.received(5)
        return was, link.transport.get_protocol() is second, received, bytes(link.protocol.data)


if sys.version_info >= (3, 11):

    @PIPES.check("ReadTransport.is_reading")
    async def a_pipe_is_read_unless_paused(loop: Loop) -> Any:
        async with read_pipe() as link:
            states = [link.transport.is_reading()]
            link.transport.pause_reading()
            states.append(link.transport.is_reading())
            link.transport.resume_reading()
            return [*states, link.transport.is_reading()]


@PIPES.check("ReadTransport.pause_reading")
@PIPES.check("ReadTransport.resume_reading")
async def a_paused_pipe_delivers_nothing_until_resumed(loop: Loop) -> Any:
    async with read_pipe() as link:
        link.transport.pause_reading()
        link.peer.write(b"hello")
        await turns(5)
        while_paused = bytes(link.protocol.data)
        link.transport.resume_reading()
        return while_paused, await link.protocol.received(5)


@PIPES.check("ReadTransport.is_closing")
@PIPES.check("ReadTransport.close")
async def close_ends_a_reading_pipe(loop: Loop) -> Any:
    async with read_pipe() as link:
        before = link.transport.is_closing()
        link.transport.close()
        link.transport.close()
        after = link.transport.is_closing()
        lost = await link.protocol.lost
        broken = await refusal(in_thread(link.peer.write, b"too late"))
        return before, after, lost, link.protocol.calls, broken


# -- WriteTransport ---------------------------------------------------------------------------


@PIPES.check("WriteTransport.get_extra_info", "name", "default")
async def a_write_transport_knows_its_pipe(loop: Loop) -> Any:
    async with write_pipe() as link:
        info = link.transport.get_extra_info
        return type(info("pipe")).__name__, info("nothing"), info("nothing", "default")


@PIPES.check("WriteTransport.set_protocol", "protocol")
@PIPES.check("WriteTransport.get_protocol")
async def another_protocol_hears_of_the_end(loop: Loop) -> Any:
    async with write_pipe() as link:
        second = Notes()
        was = link.transport.get_protocol() is link.protocol
        link.transport.set_protocol(second)
        now = link.transport.get_protocol() is second
        link.transport.close()
        return was, now, await second.lost, link.protocol.calls


@PIPES.check("WriteTransport.write", "data")
async def a_pipe_takes_bytes_like_objects(loop: Loop) -> Any:
    async with write_pipe() as link:
        for data in (b"bytes ", bytearray(b"bytearray "), memoryview(b"memoryview "), b"", b"end"):
            link.transport.write(data)
        return await in_thread(_read_exactly, link.peer, 30)


@PIPES.check("WriteTransport.writelines", "list_of_data")
async def a_pipe_takes_pieces_in_order(loop: Loop) -> Any:
    async with write_pipe() as link:
        link.transport.writelines([b"one ", b"two ", b"three"])
        return await in_thread(_read_exactly, link.peer, 13)


@PIPES.check("WriteTransport.get_write_buffer_limits")
@PIPES.check("WriteTransport.set_write_buffer_limits", "high", "low")
async def write_limits_of_pipes_follow_from_each_other(loop: Loop) -> Any:
    async with write_pipe() as link:
        seen = [link.transport.get_write_buffer_limits()]
        for arguments in ({"high": 1000}, {"low": 100}, {"high": 9, "low": 3}, {"high": 0}, {}):
            link.transport.set_write_buffer_limits(**arguments)
            seen.append(link.transport.get_write_buffer_limits())
        return seen, refusal_of(link.transport.set_write_buffer_limits, high=1, low=2)


@PIPES.check("WriteTransport.get_write_buffer_size")
@PIPES.check("WriteTransport.set_write_buffer_limits", "high", "low")
async def a_full_pipe_makes_the_protocol_wait(loop: Loop) -> Any:
    async with write_pipe() as link:
        link.transport.set_write_buffer_limits(high=1000, low=0)
        sizes = [link.transport.get_write_buffer_size()]
        for _ in range(4):
            link.transport.write(PIECE)
        waiting = link.transport.get_write_buffer_size() > 1000
        await in_thread(_read_exactly, link.peer, 4 * len(PIECE))
        await link.protocol.until_called("resume")
        sizes.append(link.transport.get_write_buffer_size())
        return waiting, sizes, link.protocol.calls


def _read_exactly(file: Any, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        piece = file.read(count - len(data))
        if not piece:
            raise EOFError(f"{len(data)} of {count} bytes")
        data += piece
    return bytes(data)


@PIPES.check("WriteTransport.can_write_eof")
@PIPES.check("WriteTransport.write_eof")
async def the_end_of_file_closes_a_pipe(loop: Loop) -> Any:
    async with write_pipe() as link:
        link.transport.write(b"the end")
        link.transport.write_eof()
        closing = link.transport.is_closing()
        received = await in_thread(link.peer.read)
        return link.transport.can_write_eof(), closing, received, await link.protocol.lost


@PIPES.check("WriteTransport.is_closing")
@PIPES.check("WriteTransport.close")
async def close_sends_what_a_pipe_has_not_taken(loop: Loop) -> Any:
    async with write_pipe() as link:
        before = link.transport.is_closing()
        for _ in range(4):
            link.transport.write(PIECE)
        link.transport.close()
        link.transport.close()
        after = link.transport.is_closing()
        received = await in_thread(link.peer.readall)
        lost = await link.protocol.lost
        return before, after, len(received) == 4 * len(PIECE), lost, link.protocol.calls


@PIPES.check("WriteTransport.abort")
async def abort_drops_what_a_pipe_has_not_taken(loop: Loop) -> Any:
    async with write_pipe() as link:
        for _ in range(4):
            link.transport.write(PIECE)
        link.transport.abort()
        lost = await link.protocol.lost
        received = await in_thread(link.peer.readall)
        return len(received) < 4 * len(PIECE), lost, link.transport.is_closing()
