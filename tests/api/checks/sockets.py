"""Checks: readiness of descriptors, sockets without transports, and files sent by them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
import tempfile
from collections.abc import AsyncIterator
from typing import Any, BinaryIO

from tests.api.ends import (
    Notes,
    closing,
    connect,
    file_of,
    listener,
    pair,
    refusal,
    refusal_of,
    tls_wire,
    udp_socket,
)
from tests.api.registry import Subject
from tests.peers import in_thread, numbered_bytes, recv_exactly, recv_until_eof, turns

Loop = asyncio.AbstractEventLoop

READINESS = Subject("Readiness of descriptors")
SOCKETS = Subject("Sockets without transports")
SENDFILE = Subject("Sending files")

CONTENT = numbered_bytes(300_000)
LARGE_BYTES = 4 * 1024 * 1024


@contextlib.contextmanager
def _pipe() -> Any:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb", 0) as reader, os.fdopen(writing, "wb", 0) as writer:
        yield reader, writer


class _Calls:
    """A callback that notes its arguments, and lets a program wait for so many calls."""

    def __init__(self) -> None:
        self.made: list[Any] = []
        self._event = asyncio.Event()

    def __call__(self, *args: Any) -> None:
        self.made.append(args)
        self._event.set()

    async def until(self, count: int) -> list[Any]:
        while len(self.made) < count:
            self._event.clear()
            await self._event.wait()
        return self.made[:count]


@READINESS.check("add_reader", "fd", "callback", "args")
async def a_reader_is_called_for_as_long_as_there_is_data(loop: Loop) -> Any:
    calls = _Calls()
    with _pipe() as (reader, writer):
        loop.add_reader(reader, calls, "argument")
        await turns(3)
        before = list(calls.made)
        writer.write(b"data")
        called = await calls.until(2)
        reader.read(4)
        await turns(2)  # readiness that was already found
        count = len(calls.made)
        await turns(3)
        silent = len(calls.made) == count
        return before, called, silent, loop.remove_reader(reader)


@READINESS.check("add_reader", "fd", "callback")
async def another_reader_replaces_the_first(loop: Loop) -> Any:
    first, second = _Calls(), _Calls()
    with _pipe() as (reader, writer):
        loop.add_reader(reader.fileno(), first)
        loop.add_reader(reader.fileno(), second)
        writer.write(b"data")
        called = await second.until(1)
        loop.remove_reader(reader.fileno())
        return first.made, called


@READINESS.check("add_reader", "fd")
@READINESS.check("add_writer", "fd")
async def what_cannot_be_watched_is_refused(loop: Loop) -> Any:
    with file_of(b"") as file, listener() as listening:
        transport, _ = await loop.create_connection(Notes, *listening.getsockname())
        async with closing(transport):
            fd = transport.get_extra_info("socket").fileno()
            used = refusal_of(loop.add_reader, fd, int), refusal_of(loop.add_writer, fd, int)
        return [
            [each.replace(str(fd), "FD") for each in used],
            refusal_of(loop.add_reader, file, int).partition(" ")[0],
            refusal_of(loop.add_writer, file, int).partition(" ")[0],
            refusal_of(loop.add_reader, -1, int),
            refusal_of(loop.add_writer, "no descriptor", int),
        ]


@READINESS.check("remove_reader", "fd")
@READINESS.check("remove_writer", "fd")
async def removing_says_whether_there_was_one(loop: Loop) -> Any:
    calls = _Calls()
    with pair() as (ours, peer):
        loop.add_reader(ours, calls, "readable")
        loop.add_writer(ours, calls, "writable")
        peer.send(b"data")
        answers = [loop.remove_reader(ours), loop.remove_writer(ours)]
        answers += [loop.remove_reader(ours), loop.remove_writer(ours)]
        await turns(3)
        return answers, calls.made


@READINESS.check("add_writer", "fd", "callback", "args")
async def a_writer_is_called_once_there_is_room(loop: Loop) -> Any:
    calls = _Calls()
    with pair() as (ours, peer):
        with contextlib.suppress(BlockingIOError):
            while True:
                ours.send(bytes(65536))
        loop.add_writer(ours, calls, "argument")
        await turns(3)
        before = list(calls.made)
        emptying = in_thread(recv_until_eof, peer)
        called = await calls.until(1)
        loop.remove_writer(ours)
        ours.shutdown(socket.SHUT_WR)
        await emptying
        return before, called


# -- sock_*: each waits at first, so that both ways are gone ---------------------------------


@SOCKETS.check("sock_recv", "sock", "n")
async def bytes_are_received_up_to_the_number(loop: Loop) -> Any:
    with pair() as (ours, peer):
        waiting = loop.create_task(loop.sock_recv(ours, 4))
        await turns(2)
        early = waiting.done()
        peer.send(b"hello")
        first, rest = await waiting, await loop.sock_recv(ours, 100)
        peer.shutdown(socket.SHUT_WR)
        return early, first, rest, await loop.sock_recv(ours, 100)


@SOCKETS.check("sock_recv", "sock")
async def a_socket_that_blocks_is_refused_in_debug_mode(loop: Loop) -> Any:
    with pair() as (_, blocking):
        loop.set_debug(True)
        refused = [
            await refusal(loop.sock_recv(blocking, 1)),
            await refusal(loop.sock_recv_into(blocking, bytearray(1))),
            await refusal(loop.sock_sendall(blocking, b"data")),
            await refusal(loop.sock_accept(blocking)),
            await refusal(loop.sock_connect(blocking, ("127.0.0.1", 1))),
        ]
        loop.set_debug(False)
        return refused


@SOCKETS.check("sock_recv", "n")
async def the_number_can_be_given_by_name(loop: Loop) -> Any:
    with pair() as (ours, peer):
        peer.send(b"hello")
        return await loop.sock_recv(ours, n=5)


@SOCKETS.check("sock_recv_into", "sock", "buf")
async def a_buffer_is_received_into(loop: Loop) -> Any:
    with pair() as (ours, peer):
        buffer = bytearray(8)
        waiting = loop.create_task(loop.sock_recv_into(ours, buffer))
        await turns(2)
        peer.send(b"hello")
        count = await waiting
        peer.send(b"!?")
        return count, await loop.sock_recv_into(ours, memoryview(buffer)[5:6]), bytes(buffer)


@SOCKETS.check("sock_sendall", "sock", "data")
async def all_is_sent_however_long_it_takes(loop: Loop) -> Any:
    payload = numbered_bytes(LARGE_BYTES)
    with pair() as (ours, peer):
        receiving = in_thread(recv_exactly, peer, LARGE_BYTES)
        answer = await loop.sock_sendall(ours, bytearray(payload))
        received = await receiving
        return answer, received == payload, await loop.sock_sendall(ours, b"")


@SOCKETS.check("sock_sendall", "sock")
async def sending_to_nobody_is_an_error(loop: Loop) -> Any:
    with pair() as (ours, peer):
        peer.close()
        return await refusal(loop.sock_sendall(ours, b"data"))


@SOCKETS.check("sock_connect", "sock", "address")
async def a_socket_connects_to_each_kind_of_address(loop: Loop) -> Any:
    seen = []
    for host, family in (("127.0.0.1", socket.AF_INET), ("::1", socket.AF_INET6)):
        with listener(host, family) as listening, socket.socket(family) as ours:
            ours.setblocking(False)
            answer = await loop.sock_connect(ours, listening.getsockname())
            seen.append((answer, ours.getpeername() == listening.getsockname()))
    return seen


@SOCKETS.check("sock_connect", "address")
async def a_name_is_looked_up_before_connecting(loop: Loop) -> Any:
    with listener() as listening, socket.socket() as ours:
        ours.setblocking(False)
        await loop.sock_connect(ours, ("localhost", listening.getsockname()[1]))
        return ours.getpeername() == listening.getsockname()


@SOCKETS.check("sock_connect", "sock", "address")
async def a_refused_connection_is_an_error(loop: Loop) -> Any:
    with socket.socket() as bound, socket.socket() as ours:
        bound.bind(("127.0.0.1", 0))
        ours.setblocking(False)
        return await refusal(loop.sock_connect(ours, bound.getsockname()))


@SOCKETS.check("sock_connect", "sock")
async def a_datagram_socket_gets_its_peer(loop: Loop) -> Any:
    with udp_socket() as peer, socket.socket(type=socket.SOCK_DGRAM) as ours:
        ours.setblocking(False)
        await loop.sock_connect(ours, peer.getsockname())
        return ours.getpeername() == peer.getsockname()


@SOCKETS.check("sock_accept", "sock")
async def a_connection_is_accepted(loop: Loop) -> Any:
    with listener() as listening:
        listening.setblocking(False)
        waiting = loop.create_task(loop.sock_accept(listening))
        await turns(2)
        with await in_thread(connect, listening.getsockname()) as peer:
            accepted, address = await waiting
            with accepted:
                facts = address == peer.getsockname(), accepted.gettimeout()
                return facts, os.get_inheritable(accepted.fileno())


if sys.version_info >= (3, 11):

    @SOCKETS.check("sock_recvfrom", "sock", "bufsize")
    async def a_datagram_comes_with_its_sender(loop: Loop) -> Any:
        with udp_socket() as ours, udp_socket() as peer:
            ours.setblocking(False)
            waiting = loop.create_task(loop.sock_recvfrom(ours, 4))
            await turns(2)
            peer.sendto(b"hello", ours.getsockname())
            data, address = await waiting
            peer.sendto(b"", ours.getsockname())
            empty, _ = await loop.sock_recvfrom(ours, 4)
            return data, address == peer.getsockname(), empty

    @SOCKETS.check("sock_recvfrom_into", "sock", "buf", "nbytes")
    async def a_datagram_is_received_into_a_buffer(loop: Loop) -> Any:
        with udp_socket() as ours, udp_socket() as peer:
            ours.setblocking(False)
            buffer = bytearray(8)
            waiting = loop.create_task(loop.sock_recvfrom_into(ours, buffer))
            await turns(2)
            peer.sendto(b"hello", ours.getsockname())
            count, address = await waiting
            peer.sendto(b"HELLO", ours.getsockname())
            short, _ = await loop.sock_recvfrom_into(ours, buffer, nbytes=2)
            too_many = loop.sock_recvfrom_into(ours, buffer, 9)
            peer.sendto(b"HELLO", ours.getsockname())
            refused = await refusal(too_many)
            return count, short, bytes(buffer), address == peer.getsockname(), refused

    @SOCKETS.check("sock_sendto", "sock", "data", "address")
    async def a_datagram_is_sent_to_an_address(loop: Loop) -> Any:
        with udp_socket() as ours, udp_socket() as peer:
            ours.setblocking(False)
            count = await loop.sock_sendto(ours, b"hello", peer.getsockname())
            data, sender = peer.recvfrom(100)
            too_large = await refusal(loop.sock_sendto(ours, bytes(70_000), peer.getsockname()))
            return count, data, sender == ours.getsockname(), too_large


# -- files ------------------------------------------------------------------------------------


class _Unmappable:
    """A file that is no file of the system: it must be read and sent."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.mode = "rb"

    def read(self, count: int) -> bytes:
        return self._file.read(count)

    def readinto(self, buffer: Any) -> int:
        return self._file.readinto(buffer)  # type: ignore[attr-defined]

    def seek(self, offset: int) -> int:
        return self._file.seek(offset)

    def tell(self) -> int:
        return self._file.tell()


