"""The echo server under test, as a child process: one loop, one mode, one address.

    python -m bench.server LOOP MODE tcp HOST PORT | unix PATH | udp HOST PORT
    python -m bench.server LOOP probe

Says on stdout where it listens and what the loop says of itself, then serves until it
is killed. `probe` only makes the loop, says so and ends. Each mode is the plainest
correct server of its kind that heeds back-pressure: what is compared is the loop.
"""

from __future__ import annotations

import asyncio
import dataclasses
import socket
import sys
from collections.abc import Awaitable, Callable
from typing import cast

from bench import loops
from bench.children import die_with_parent, say
from bench.errors import BenchError, MissingError
from bench.load import Address

BACKLOG = 4096
READ_BYTES = 256 * 1024
RECEIVE_BUFFER_BYTES = 4 * 1024 * 1024  # the kernel takes what net.core.rmem_max allows


class EchoProtocol(asyncio.Protocol):
    """Sends back what it receives; does not read while the peer does not."""

    _transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._transport.write(data)

    def pause_writing(self) -> None:
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._transport.resume_reading()


class BufferedEchoProtocol(asyncio.BufferedProtocol):
    """As EchoProtocol, receiving into a buffer of its own."""

    _transport: asyncio.Transport

    def __init__(self) -> None:
        self._buffer = memoryview(bytearray(READ_BYTES))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        # A copy: the buffer is filled again while the transport may still hold the rest.
        self._transport.write(bytes(self._buffer[:nbytes]))

    def pause_writing(self) -> None:
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._transport.resume_reading()


async def _serve_protocol(
    listener: socket.socket, protocol_factory: Callable[[], asyncio.BaseProtocol]
) -> None:
    loop = asyncio.get_running_loop()
    if listener.family == socket.AF_UNIX:
        server = await loop.create_unix_server(protocol_factory, sock=listener, backlog=BACKLOG)
    else:
        server = await loop.create_server(protocol_factory, sock=listener, backlog=BACKLOG)
    await server.serve_forever()


async def serve_protocol(listener: socket.socket) -> None:
    await _serve_protocol(listener, EchoProtocol)


async def serve_buffered(listener: socket.socket) -> None:
    await _serve_protocol(listener, BufferedEchoProtocol)


async def _echo_stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(READ_BYTES):
        writer.write(data)
        await writer.drain()
    writer.close()


async def serve_streams(listener: socket.socket) -> None:
    if listener.family == socket.AF_UNIX:
        server = await asyncio.start_unix_server(
            _echo_stream, sock=listener, limit=READ_BYTES, backlog=BACKLOG
        )
    else:
        server = await asyncio.start_server(
            _echo_stream, sock=listener, limit=READ_BYTES, backlog=BACKLOG
        )
    await server.serve_forever()


async def _echo_sock(loop: asyncio.AbstractEventLoop, sock: socket.socket) -> None:
    with sock:
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while data := await loop.sock_recv(sock, READ_BYTES):
            await loop.sock_sendall(sock, data)


async def serve_sock(listener: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    listener.listen(BACKLOG)
    tasks: set[asyncio.Task[None]] = set()
    while True:
        sock, _ = await loop.sock_accept(listener)
        task = loop.create_task(_echo_sock(loop, sock))
        tasks.add(task)
        task.add_done_callback(tasks.discard)


class EchoDatagrams(asyncio.DatagramProtocol):
    """Sends each datagram back to where it came from. A full socket is not met: nobody has
    more under way than the load."""

    _transport: asyncio.DatagramTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._transport.sendto(data, addr)


async def serve_datagrams(sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    await loop.create_datagram_endpoint(EchoDatagrams, sock=sock)
    await loop.create_future()


MODES: dict[str, Callable[[socket.socket], Awaitable[None]]] = {
    "protocol": serve_protocol,
    "buffered": serve_buffered,
    "streams": serve_streams,
    "sock": serve_sock,
    "datagram": serve_datagrams,
}


def listening_socket(address: Address) -> socket.socket:
    """Bound, listening where there are connections, and non-blocking."""
    if address[0] == "udp":
        return datagram_socket(address)
    family = socket.AF_UNIX if address[0] == "unix" else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(address[1] if address[0] == "unix" else (address[1], int(address[2])))
    listener.listen(BACKLOG)
    listener.setblocking(False)
    return listener


def datagram_socket(address: Address) -> socket.socket:
    """Bound and non-blocking, with the largest receive buffer that everybody may have."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
    sock.bind((address[1], int(address[2])))
    sock.setblocking(False)
    return sock


def address_of(listener: socket.socket) -> Address:
    name = listener.getsockname()
    if listener.family == socket.AF_UNIX:
        return ["unix", name]
    kind = "udp" if listener.type == socket.SOCK_DGRAM else "tcp"
    return [kind, name[0], str(name[1])]


def main(arguments: list[str]) -> None:
    die_with_parent()
    name, mode, *address = arguments
    try:
        loop = loops.new_event_loop(name)
    except MissingError as error:
        say({"missing": str(error)})
        return
    facts = dataclasses.asdict(loops.facts(name, loop))
    if mode == "probe":
        loop.close()
        say({"loop": facts})
        return
    if mode not in MODES:
        raise BenchError(f"no such mode: {mode}")
    with listening_socket(address) as listener:
        say({"address": address_of(listener), "loop": facts})
        asyncio.set_event_loop(loop)
        loop.run_until_complete(MODES[mode](listener))


if __name__ == "__main__":
    main(sys.argv[1:])
