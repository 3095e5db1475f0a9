"""Two proxies in a row: everything arrives, unchanged, in order, and so does each end."""

from __future__ import annotations

import asyncio
import hashlib
import random
import socket
from asyncio import AbstractEventLoop
from pathlib import Path
from typing import Any

import pytest
import trustme
from certificates import UNCLOSED_ON_3_10
from peers import in_thread, recv_exactly, recv_until_eof, reset, until_true

from tests.proxy.proxying import HOST, Upstream, running
from uringloop.proxy import tls

pytestmark = [
    pytest.mark.ours,
    *(pytest.mark.filterwarnings(line) for line in UNCLOSED_ON_3_10),
]

EACH_WAY_BYTES = 3_000_000
PIECE_BYTES_MAX = 200_000


def send_in_pieces(sock: socket.socket, data: bytes, seed: int) -> None:
    """Pieces of all sizes, most of them small, then the end."""
    numbers = random.Random(seed)
    position = 0
    while position < len(data):
        size = int(PIECE_BYTES_MAX ** numbers.random())
        sock.sendall(data[position : position + size])
        position += size
    sock.shutdown(socket.SHUT_WR)


async def exchange_in_pieces(client: socket.socket, server: socket.socket, seed: int) -> None:
    numbers = random.Random(seed)
    up, down = numbers.randbytes(EACH_WAY_BYTES), numbers.randbytes(EACH_WAY_BYTES)
    at_server, at_client, _, _ = await asyncio.gather(
        in_thread(recv_until_eof, server),
        in_thread(recv_until_eof, client),
        in_thread(send_in_pieces, client, up, seed),
        in_thread(send_in_pieces, server, down, seed + 1),
    )
    for received, sent in ((at_server, up), (at_client, down)):
        assert len(received) == len(sent)
        assert hashlib.sha256(received).digest() == hashlib.sha256(sent).digest()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("header", [None, 1, 2])
async def test_pieces_of_any_size_arrive_through_two_proxies(
    loop: AbstractEventLoop, header: int | None, seed: int
) -> None:
    with Upstream() as upstream:
        async with (
            running(upstream.address, accepts_header=header is not None) as second,
            running(second.address, header_version=header) as first,
        ):
            client = await first.connect()
            with client, await upstream.accept() as server:
                await exchange_in_pieces(client, server, seed)


def tls_contexts(folder: Path) -> dict[str, Any]:
    authority = trustme.CA()
    both, ca = str(folder / "both.pem"), str(folder / "ca.pem")
    authority.issue_cert(HOST).private_key_and_cert_chain_pem.write_to_path(both)
    authority.cert_pem.write_to_path(ca)
    return {"server": tls.server_context(both, None), "upstream": tls.upstream_context(ca)}


@pytest.mark.parametrize("size", [1, 1000, 700_000])
async def test_bytes_arrive_through_two_proxies_that_speak_tls_with_each_other(
    loop: AbstractEventLoop, tmp_path: Path, size: int
) -> None:
    contexts = tls_contexts(tmp_path)
    data = random.Random(size).randbytes(size)
    with Upstream() as upstream:
        async with (
            running(upstream.address, server_tls=contexts["server"], accepts_header=True) as second,
            running(second.address, upstream_tls=contexts["upstream"], header_version=2) as first,
        ):
            client = await first.connect()
            with client, await upstream.accept() as server:
                for sender, receiver in ((client, server), (server, client)):
                    sending = in_thread(sender.sendall, data)
                    assert await in_thread(recv_exactly, receiver, size) == data
                    await sending
                server.close()
                assert await in_thread(recv_until_eof, client) == b""
            await until_true(lambda: len(first.events.of("connection")) == 2)  # both proxies'
            assert [line["end"] for line in first.events.of("connection")] == ["eof", "eof"]


async def test_a_reset_goes_through_two_proxies(loop: AbstractEventLoop) -> None:
    with Upstream() as upstream:
        async with running(upstream.address) as second, running(second.address) as first:
            client = await first.connect()
            with client, await upstream.accept() as server:
                await in_thread(client.sendall, b"x")
                assert await in_thread(recv_exactly, server, 1) == b"x"
                reset(server)
                with pytest.raises(ConnectionResetError):
                    await in_thread(client.recv, 1)