async def _sent_by_socket(loop: Loop, wrap: Any = None, **arguments: Any) -> Any:
    """(the answer or its refusal, which bytes arrived, where the file is afterwards)"""
    with pair() as (ours, peer), file_of(CONTENT) as file:
        receiving = in_thread(recv_until_eof, peer)
        answer = await _answer(loop.sock_sendfile(ours, wrap(file) if wrap else file, **arguments))
        ours.shutdown(socket.SHUT_WR)
        return answer, _which(await receiving), file.tell()


async def _answer(awaitable: Any) -> Any:
    try:
        return await awaitable
    except Exception as error:
        return type(error).__name__


def _which(data: bytes) -> Any:
    """Where in CONTENT the bytes are: (begin, end)."""
    begin = CONTENT.find(data)
    return (begin, begin + len(data)) if data else "nothing"


@SENDFILE.check("sock_sendfile", "sock", "file")
async def a_file_is_sent_and_its_position_moved(loop: Loop) -> Any:
    return await _sent_by_socket(loop)


@SENDFILE.check("sock_sendfile", "offset", "count")
async def a_part_of_a_file_is_sent(loop: Loop) -> Any:
    return [
        await _sent_by_socket(loop, offset=100_000),
        await _sent_by_socket(loop, count=1000),
        await _sent_by_socket(loop, offset=100_000, count=1000),
        await _sent_by_socket(loop, offset=len(CONTENT) - 10, count=1000),
        await _sent_by_socket(loop, offset=len(CONTENT) + 10),
    ]


