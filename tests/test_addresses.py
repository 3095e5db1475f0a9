"""Addresses packed as the kernel reads them; host names that need no look-up."""

from __future__ import annotations

import ctypes
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from uringloop.addresses import is_numeric, pack_sockaddr

LIBC = ctypes.CDLL(None, use_errno=True)


def connect_raw(sock: socket.socket, sockaddr: bytes) -> None:
    """connect(2) with the packed bytes: the kernel judges them."""
    if LIBC.connect(sock.fileno(), sockaddr, len(sockaddr)) < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


@pytest.mark.parametrize(
    ("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")]
)
def test_the_kernel_reads_a_packed_internet_address(family: int, host: str) -> None:
    with socket.create_server((host, 0), family=family) as listener:
        packed = pack_sockaddr(family, listener.getsockname())
        assert packed is not None
        with socket.socket(family) as client:
            connect_raw(client, packed)
            assert client.getpeername() == listener.getsockname()


def unix_addresses(folder: Path) -> list[Any]:
    return [str(folder / "a"), os.fsencode(folder / "b"), folder / "c", "\0uringloop-test"]


@pytest.mark.parametrize("number", range(4))
def test_the_kernel_reads_a_packed_unix_address(number: int, tmp_path: Path) -> None:
    address = unix_addresses(tmp_path)[number]
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
        listener.bind(os.fspath(address))
        listener.listen()
        packed = pack_sockaddr(socket.AF_UNIX, address)
        assert packed is not None
        connect_raw(client, packed)


def test_an_ipv6_scope_and_flow_are_packed() -> None:
    packed = pack_sockaddr(socket.AF_INET6, ("fe80::1%lo", 80, 7, 1))
    assert packed is not None
    assert packed[4:8] == (7).to_bytes(4, "big")
    assert packed[24:28] == (1).to_bytes(4, "little")


@pytest.mark.parametrize("path", ["x" * 108, "\0" + "x" * 108])
def test_a_unix_path_that_is_too_long_is_refused_as_sockets_do(path: str) -> None:
    with (
        socket.socket(socket.AF_UNIX) as sock,
        pytest.raises(OSError, match="AF_UNIX path too long"),
    ):
        sock.connect(path)
    with pytest.raises(OSError, match="AF_UNIX path too long"):
        pack_sockaddr(socket.AF_UNIX, path)


def test_other_families_are_left_to_python() -> None:
    assert pack_sockaddr(socket.AF_NETLINK, (0, 0)) is None


@pytest.mark.parametrize(
    ("host", "port"),
    [
        ("127.0.0.1", 80),
        ("::1", "80"),
        ("fe80::1%lo", None),
        (None, 80),
        (b"127.0.0.1", b"80"),
    ],
)
def test_addresses_in_digits_are_numeric(host: Any, port: Any) -> None:
    assert is_numeric(host, port)
    infos = socket.getaddrinfo(
        host, port, flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV, type=socket.SOCK_STREAM
    )
    assert infos


@pytest.mark.parametrize(
    ("host", "port"),
    [
        ("localhost", 80),
        ("127.0.0.1", "http"),
        ("example.org", None),
        ("1.2.3", 80),
        (b"\xff", 80),
        ("", 80),
        (1, 80),
        ("::1", 80.0),
    ],
)
def test_names_are_not_numeric(host: Any, port: Any) -> None:
    assert not is_numeric(host, port)
