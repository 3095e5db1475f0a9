"""create_connection, create_unix_connection, connect_accepted_socket: arguments and errors."""

from __future__ import annotations

import asyncio
import errno
import os
import random
import socket
import sys
from asyncio import AbstractEventLoop
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from audit import open_descriptors
from peers import Recorder, in_thread, recv_exactly

ALL_ERRORS = pytest.mark.skipif(sys.version_info < (3, 12), reason="all_errors came with 3.12")


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0), backlog=1000) as sock:
        sock.settimeout(10)
        yield sock


@pytest.fixture
def refused_port() -> Iterator[int]:
    """A port that is bound, and on which nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]


async def test_a_connection_carries_data_both_ways(
    listener: socket.socket, loop: AbstractEventLoop
) -> None:
    transport, protocol = await loop.create_connection(Recorder, *listener.getsockname())
    with listener.accept()[0] as peer:
        transport.write(b"question")
        assert await in_thread(recv_exactly, peer, 8) == b"question"
        await in_thread(peer.sendall, b"answer")
        assert await protocol.received(6) == b"answer"
    assert await protocol.lost is None


async def test_connection_made_was_called_when_create_connection_returns(
    listener: socket.socket, loop: AbstractEventLoop
) -> None:
    transport, protocol = await loop.create_connection(Recorder, *listener.getsockname())
    assert protocol.calls == ["made"]
    assert protocol.transport is transport
    transport.close()


async def test_a_host_name_is_resolved(listener: socket.socket, loop: AbstractEventLoop) -> None:
    port = listener.getsockname()[1]
    transport, _ = await loop.create_connection(Recorder, "localhost", port)
    assert transport.get_extra_info("peername") == ("127.0.0.1", port)
    transport.close()


@pytest.mark.parametrize(
    ("host", "family"),
    [
        ("::1", socket.AF_INET6),
        (b"::1", socket.AF_INET6),
        ("localhost", socket.AF_INET),
    ],
)
async def test_a_server_of_both_families_is_reached(
    host: str | bytes, family: int, loop: AbstractEventLoop
) -> None:
    server = await loop.create_server(Recorder, ["127.0.0.1", "::1"], 0)
    addresses = {sock.family: sock.getsockname() for sock in server.sockets}
    transport, protocol = await loop.create_connection(Recorder, host, addresses[family][1])
    assert transport.get_extra_info("peername") == addresses[family]
    transport.close()
    await protocol.lost
    server.close()


async def test_the_local_address_can_be_chosen(
    listener: socket.socket, loop: AbstractEventLoop
) -> None:
    transport, _ = await loop.create_connection(
        Recorder, *listener.getsockname(), local_addr=("127.0.0.3", 0)
    )
    assert transport.get_extra_info("sockname")[0] == "127.0.0.3"
    with listener.accept()[0] as peer:
        assert peer.getpeername()[0] == "127.0.0.3"
    transport.close()


async def test_a_local_address_that_is_not_ours_is_an_error(
    listener: socket.socket, loop: AbstractEventLoop
) -> None:
    with pytest.raises(OSError, match="error while attempting to bind on address") as raised:
        await loop.create_connection(
            Recorder, *listener.getsockname(), local_addr=("203.0.113.1", 0)
        )
    assert raised.value.errno == errno.EADDRNOTAVAIL


async def test_a_refused_connection_is_an_error_with_its_address(
    refused_port: int, loop: AbstractEventLoop
) -> None:
    with pytest.raises(ConnectionRefusedError, match="Connect call failed") as raised:
        await loop.create_connection(Recorder, "127.0.0.1", refused_port)
    assert raised.value.errno == errno.ECONNREFUSED
    assert str(refused_port) in str(raised.value)


async def test_an_unreachable_address_is_an_error(loop: AbstractEventLoop) -> None:
    """A stream cannot be connected to a multicast address: the kernel says so at once."""
    with pytest.raises(OSError) as raised:
        await loop.create_connection(Recorder, "224.0.0.1", 9)
    assert raised.value.errno == errno.ENETUNREACH


async def test_when_all_addresses_fail_the_error_tells_each(
    refused_port: int, loop: AbstractEventLoop
) -> None:
    loop.getaddrinfo = _resolver(["127.0.0.1", "127.0.0.2"])
    with pytest.raises(OSError, match=r"Multiple exceptions|Connect call failed") as raised:
        await loop.create_connection(Recorder, "two.test", refused_port)
    assert "127.0.0.1" in str(raised.value)
    assert "127.0.0.2" in str(raised.value)


def _resolver(hosts: list[str]) -> Any:
    """A name service: everything numeric as it is, every other name is all of `hosts`."""

    async def getaddrinfo(host: str, port: int, **options: Any) -> list[Any]:
        names = hosts if host.endswith(".test") else [host]
        return [_info(name, port) for name in names]

    return getaddrinfo


def _info(host: str, port: int) -> tuple[Any, ...]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    address = (host, port, 0, 0) if family == socket.AF_INET6 else (host, port)
    return family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", address


@ALL_ERRORS
async def test_all_errors_come_as_a_group(refused_port: int, loop: AbstractEventLoop) -> None:
    loop.getaddrinfo = _resolver(["127.0.0.1", "127.0.0.2"])
    with pytest.raises(ExceptionGroup) as raised:  # noqa: F821
        await loop.create_connection(Recorder, "two.test", refused_port, all_errors=True)
    assert len(raised.value.exceptions) == 2
    assert all(isinstance(each, ConnectionRefusedError) for each in raised.value.exceptions)


async def test_the_second_address_is_tried_when_the_first_fails(
    listener: socket.socket, loop: AbstractEventLoop
) -> None:
    loop.getaddrinfo = _resolver(["127.0.0.2", "127.0.0.1"])
    transport, _ = await loop.create_connection(Recorder, "two.test", listener.getsockname()[1])
    assert transport.get_extra_info("peername")[0] == "127.0.0.1"
    transport.close()


async def test_happy_eyeballs_do_not_wait_for_a_silent_address(
    listener: socket.socket, silent_address: tuple[str, int], loop: AbstractEventLoop
) -> None:
    """The first address neither accepts nor refuses; the second wins, nothing is left."""
    loop.getaddrinfo = _two_addresses(silent_address, listener.getsockname())
    transport, _ = await loop.create_connection(Recorder, "two.test", 1, happy_eyeballs_delay=0.01)
    assert transport.get_extra_info("peername") == listener.getsockname()
    transport.close()


def _two_addresses(*addresses: tuple[str, int]) -> Any:
    async def getaddrinfo(host: str, port: int, **options: Any) -> list[Any]:
        return [_info(*address) for address in addresses]

    return getaddrinfo


@pytest.fixture
def silent_address() -> Iterator[tuple[str, int]]:
    """A listener whose queue is full: the kernel drops the SYN, so a connect hangs."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen(0)
        with socket.create_connection(sock.getsockname()):
            yield sock.getsockname()


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
async def test_family_limits_the_addresses(family: int, loop: AbstractEventLoop) -> None:
    server = await loop.create_server(Recorder, ["127.0.0.1", "::1"], 0)
    ports = {sock.family: sock.getsockname()[1] for sock in server.sockets}
    transport, _ = await loop.create_connection(
        Recorder, None, ports[socket.AddressFamily(family)], family=family
    )
    assert transport.get_extra_info("socket").family == family
    transport.close()
    server.close()
    await asyncio.sleep(0)