@SENDFILE.check("sock_sendfile", "offset", "count", "file")
async def a_part_that_cannot_be_is_refused(loop: Loop) -> Any:
    with pair() as (ours, _), file_of(CONTENT) as file, tempfile.TemporaryFile("w+") as text:
        return [
            await refusal(loop.sock_sendfile(ours, file, offset=-1)),
            await refusal(loop.sock_sendfile(ours, file, offset=1.5)),
            await refusal(loop.sock_sendfile(ours, file, count=0)),
            await refusal(loop.sock_sendfile(ours, file, count="1")),
            await refusal(loop.sock_sendfile(ours, text)),
        ]


@SENDFILE.check("sock_sendfile", "sock")
async def a_datagram_socket_sends_no_file(loop: Loop) -> Any:
    with socket.socket(type=socket.SOCK_DGRAM) as datagram, file_of(CONTENT) as file:
        datagram.setblocking(False)
        return await refusal(loop.sock_sendfile(datagram, file))


@SENDFILE.check("sock_sendfile", "fallback")
async def what_is_no_file_of_the_system_needs_the_fallback(loop: Loop) -> Any:
    return [
        await _sent_by_socket(loop, _Unmappable),
        await _sent_by_socket(loop, _Unmappable, offset=100_000, count=1000),
        await _sent_by_socket(loop, _Unmappable, fallback=False),
    ]


