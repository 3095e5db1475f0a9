"""Socket addresses: Python's tuples into the kernel's sockaddr and back, and host names that
are numbers. Pure: no I/O, no loop.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
from typing import Any

PORT_MAX = 65535

# sockaddr_un.sun_path, unix(7).
_UNIX_PATH_MAX = 108

# engine.h's struct ul_name: the length of what is valid, then room for any address.
_NAME = struct.Struct("=I128s")

# What follows sa_family, where Python's address is two numbers: netlink(7) has a pad and then
# (pid, groups), qrtr.h (node, port).
_PAIR = struct.Struct("=2xII")
_PAIR_FAMILIES = (socket.AF_NETLINK, socket.AF_QIPCRTR)


def pack_sockaddr(family: int, address: Any) -> bytes | None:
    """The struct sockaddr for `address` as Python writes it.

    family    AF_INET and AF_INET6 with a numeric host, or AF_UNIX
    returns   None for another family: the caller must leave the packing to Python
    raises    OSError, OverflowError as socket.connect() does: for a path that is too long, for no
              address, for a port that cannot be
    """
    if family == socket.AF_INET:
        host, port = address
        return struct.pack("=H", family) + _port(port) + _inet(host) + bytes(8)
    if family == socket.AF_INET6:
        host, port, flow, scope = (*address, 0, 0)[:4]
        packed = socket.inet_pton(family, host.partition("%")[0])
        head = struct.pack("=H", family) + _port(port) + struct.pack("!I", flow)
        return head + packed + struct.pack("=I", scope)
    if family == socket.AF_UNIX:
        return _pack_unix(address)
    return None


def _port(port: int) -> bytes:
    if not 0 <= port <= PORT_MAX:
        raise OverflowError(f"port must be 0-{PORT_MAX}, not {port}")
    return struct.pack("!H", port)


def _inet(host: str) -> bytes:
    return socket.inet_pton(socket.AF_INET, host)


def _pack_unix(address: Any) -> bytes:
    path = os.fsencode(address)
    abstract = path[:1] == b"\0"
    # A path in the file system ends with a zero; an abstract name has no end but its length.
    if len(path) + (not abstract) > _UNIX_PATH_MAX:
        raise OSError("AF_UNIX path too long")
    return struct.pack("=H", socket.AF_UNIX) + path + (b"" if abstract else b"\0")


def pack_name(family: int, address: Any) -> bytes | None:
    """engine.h's struct ul_name for `address`, to be kept while an operation reads it.

    family    as pack_sockaddr() takes it, with its answers and errors
    """
    sockaddr = pack_sockaddr(family, address)
    return None if sockaddr is None else name_of(sockaddr)


def name_of(sockaddr: bytes) -> bytes:
    """engine.h's struct ul_name for a packed sockaddr of at most 128 bytes."""
    return _NAME.pack(len(sockaddr), sockaddr)


def unpack_sockaddr(raw: bytes) -> Any:
    """The address that socket.recvfrom() answers for a sender with this sockaddr.

    raw       as long as the kernel says the name is; empty where the sender has none
    returns   (host, port); (host, port, flow, scope); a path as str, an abstract name as
              bytes; None for no name
    raises    RuntimeError for a family that Python knows and this does not
    """
    if not raw:
        return None
    family = int.from_bytes(raw[:2], sys.byteorder)
    if family == socket.AF_INET:
        return (socket.inet_ntop(family, raw[4:8]), int.from_bytes(raw[2:4], "big"))
    if family == socket.AF_INET6:
        port, flow = struct.unpack_from("!HI", raw, 2)
        (scope,) = struct.unpack_from("=I", raw, 24)
        return (socket.inet_ntop(family, raw[8:24]), port, flow, scope)
    if family == socket.AF_UNIX:
        return _unpack_unix(raw[2:])
    if family in _PAIR_FAMILIES:
        return _PAIR.unpack_from(raw, 2)
    raise RuntimeError(f"an address of {_family_name(family)} cannot be told")


def _unpack_unix(path: bytes) -> str | bytes:
    if path[:1] == b"\0":
        return path
    return os.fsdecode(path.partition(b"\0")[0])


def _family_name(family: int) -> str:
    try:
        return socket.AddressFamily(family).name
    except ValueError:
        return f"address family {family}"


def is_numeric(host: Any, port: Any) -> bool:
    """Whether host and port need no look-up: an address in digits (with its IPv6 zone) or no
    host, and a port number."""
    if isinstance(port, (str, bytes)):
        if not port.isdigit():
            return False
    elif port is not None and not isinstance(port, int):
        return False
    if host is None:
        return True
    if isinstance(host, bytes):
        try:
            host = host.decode("ascii")
        except UnicodeDecodeError:
            return False
    if not isinstance(host, str):
        return False
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.inet_pton(family, host.partition("%")[0])
    except (OSError, ValueError):
        return False
    return True
