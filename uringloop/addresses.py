"""Socket addresses: Python's tuples into the kernel's sockaddr, and host names that are
numbers. Pure: no I/O, no loop.
"""

from __future__ import annotations

import os
import socket
import struct
from typing import Any

# sockaddr_un.sun_path, unix(7).
_UNIX_PATH_MAX = 108


def pack_sockaddr(family: int, address: Any) -> bytes | None:
    """The struct sockaddr for `address` as Python writes it.

    family    AF_INET and AF_INET6 with a numeric host, or AF_UNIX
    returns   None for another family: the caller must leave the packing to Python
    raises    OSError as socket.connect() does for a path that is too long or no address
    """
    if family == socket.AF_INET:
        host, port = address
        return struct.pack("=H", family) + struct.pack("!H", port) + _inet(host) + bytes(8)
    if family == socket.AF_INET6:
        host, port, flow, scope = (*address, 0, 0)[:4]
        packed = socket.inet_pton(family, host.partition("%")[0])
        head = struct.pack("=H", family) + struct.pack("!HI", port, flow)
        return head + packed + struct.pack("=I", scope)
    if family == socket.AF_UNIX:
        return _pack_unix(address)
    return None


def _inet(host: str) -> bytes:
    return socket.inet_pton(socket.AF_INET, host)


def _pack_unix(address: Any) -> bytes:
    path = os.fsencode(address)
    abstract = path[:1] == b"\0"
    # A path in the file system ends with a zero; an abstract name has no end but its length.
    if len(path) + (not abstract) > _UNIX_PATH_MAX:
        raise OSError("AF_UNIX path too long")
    return struct.pack("=H", socket.AF_UNIX) + path + (b"" if abstract else b"\0")


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