@contextlib.asynccontextmanager
async def _stream(loop: Loop) -> AsyncIterator[Any]:
    with listener() as listening:
        transport, protocol = await loop.create_connection(Notes, *listening.getsockname())
        peer, _ = listening.accept()
        with peer:
            async with closing(transport):
                yield transport, protocol, peer


async def _sent_by_transport(loop: Loop, wrap: Any = None, **arguments: Any) -> Any:
    async with _stream(loop) as (transport, _, peer):
        with file_of(CONTENT) as file:
            receiving = in_thread(recv_until_eof, peer)
            answer = await _answer(
                loop.sendfile(transport, wrap(file) if wrap else file, **arguments)
            )
            transport.write_eof()
            return answer, _which(await receiving), file.tell()


@SENDFILE.check("sendfile", "transport", "file")
async def a_file_is_sent_between_writes(loop: Loop) -> Any:
    async with _stream(loop) as (transport, _, peer):
        with file_of(CONTENT) as file:
            receiving = in_thread(recv_until_eof, peer)
            transport.write(b"before")
            count = await loop.sendfile(transport, file)
            transport.write(b"after")
            transport.close()
            received = await receiving
            return count, received == b"before" + CONTENT + b"after"


@SENDFILE.check("sendfile", "transport")
async def nothing_else_is_written_meanwhile(loop: Loop) -> Any:
    async with _stream(loop) as (transport, _, peer):
        with file_of(bytes(LARGE_BYTES)) as file:
            sending = loop.create_task(loop.sendfile(transport, file))
            await turns(2)
            refused = refusal_of(transport.write, b"meanwhile")
            await in_thread(recv_exactly, peer, LARGE_BYTES)
            return refused, await sending


@SENDFILE.check("sendfile", "transport")
async def a_closing_transport_sends_no_file(loop: Loop) -> Any:
    async with _stream(loop) as (transport, _, _):
        with file_of(CONTENT) as file:
            transport.close()
            return await refusal(loop.sendfile(transport, file))


@SENDFILE.check("sendfile", "offset", "count")
async def a_transport_sends_a_part_of_a_file(loop: Loop) -> Any:
    return [
        await _sent_by_transport(loop),
        await _sent_by_transport(loop, offset=100_000),
        await _sent_by_transport(loop, count=1000),
        await _sent_by_transport(loop, offset=100_000, count=1000),
        await _sent_by_transport(loop, offset=len(CONTENT) + 10),
        await _sent_by_transport(loop, offset=-1),
        await _sent_by_transport(loop, count=0),
    ]


@SENDFILE.check("sendfile", "fallback")
async def a_transport_too_needs_the_fallback(loop: Loop) -> Any:
    return [
        await _sent_by_transport(loop, _Unmappable),
        await _sent_by_transport(loop, _Unmappable, offset=100_000, count=1000),
        await _sent_by_transport(loop, _Unmappable, fallback=False),
    ]


@SENDFILE.check("sendfile", "transport", "fallback")
async def over_tls_a_file_goes_by_the_fallback(loop: Loop) -> Any:
    async with tls_wire() as link:
        with file_of(CONTENT) as file:
            receiving = in_thread(recv_exactly, link.peer, 100_000)
            refused = await refusal(loop.sendfile(link.transport, file, fallback=False))
            count = await loop.sendfile(link.transport, file, 100_000, 100_000)
            return refused, count, _which(await receiving), file.tell()
