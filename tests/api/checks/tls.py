"""Checks: TLS, in every method that takes `ssl`, and start_tls."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any

from tests.api.checks.servers import Greeter
from tests.api.ends import (
    SOON_S,
    Notes,
    closing,
    connect,
    connect_tls,
    folder,
    listener,
    refusal,
    serving,
    words,
)
from tests.api.registry import Check, Subject
from tests.certificates import HOST, contexts
from tests.peers import PEER_LIMIT_S, in_thread, recv_exactly, recv_until_eof

Loop = asyncio.AbstractEventLoop

TLS = Subject("TLS")

# -- clients: by TCP, by a Unix path, over an accepted socket, over a plain transport ---------
#
# Each takes (loop, the socket that is connected to the peer, arguments) and returns
# (transport, protocol).


async def _over_tcp(loop: Loop, sock: socket.socket, **arguments: Any) -> Any:
    return await loop.create_connection(Notes, sock=sock, **arguments)


async def _over_unix(loop: Loop, sock: socket.socket, **arguments: Any) -> Any:
    return await loop.create_unix_connection(Notes, sock=sock, **arguments)


async def _over_accepted(loop: Loop, sock: socket.socket, **arguments: Any) -> Any:
    return await loop.connect_accepted_socket(Notes, sock, **arguments)


async def _over_transport(loop: Loop, sock: socket.socket, ssl: Any, **arguments: Any) -> Any:
    plain, protocol = await loop.create_connection(Notes, sock=sock)
    try:
        transport = await loop.start_tls(plain, protocol, ssl, **arguments)
    except BaseException:
        plain.abort()
        raise
    protocol.transport = transport
    return transport, protocol


CLIENTS = {
    "create_connection": _over_tcp,
    "create_unix_connection": _over_unix,
    "start_tls": _over_transport,
}
ACCEPTING = {"connect_accepted_socket": _over_accepted}
CONTEXT_PARAMETER = {"start_tls": "sslcontext"}


def for_each(
    methods: dict[str, Any], parameter: str
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Declares the program to be a check of that parameter of each of the methods."""

    def declare(program: Callable[..., Any]) -> Callable[..., Any]:
        for method, connection in methods.items():
            named = CONTEXT_PARAMETER.get(method, parameter) if parameter == "ssl" else parameter
            _add(method, named, program, connection)
        return program

    return declare


def _add(method: str, parameter: str, program: Callable[..., Any], connection: Any) -> None:
    async def function(loop: Loop) -> Any:
        return await program(loop, connection)

    TLS.add(Check(method, (parameter,), function, program.__name__))


@contextlib.asynccontextmanager
async def _with_server_peer(context: ssl.SSLContext) -> AsyncIterator[Any]:
    """(our socket, a future of the peer's TLS socket); the peer is the server."""
    ours, theirs = socket.socketpair()
    theirs.settimeout(PEER_LIMIT_S)
    with theirs:
        accepting = in_thread(_handshake, theirs, context)
        yield ours, accepting
        peer = await accepting
        if peer is not None:
            peer.close()


def _handshake(sock: socket.socket, context: ssl.SSLContext) -> ssl.SSLSocket | None:
    """The TLS socket; None when the other side refused."""
    try:
        return context.wrap_socket(sock, server_side=True)
    except OSError:
        return None


@for_each(CLIENTS, "ssl")
async def a_client_speaks_tls(loop: Loop, connection: Any) -> Any:
    async with _with_server_peer(contexts().server) as (ours, accepting):
        transport, protocol = await connection(
            loop, ours, ssl=contexts().client, server_hostname=HOST
        )
        peer = await accepting
        async with closing(transport):
            transport.write(b"hello")
            await in_thread(peer.sendall, b"answer")
            received = await in_thread(recv_exactly, peer, 5), await protocol.received(6)
            return received, transport.get_extra_info("ssl_object").server_side


@for_each(CLIENTS, "ssl")
async def a_stranger_is_not_trusted(loop: Loop, connection: Any) -> Any:
    async with _with_server_peer(contexts().server) as (ours, _):
        refused = connection(loop, ours, ssl=contexts().stranger, server_hostname=HOST)
        return await _tls_refusal(refused)


async def _tls_refusal(awaitable: Any) -> str:
    try:
        return f"no refusal, but {await awaitable!r}"
    except ssl.SSLCertVerificationError as error:
        return f"SSLCertVerificationError: {error.verify_message}"


