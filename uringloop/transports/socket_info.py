"""What get_extra_info() of a transport knows of its socket. Pure but for getsockname and
getpeername; no loop.
"""

from __future__ import annotations

import socket
from asyncio.trsock import TransportSocket
from typing import Any


def socket_info(sock: socket.socket, extra: dict[str, Any] | None) -> dict[str, Any]:
    """The socket and its names, then `extra`. Names are asked for now: later the peer may be
    gone. None for a name that the socket does not have."""
    info: dict[str, Any] = {"socket": TransportSocket(sock)}
    try:
        info["sockname"] = sock.getsockname()
    except OSError:
        info["sockname"] = None
    if extra is None or "peername" not in extra:
        try:
            info["peername"] = sock.getpeername()
        except OSError:
            info["peername"] = None
    if extra:
        info.update(extra)
    return info
