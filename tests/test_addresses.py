"""Addresses packed as the kernel reads them; host names that need no look-up."""

from __future__ import annotations

import ctypes
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from uringloop.addresses import (
    is_numeric,
    name_of,
    pack_name,
    pack_sockaddr,
    unpack_sockaddr,
)
from uringloop.driver.binding import UL_MESSAGE_HEADER, ffi
from uringloop.driver.rings import Rings

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


def recv_raw_name(sock: socket.socket) -> bytes:
    """The sender's sockaddr as recvfrom(2) gives it, of the datagram that is next."""
    name = ctypes.create_string_buffer(128)
    length = ctypes.c_uint32(len(name))
    assert LIBC.recvfrom(sock.fileno(), None, 0, 0, name, ctypes.byref(length)) == 0
    return name.raw[: length.value]


def own_raw_name(sock: socket.socket) -> bytes:
    name = ctypes.create_string_buffer(128)
    length = ctypes.c_uint32(len(name))
    assert LIBC.getsockname(sock.fileno(), name, ctypes.byref(length)) == 0
    return name.raw[: length.value]


def assert_sender_is_told_as_sockets_do(receiver: socket.socket, sender: socket.socket) -> Any:
    receiver.settimeout(5)
    for _ in range(2):
        sender.sendto(b"", receiver.getsockname())
    unpacked = unpack_sockaddr(recv_raw_name(receiver))
    address = receiver.recvfrom(1)[1]
    assert unpacked == address and type(unpacked) is type(address)
    return address


@pytest.mark.parametrize(
    ("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")]
)
def test_an_internet_sender_is_told_as_sockets_do(family: int, host: str) -> None:
    kind = socket.SOCK_DGRAM
    with socket.socket(family, kind) as receiver, socket.socket(family, kind) as sender:
        receiver.bind((host, 0))
        assert_sender_is_told_as_sockets_do(receiver, sender)


@pytest.mark.parametrize("sender_name", [None, "path", "p\udcff", "\0abstract", "\0a\0b", ""])
def test_a_unix_sender_is_told_as_sockets_do(sender_name: str | None, tmp_path: Path) -> None:
    """None is a sender without a name; "" one that the kernel gives an abstract name."""
    kind = socket.SOCK_DGRAM
    with (
        socket.socket(socket.AF_UNIX, kind) as receiver,
        socket.socket(socket.AF_UNIX, kind) as sender,
    ):
        receiver.bind(str(tmp_path / "receiver"))
        if sender_name is not None:
            is_path = sender_name and sender_name[0] != "\0"
            sender.bind(str(tmp_path / sender_name) if is_path else sender_name)
        address = assert_sender_is_told_as_sockets_do(receiver, sender)
        assert address == (None if sender_name is None else sender.getsockname())


@pytest.mark.parametrize(
    ("family", "kind", "address"),
    [
        (socket.AF_INET6, socket.SOCK_DGRAM, ("::ffff:127.0.0.1", 0)),
        (socket.AF_UNIX, socket.SOCK_STREAM, None),
        (socket.AF_UNIX, socket.SOCK_STREAM, "\0" + "x" * 107),
        (socket.AF_NETLINK, socket.SOCK_RAW, (0, 1)),
    ],
)
def test_a_sockets_own_name_is_told_as_sockets_do(family: int, kind: int, address: Any) -> None:
    with socket.socket(family, kind) as sock:
        if address is not None:
            sock.bind(address)
        assert unpack_sockaddr(own_raw_name(sock)) == sock.getsockname()


def test_a_unix_path_of_the_greatest_length_has_no_zero() -> None:
    path = b"/" + b"x" * 107
    assert unpack_sockaddr(socket.AF_UNIX.to_bytes(2, "little") + path) == os.fsdecode(path)


def test_flow_and_scope_are_told() -> None:
    packed = pack_sockaddr(socket.AF_INET6, ("fe80::1", 80, 7, 1))
    assert packed is not None
    assert unpack_sockaddr(packed) == ("fe80::1", 80, 7, 1)


@pytest.mark.parametrize(("family", "named"), [(socket.AF_PACKET, "AF_PACKET"), (60000, "60000")])
def test_an_address_that_cannot_be_told_names_its_family(family: int, named: str) -> None:
    with pytest.raises(RuntimeError, match=named):
        unpack_sockaddr(family.to_bytes(2, "little") + bytes(18))


@pytest.mark.parametrize(
    ("family", "address"),
    [
        (socket.AF_INET, ("127.0.0.1", 5353)),
        (socket.AF_INET6, ("::1", 5353, 7, 1)),
        (socket.AF_UNIX, "/tmp/x"),
        (socket.AF_UNIX, b"\0" + b"x" * 107),
    ],
)
def test_a_name_is_the_sockaddr_behind_its_length(family: int, address: Any) -> None:
    name = pack_name(family, address)
    assert name is not None and len(name) == ffi.sizeof("struct ul_name")
    fields = ffi.from_buffer("struct ul_name *", name)
    sockaddr = bytes(ffi.buffer(fields.bytes, fields.length))
    assert sockaddr == pack_sockaddr(family, address)
    assert name_of(sockaddr) == name
    assert unpack_sockaddr(sockaddr) == address


def test_a_name_of_another_family_is_left_to_python() -> None:
    assert pack_name(socket.AF_NETLINK, (0, 0)) is None


@pytest.mark.parametrize(
    ("name", "told_length"), [(b"", 0), (b"\2\0abc", 5), (bytes(range(128)), 128)]
)
def test_the_rings_copy_the_name_before_a_payload(name: bytes, told_length: int) -> None:
    memory, rings = message_event(name, told_length)
    assert rings.copy_name() == name
    assert rings.copy_bytes() == b"payload"
    assert memory


def test_a_name_that_was_cut_off_is_copied_up_to_its_room() -> None:
    memory, rings = message_event(bytes(range(128)), 200)
    assert rings.copy_name() == bytes(range(128))
    assert memory


def message_event(name: bytes, told_length: int) -> tuple[Any, Rings]:
    """Memory as RECVMSG leaves it, and rings whose current event names it."""
    memory = ffi.new("char[]", UL_MESSAGE_HEADER + len(b"payload"))
    message = ffi.cast("struct ul_message *", memory)
    message.name_length = told_length
    ffi.buffer(message.name)[: len(name)] = name
    ffi.buffer(memory)[UL_MESSAGE_HEADER:] = b"payload"
    rings = Rings()
    rings.address = int(ffi.cast("uintptr_t", memory)) + UL_MESSAGE_HEADER
    rings.result = len(b"payload")
    return memory, rings


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