@for_each(CLIENTS, "server_hostname")
async def the_server_must_have_the_name(loop: Loop, connection: Any) -> Any:
    async with _with_server_peer(contexts().server) as (ours, _):
        refused = connection(loop, ours, ssl=contexts().client, server_hostname="other.test")
        return await _tls_refusal(refused)


@for_each(CLIENTS, "server_hostname")
async def the_server_hears_the_name_that_is_asked_for(loop: Loop, connection: Any) -> Any:
    heard: list[Any] = []
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.sni_callback = lambda sock, name, of: heard.append(name)
    async with _with_server_peer(context) as (ours, _):
        transport = connection(loop, ours, ssl=contexts().client, server_hostname="asked.test")
        with contextlib.suppress(OSError):
            await transport
    return heard


@for_each(CLIENTS, "ssl_handshake_timeout")
async def a_silent_server_runs_into_the_limit(loop: Loop, connection: Any) -> Any:
    ours, theirs = socket.socketpair()
    with theirs:
        return await refusal(
            connection(
                loop,
                ours,
                ssl=contexts().client,
                server_hostname=HOST,
                ssl_handshake_timeout=SOON_S,
            )
        )


if sys.version_info >= (3, 11):

    @for_each(CLIENTS, "ssl_shutdown_timeout")
    async def a_peer_that_never_says_goodbye_runs_into_the_limit(
        loop: Loop, connection: Any
    ) -> Any:
        async with _with_server_peer(contexts().server) as (ours, accepting):
            transport, protocol = await connection(
                loop,
                ours,
                ssl=contexts().client,
                server_hostname=HOST,
                ssl_shutdown_timeout=SOON_S,
            )
            peer = await accepting
            transport.close()
            lost = await protocol.lost
            return peer is not None, words(lost) if lost else lost


# -- the server's side of one connection ------------------------------------------------------


@for_each(ACCEPTING, "ssl")
async def a_socket_becomes_the_servers_side_of_tls(loop: Loop, connection: Any) -> Any:
    ours, theirs = socket.socketpair()
    theirs.settimeout(PEER_LIMIT_S)
    with theirs:
        shaking = in_thread(_shake_as_client, theirs)
        arguments = {"server_side": True} if connection is _over_transport else {}
        transport, protocol = await connection(loop, ours, ssl=contexts().server, **arguments)
        async with closing(transport):
            with await shaking as peer:
                await in_thread(peer.sendall, b"hello")
                side = transport.get_extra_info("ssl_object").server_side
                return await protocol.received(5), side


def _shake_as_client(sock: socket.socket) -> ssl.SSLSocket:
    return contexts().client.wrap_socket(sock, server_hostname=HOST)


_add("start_tls", "server_side", a_socket_becomes_the_servers_side_of_tls, _over_transport)


@for_each(ACCEPTING, "ssl_handshake_timeout")
async def a_silent_client_runs_into_the_limit(loop: Loop, connection: Any) -> Any:
    ours, theirs = socket.socketpair()
    with theirs:
        arguments = {"ssl": contexts().server, "ssl_handshake_timeout": SOON_S}
        return await refusal(connection(loop, ours, **arguments))


if sys.version_info >= (3, 11):

    @for_each(ACCEPTING, "ssl_shutdown_timeout")
    async def a_client_that_never_says_goodbye_runs_into_the_limit(
        loop: Loop, connection: Any
    ) -> Any:
        ours, theirs = socket.socketpair()
        theirs.settimeout(PEER_LIMIT_S)
        with theirs:
            shaking = in_thread(_shake_as_client, theirs)
            arguments = {"ssl": contexts().server, "ssl_shutdown_timeout": SOON_S}
            transport, protocol = await connection(loop, ours, **arguments)
            with await shaking:
                transport.close()
                lost = await protocol.lost
                return words(lost) if lost else lost


# -- servers ----------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def _tcp_server(
    loop: Loop, factory: type[Notes] = Greeter, **arguments: Any
) -> AsyncIterator[Any]:
    server = await loop.create_server(factory, "127.0.0.1", 0, **arguments)
    async with serving(server):
        yield server.sockets[0].getsockname()


