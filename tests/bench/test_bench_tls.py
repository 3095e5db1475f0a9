"""The load inside TLS: faithful servers pass, and what is not faithful is noticed there too."""

from __future__ import annotations

import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bench import native
from bench.certificate import write_certificate
from bench.errors import BenchError, MissingError
from bench.load import Address, LoadPlan, run_load

SOCKET_LIMIT_S = 20.0
PLAN = LoadPlan(1, size_bytes=1000, warmup_s=0.1, duration_s=0.1, verify=True, is_tls=True)

Echo = Callable[[bytes, int], bytes]  # the bytes received, and their offset


@pytest.fixture(autouse=True)
def _load() -> None:
    try:
        native.built("load_tls")
    except MissingError as error:
        pytest.skip(str(error))


@pytest.fixture
def context(tmp_path: Path) -> ssl.SSLContext:
    certificate = tmp_path / "certificate.pem"
    write_certificate(certificate)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    return context


@contextmanager
def server_with(serve: Callable[[socket.socket], None]) -> Iterator[Address]:
    """A server for one connection, which `serve` gets; the load may give it up at any time."""

    def run() -> None:
        with listener.accept()[0] as sock:
            sock.settimeout(SOCKET_LIMIT_S)
            try:
                serve(sock)
            except (ConnectionError, ssl.SSLError):
                return

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(SOCKET_LIMIT_S)
        thread = threading.Thread(target=run)
        thread.start()
        yield ["tcp", "127.0.0.1", str(listener.getsockname()[1])]
        thread.join(SOCKET_LIMIT_S)
        assert not thread.is_alive()


def run_against(context: ssl.SSLContext, echo: Echo) -> None:
    def serve(sock: socket.socket) -> None:
        offset = 0
        with context.wrap_socket(sock, server_side=True) as tls:
            while data := tls.recv(65536):
                tls.sendall(echo(data, offset))
                offset += len(data)

    with server_with(serve) as address:
        run_load(address, PLAN, os.getpid(), core=None)


def flip_byte_5000(data: bytes, offset: int) -> bytes:
    changed = bytearray(data)
    if offset <= 5000 < offset + len(data):
        changed[5000 - offset] ^= 1
    return bytes(changed)


def leave_out_byte_5000(data: bytes, offset: int) -> bytes:
    at = 5000 - offset
    return data[:at] + data[at + 1 :] if 0 <= at < len(data) else data


def break_off_at_5000(data: bytes, offset: int) -> bytes:
    if offset >= 5000:
        raise ConnectionError
    return data


def test_a_faithful_server_passes(context: ssl.SSLContext) -> None:
    run_against(context, lambda data, offset: data)


@pytest.mark.parametrize(
    ("echo", "words"),
    [
        (flip_byte_5000, "verification failed: connection 0, offset 5000"),
        (leave_out_byte_5000, "verification failed: connection 0, offset 5000"),
        (break_off_at_5000, r"SSL_read: .*eof|closed by the server|Connection reset"),
    ],
    ids=["changed", "lost", "broken off"],
)
def test_an_unfaithful_server_is_noticed(context: ssl.SSLContext, echo: Echo, words: str) -> None:
    with pytest.raises(BenchError, match=f"exit status 1: .*({words})"):
        run_against(context, echo)


def test_a_server_without_tls_is_noticed() -> None:
    with (
        server_with(lambda sock: sock.sendall(b"hello\r\n")) as address,
        pytest.raises(BenchError, match="SSL_connect: "),
    ):
        run_load(address, PLAN, os.getpid(), core=None)
