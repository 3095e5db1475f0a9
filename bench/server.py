"""The echo server under test, as a child process: one loop, one mode, one address.

    python -m bench.server LOOP MODE tcp HOST PORT | unix PATH | udp HOST PORT
    python -m bench.server LOOP MODE tls HOST PORT CERTIFICATE_FILE
    python -m bench.server LOOP probe

Says on stdout where it listens and what the loop says of itself, then serves until it
is killed. `probe` only makes the loop, says so and ends. Each mode is the plainest
correct server of its kind that heeds back-pressure: what is compared is the loop.
"""

from __future__ import annotations

import asyncio
import dataclasses
import resource
import socket
import ssl
import sys
from collections.abc import Awaitable, Callable
from typing import cast

from bench import loops
from bench.children import die_with_parent, say
from bench.errors import BenchError, MissingError
from bench.load import Address

BACKLOG = 4096
READ_BYTES = 256 * 1024
PIECE_BYTES = 128  # a header and a body, written one after the other
HEADER_BYTES = 32
RECEIVE_BUFFER_BYTES = 4 * 1024 * 1024  # the kernel takes what net.core.rmem_max allows


Tls = ssl.SSLContext | None
Serve = Callable[[socket.socket, Tls], Awaitable[None]]


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


class TwoWritesProtocol(EchoProtocol):
    """As EchoProtocol, but each PIECE_BYTES are written as a header and a body, as a server
    does that has both in hand and does not join them."""

    def data_received(self, data: bytes) -> None:
        for start in range(0, len(data), PIECE_BYTES):
            self._transport.write(data[start : start + HEADER_BYTES])
            self._transport.write(data[start + HEADER_BYTES : start + PIECE_BYTES])


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


async def keep_serving(server: asyncio.AbstractServer) -> None:
    """Holds the server for ever. Its serve_forever() would start it again, and rloop 0.5, when
    started twice, refuses connections."""
    await asyncio.get_running_loop().create_future()


def server_of(protocol_factory: Callable[[], asyncio.BaseProtocol]) -> Serve:
    async def serve(listener: socket.socket, tls: Tls) -> None:
        loop = asyncio.get_running_loop()
        create = loop.create_server
        if listener.family == socket.AF_UNIX:
            create = loop.create_unix_server
        server = await create(protocol_factory, sock=listener, ssl=tls, backlog=BACKLOG)
        await keep_serving(server)

    return serve


async def _echo_stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(READ_BYTES):
        writer.write(data)
        await writer.drain()
    writer.close()


async def serve_streams(listener: socket.socket, tls: Tls) -> None:
    start = asyncio.start_server
    if listener.family == socket.AF_UNIX:
        start = asyncio.start_unix_server
    server = await start(_echo_stream, sock=listener, ssl=tls, limit=READ_BYTES, backlog=BACKLOG)
    await keep_serving(server)


async def _echo_sock(loop: asyncio.AbstractEventLoop, sock: socket.socket) -> None:
    with sock:
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while data := await loop.sock_recv(sock, READ_BYTES):
            await loop.sock_sendall(sock, data)


async def serve_sock(listener: socket.socket, tls: Tls) -> None:
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


async def serve_datagrams(sock: socket.socket, tls: Tls) -> None:
    loop = asyncio.get_running_loop()
    await loop.create_datagram_endpoint(EchoDatagrams, sock=sock)
    await loop.create_future()


MODES: dict[str, Serve] = {
    "protocol": server_of(EchoProtocol),
    "two-writes": server_of(TwoWritesProtocol),
    "buffered": server_of(BufferedEchoProtocol),
    "streams": serve_streams,
    "sock": serve_sock,
    "datagram": serve_datagrams,
}
WITHOUT_TLS = ("sock", "datagram")


def listening_socket(address: Address) -> socket.socket:
    """Bound, listening where there are connections, and non-blocking."""
    if address[0] == "udp":
        return datagram_socket(address)
    if address[0] == "unix":
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    else:  # named as TCP, as getaddrinfo() does: asyncio sets TCP_NODELAY only then
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
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


def tls_context(address: Address) -> Tls:
    """Of the certificate and key that the address names, at TLS 1.3, as the load speaks it."""
    if address[0] != "tls":
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(address[3])
    return context


def raise_descriptor_limit() -> None:
    """To what this process may ever have: the shell's usual limit is 1024."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def main(arguments: list[str]) -> None:
    die_with_parent()
    raise_descriptor_limit()
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
    if mode not in MODES or (address[0] == "tls" and mode in WITHOUT_TLS):
        raise BenchError(f"no such mode: {mode} over {address[0]}")
    tls = tls_context(address)
    with listening_socket(address) as listener:
        say({"address": address_of(listener), "loop": facts})
        asyncio.set_event_loop(loop)
        loop.run_until_complete(MODES[mode](listener, tls))


if __name__ == "__main__":
    main(sys.argv[1:])