@contextlib.asynccontextmanager
async def _unix_server(
    loop: Loop, factory: type[Notes] = Greeter, **arguments: Any
) -> AsyncIterator[Any]:
    with folder() as place:
        path = str(place / "socket")
        async with serving(await loop.create_unix_server(factory, path, **arguments)):
            yield path


SERVERS = {"create_server": _tcp_server, "create_unix_server": _unix_server}


@for_each(SERVERS, "ssl")
async def a_server_speaks_tls(loop: Loop, server: Any) -> Any:
    async with server(loop, ssl=contexts().server) as address:
        with await in_thread(connect_tls, address) as peer:
            return await in_thread(recv_exactly, peer, 5)


@for_each(SERVERS, "ssl_handshake_timeout")
async def a_silent_client_is_cut_off(loop: Loop, server: Any) -> Any:
    arguments = {"ssl": contexts().server, "ssl_handshake_timeout": SOON_S}
    async with server(loop, **arguments) as address:
        with await in_thread(connect, address) as peer:
            return await in_thread(recv_until_eof, peer)


if sys.version_info >= (3, 11):

    @for_each(SERVERS, "ssl_shutdown_timeout")
    async def a_client_that_never_says_goodbye_is_cut_off(loop: Loop, server: Any) -> Any:
        made: asyncio.Future[Notes] = loop.create_future()

        class Leaving(Notes):
            def connection_made(self, transport: Any) -> None:
                super().connection_made(transport)
                made.set_result(self)
                transport.close()

        arguments = {"ssl": contexts().server, "ssl_shutdown_timeout": SOON_S}
        async with server(loop, Leaving, **arguments) as address:
            with await in_thread(connect_tls, address):
                lost = await (await made).lost
                return words(lost) if lost else lost


async def _without_tls(loop: Loop, parameter: str) -> Any:
    arguments = {parameter: 1.0}
    with socket.socket() as stream:
        return [
            await refusal(loop.create_connection(Notes, "127.0.0.1", 1, **arguments)),
            await refusal(loop.create_server(Notes, "127.0.0.1", 0, **arguments)),
            await refusal(loop.create_unix_connection(Notes, "path", **arguments)),
            await refusal(loop.create_unix_server(Notes, "path", **arguments)),
            await refusal(loop.connect_accepted_socket(Notes, stream, **arguments)),
        ]


@TLS.check("create_connection", "ssl_handshake_timeout")
@TLS.check("create_server", "ssl_handshake_timeout")
async def a_handshake_limit_without_tls_is_refused(loop: Loop) -> Any:
    return await _without_tls(loop, "ssl_handshake_timeout")


if sys.version_info >= (3, 11):

    @TLS.check("create_connection", "ssl_shutdown_timeout")
    @TLS.check("create_server", "ssl_shutdown_timeout")
    async def a_shutdown_limit_without_tls_is_refused(loop: Loop) -> Any:
        return await _without_tls(loop, "ssl_shutdown_timeout")


@TLS.check("create_connection", "server_hostname")
async def a_server_name_without_tls_is_refused(loop: Loop) -> Any:
    return await refusal(loop.create_connection(Notes, "127.0.0.1", 1, server_hostname=HOST))


@TLS.check("start_tls", "transport", "protocol", "sslcontext")
async def a_plain_connection_goes_on_as_tls(loop: Loop) -> Any:
    with listener() as listening:
        plain, protocol = await loop.create_connection(Notes, *listening.getsockname())
        peer, _ = listening.accept()
        peer.settimeout(PEER_LIMIT_S)
        plain.write(b"before")
        before = await in_thread(recv_exactly, peer, 6)
        accepting = in_thread(_handshake, peer, contexts().server)
        transport = await loop.start_tls(plain, protocol, contexts().client, server_hostname=HOST)
        with await accepting as peer:
            async with closing(transport):
                transport.write(b"after")
                after = await in_thread(recv_exactly, peer, 5)
                return before, after, transport.get_protocol() is protocol, protocol.calls


@TLS.check("start_tls", "transport", "sslcontext")
async def what_is_no_stream_or_no_context_is_refused(loop: Loop) -> Any:
    with listener() as listening:
        plain, protocol = await loop.create_connection(Notes, *listening.getsockname())
        peer, _ = listening.accept()
        with peer:
            async with closing(plain):
                return [
                    await refusal(loop.start_tls(plain, protocol, None)),
                    await refusal(loop.start_tls(None, protocol, contexts().client)),
                ]
