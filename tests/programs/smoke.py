"""One of everything on one loop: echo by streams, TLS, UDP, a child, a thread, a timer. For
programs that prepare their process first; or run as a program, on the loop that the
environment asks for."""

import asyncio
import socket
import ssl
import sys
import warnings
from asyncio.subprocess import PIPE

from certificates import HOST, contexts

MESSAGE = b"message" * 20_000
LIMIT_S = 40

if sys.version_info < (3, 11):  # whose SSLProtocol complains of what the peer has closed
    warnings.filterwarnings("ignore", "unclosed transport <asyncio.sslproto", ResourceWarning)


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(await reader.readexactly(len(MESSAGE)))
    await writer.drain()
    writer.close()
    await writer.wait_closed()


async def echo(
    server_context: ssl.SSLContext | None, client_context: ssl.SSLContext | None
) -> None:
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=server_context)
    reader, writer = await asyncio.open_connection(
        *server.sockets[0].getsockname(),
        ssl=client_context,
        server_hostname=HOST if client_context else None,
    )
    writer.write(MESSAGE)
    assert await reader.read(-1) == MESSAGE
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()


class Datagrams(asyncio.DatagramProtocol):
    """Echoes, or keeps what it got."""

    def __init__(self, received: "asyncio.Future[bytes] | None" = None) -> None:
        self._received = received

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        if self._received is None:
            self._transport.sendto(data, address)
        else:
            self._received.set_result(data)


async def datagram() -> None:
    loop = asyncio.get_running_loop()
    received = loop.create_future()
    server, _ = await loop.create_datagram_endpoint(Datagrams, ("127.0.0.1", 0))
    client, _ = await loop.create_datagram_endpoint(
        lambda: Datagrams(received), remote_addr=server.get_extra_info("sockname")
    )
    client.sendto(b"datagram")
    assert await received == b"datagram"
    client.close()
    server.close()


async def child() -> None:
    process = await asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
    assert await process.communicate(MESSAGE) == (MESSAGE, None)
    assert process.returncode == 0


async def pair() -> None:
    loop = asyncio.get_running_loop()
    ours, peer = socket.socketpair()
    with ours, peer:
        ours.setblocking(False)
        peer.setblocking(False)
        receiving = asyncio.ensure_future(loop.sock_recv(peer, 100))
        await asyncio.sleep(0.001)
        await loop.sock_sendall(ours, b"sent")
        assert await receiving == b"sent"


async def smoke() -> None:
    found = contexts()
    await echo(None, None)
    await echo(found.server, found.client)
    await datagram()
    await child()
    await pair()
    assert await asyncio.get_running_loop().run_in_executor(None, sum, [1, 2]) == 3


async def limited_smoke() -> None:
    asyncio.get_running_loop().slow_callback_duration = LIMIT_S  # of which debug mode tells
    await asyncio.wait_for(smoke(), LIMIT_S)


def run() -> None:
    import uringloop

    uringloop.run(limited_smoke())
    print("smoke passed")


if __name__ == "__main__":
    run()