async def test_a_given_socket_is_used(listener: socket.socket, loop: AbstractEventLoop) -> None:
    sock = socket.create_connection(listener.getsockname())
    sock.setblocking(False)
    transport, _ = await loop.create_connection(Recorder, sock=sock)
    assert transport.get_extra_info("sockname") == sock.getsockname()
    transport.close()


async def test_arguments_that_contradict_each_other_are_refused(loop: AbstractEventLoop) -> None:
    with socket.socket() as stream, socket.socket(type=socket.SOCK_DGRAM) as datagram:
        with pytest.raises(ValueError, match="host/port and sock can not be specified"):
            await loop.create_connection(Recorder, "127.0.0.1", 1, sock=stream)
        with pytest.raises(ValueError, match="host and port was not specified and no sock"):
            await loop.create_connection(Recorder)
        with pytest.raises(ValueError, match="A Stream Socket was expected"):
            await loop.create_connection(Recorder, sock=datagram)
        with pytest.raises(ValueError, match="server_hostname is only meaningful with ssl"):
            await loop.create_connection(Recorder, "127.0.0.1", 1, server_hostname="x")
        with pytest.raises(ValueError, match="ssl_handshake_timeout is only meaningful with ssl"):
            await loop.create_connection(Recorder, "127.0.0.1", 1, ssl_handshake_timeout=1)


@pytest.mark.difference("failed_client_factory")
async def test_a_protocol_factory_that_fails_closes_the_connection(
    listener: socket.socket, loop: AbstractEventLoop
) -> None:
    """Row 10: the audit finds the socket if it was forgotten."""

    def factory() -> Recorder:
        raise LookupError("factory")

    with pytest.raises(LookupError):
        await loop.create_connection(factory, *listener.getsockname())


async def test_a_connection_given_up_at_any_moment_leaves_no_descriptor(
    listener: socket.socket, loop: AbstractEventLoop
) -> None:
    """Rows 8, 9 and 10: cancel before the connect was submitted, while it runs, when it has
    succeeded and nobody looked yet. Those that won the race are closed by us."""
    before = open_descriptors()
    won = 0
    for turns in list(range(8)) * 40:
        task = loop.create_task(loop.create_connection(Recorder, *listener.getsockname()))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        won += await _closed_if_it_won(task)
    for _ in range(10):
        await asyncio.sleep(0)
    assert open_descriptors() == before
    assert won < 8 * 40


async def _closed_if_it_won(task: asyncio.Task[Any]) -> bool:
    try:
        transport, protocol = await task
    except asyncio.CancelledError:
        return False
    transport.close()
    await protocol.lost
    return True


async def test_a_connect_that_hangs_can_be_cancelled(
    silent_address: tuple[str, int], loop: AbstractEventLoop
) -> None:
    """Row 14: a connect that the kernel answers with EINPROGRESS."""
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(loop.create_connection(Recorder, *silent_address), 0.02)


