"""The context that a connection's callbacks run in: one of its own, as in asyncio since 3.15."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import socket
import ssl
import sys
from asyncio import AbstractEventLoop

import pytest
from certificates import UNCLOSED_ON_3_10, contexts
from peers import in_thread, until_true

pytestmark = pytest.mark.filterwarnings(*UNCLOSED_ON_3_10)
PEER_LIMIT_S = 10
VAR: contextvars.ContextVar[str] = contextvars.ContextVar("VAR", default="unset")

# The life of a connection in contexts: each callback tells what it sees and leaves its name.
LIFE = ["factory", "made", "data", "eof", "lost"]


class Noting(asyncio.Protocol):
    def __init__(self, ended: asyncio.Future[None]) -> None:
        self.seen: list[str] = []
        self.ended = ended
        self._note("factory")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._note("made")

    def data_received(self, data: bytes) -> None:
        self._note("data")

    def eof_received(self) -> None:
        self._note("eof")

    def connection_lost(self, exc: Exception | None) -> None:
        self._note("lost")
        self.ended.set_result(None)

    def _note(self, name: str) -> None:
        self.seen.append(VAR.get())
        VAR.set(name)


@pytest.mark.difference("one_context")
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_a_server_gives_each_connection_a_copy_of_its_context(
    tls: bool, loop: AbstractEventLoop
) -> None:
    protocols: list[Noting] = []

    def factory() -> Noting:
        protocols.append(Noting(loop.create_future()))
        return protocols[-1]

    VAR.set("server")
    server = await loop.create_server(
        factory, "127.0.0.1", 0, ssl=contexts().server if tls else None
    )
    VAR.set("later")
    for count in (1, 2):
        await in_thread(send_and_leave, server.sockets[0].getsockname(), tls)
        await until_true(lambda n=count: len(protocols) == n)
        await protocols[-1].ended
        # asyncio 3.10 takes TLS's goodbye for the end of all, and tells of no EOF.
        hears_eof = not tls or sys.version_info >= (3, 11)
        life = LIFE if hears_eof else [call for call in LIFE if call != "eof"]
        assert protocols[-1].seen == ["server", *life[:-1]]
    assert VAR.get() == "later"
    server.close()


def send_and_leave(address: tuple[str, int], tls: bool) -> None:
    with socket.create_connection(address, timeout=PEER_LIMIT_S) as peer:
        if tls:
            with contexts().client.wrap_socket(peer, server_hostname="tls.test") as encrypted:
                encrypted.sendall(b"data")
                with contextlib.suppress(ssl.SSLEOFError):
                    encrypted.unwrap()  # asyncio 3.10 hangs up without an answer
        else:
            peer.sendall(b"data")


@pytest.mark.difference("one_context")
async def test_a_client_connection_lives_in_one_copy_of_its_makers_context(
    loop: AbstractEventLoop,
) -> None:
    VAR.set("maker")
    ours, peer = socket.socketpair()
    with peer:
        made: list[Noting] = []

        def factory() -> Noting:
            made.append(Noting(loop.create_future()))
            return made[-1]

        await loop.create_unix_connection(factory, sock=ours)
        VAR.set("later")
        peer.sendall(b"data")
    await made[0].ended
    # Since 3.15 the copy is made before the protocol.
    seen_by_made = "maker" if sys.version_info >= (3, 15) else "factory"
    assert made[0].seen == ["maker", seen_by_made, *LIFE[1:-1]]
    assert VAR.get() == "later"


@pytest.mark.difference("one_context")
async def test_reading_resumed_from_elsewhere_goes_on_in_the_connections_context(
    loop: AbstractEventLoop,
) -> None:
    VAR.set("maker")
    ours, peer = socket.socketpair()
    with peer:
        transport, protocol = await loop.create_unix_connection(
            lambda: Noting(loop.create_future()), sock=ours
        )
        transport.pause_reading()
        peer.sendall(b"data")
        VAR.set("elsewhere")
        transport.resume_reading()
    await protocol.ended
    assert protocol.seen[2:] == ["made", *LIFE[2:-1]]
    assert VAR.get() == "elsewhere"