async def test_many_connects_at_random_with_cancels_leave_no_descriptor(
    listener: socket.socket, loop: AbstractEventLoop
) -> None:
    """Row 10, many at once."""
    chance = random.Random(7)
    tasks = [
        loop.create_task(loop.create_connection(Recorder, *listener.getsockname()))
        for _ in range(200)
    ]
    while not all(task.done() for task in tasks):
        chance.choice(tasks).cancel()
        await asyncio.sleep(0)
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(result, tuple):
            result[0].abort()
            await result[1].lost
        else:
            assert isinstance(result, asyncio.CancelledError)


async def test_a_connect_queue_longer_than_the_kernels_is_served(loop: AbstractEventLoop) -> None:
    """Row 14: clients wait while the server's queue of one is full."""
    server = await loop.create_server(Recorder, "127.0.0.1", 0, backlog=1)
    address = server.sockets[0].getsockname()
    pairs = await asyncio.gather(*(loop.create_connection(Recorder, *address) for _ in range(20)))
    for transport, protocol in pairs:
        transport.close()
        await protocol.lost
    server.close()


@pytest.mark.parametrize("convert", [str, Path, os.fsencode], ids=["str", "Path", "bytes"])
async def test_a_unix_connection_takes_any_kind_of_path(
    convert: Any, tmp_path: Path, loop: AbstractEventLoop
) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as unix_listener:
        unix_listener.bind(str(path))
        unix_listener.listen()
        transport, protocol = await loop.create_unix_connection(Recorder, convert(path))
        with unix_listener.accept()[0] as peer:
            transport.write(b"local")
            assert await in_thread(recv_exactly, peer, 5) == b"local"
        assert await protocol.lost is None


async def test_a_unix_connection_takes_an_abstract_name(loop: AbstractEventLoop) -> None:
    with socket.socket(socket.AF_UNIX) as unix_listener:
        unix_listener.bind("")
        unix_listener.listen()
        name = unix_listener.getsockname()
        transport, _ = await loop.create_unix_connection(Recorder, name.decode())
        transport.close()


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda path: None, FileNotFoundError),
        (lambda path: path.write_text("a file"), ConnectionRefusedError),
    ],
    ids=["missing", "not a socket"],
)
async def test_a_unix_connection_to_nothing_is_an_error(
    make: Any, error: type[OSError], tmp_path: Path, loop: AbstractEventLoop
) -> None:
    make(tmp_path / "socket")
    with pytest.raises(error):
        await loop.create_unix_connection(Recorder, str(tmp_path / "socket"))


async def test_a_unix_connect_waits_while_the_listeners_queue_is_full(
    tmp_path: Path, loop: AbstractEventLoop
) -> None:
    """Row 14: a Unix connect answers EAGAIN here, which a loop cannot wait for by polling;
    asyncio raises BlockingIOError. Both an answer and that error are right, a hang is not."""
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as unix_listener:
        unix_listener.bind(path)
        unix_listener.listen(0)
        made = [await _connect_unless_blocked(loop, path) for _ in range(3)]
        assert made[0] is not None
        for transport in filter(None, made):
            transport.abort()


async def _connect_unless_blocked(loop: AbstractEventLoop, path: str) -> Any:
    connect = loop.create_unix_connection(Recorder, path)
    try:
        return (await asyncio.wait_for(connect, 0.05))[0]
    except (BlockingIOError, asyncio.TimeoutError):
        return None


async def test_unix_arguments_that_contradict_each_other_are_refused(
    tmp_path: Path, loop: AbstractEventLoop
) -> None:
    with socket.socket() as inet, socket.socket(socket.AF_UNIX) as unix:
        with pytest.raises(ValueError, match="path and sock can not be specified"):
            await loop.create_unix_connection(Recorder, str(tmp_path), sock=unix)
        with pytest.raises(ValueError, match="no path and sock were specified"):
            await loop.create_unix_connection(Recorder)
        with pytest.raises(ValueError, match="A UNIX Domain Stream Socket was expected"):
            await loop.create_unix_connection(Recorder, sock=inet)
        with pytest.raises(ValueError, match="server_hostname is only meaningful with ssl"):
            await loop.create_unix_connection(Recorder, str(tmp_path), server_hostname="x")


async def test_an_accepted_socket_becomes_a_server_side_connection(
    listener: socket.socket, loop: AbstractEventLoop
) -> None:
    with socket.create_connection(listener.getsockname()) as peer:
        accepted = listener.accept()[0]
        accepted.setblocking(False)
        transport, protocol = await loop.connect_accepted_socket(Recorder, accepted)
        assert transport.get_extra_info("peername") == peer.getsockname()
        await in_thread(peer.sendall, b"data")
        assert await protocol.received(4) == b"data"
    assert await protocol.lost is None


async def test_an_accepted_socket_must_be_a_stream(loop: AbstractEventLoop) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as datagram:
        connecting = loop.connect_accepted_socket(Recorder, datagram)
        with pytest.raises(ValueError, match="A Stream Socket was expected"):
            await connecting
