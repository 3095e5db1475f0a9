"""What get_extra_info() of a transport knows of its socket.

One is kept for each connection, so it is small: no dict, and the TransportSocket is made when
somebody asks for it, as are the addresses out of what the kernel told. Pure but for getsockname
and getpeername; no loop.

Compiled by Cython together with socket_info.pxd.
"""

from __future__ import annotations

import functools
import socket
from asyncio.trsock import TransportSocket
from typing import Any

from uringloop.addresses import unpack_sockaddr

# Those whose addresses unpack_sockaddr() knows.
_PACKED_FAMILIES = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)

# A listener's connections mostly have one and the same name of their own.
_unpack_own_name = functools.lru_cache(maxsize=64)(unpack_sockaddr)


class SocketInfo:
    """A socket, its names, and what else a transport was given to tell.

    is_packed   the names are sockaddrs, empty where there is none; else Python's addresses
    """

    def __init__(
        self, sock: Any, sockname: Any, peername: Any, others: Any, is_packed: bool
    ) -> None:
        self._socket = sock
        self._sockname = sockname
        self._peername = peername
        self._others = others
        self._is_packed = is_packed

    def get(self, name: str, default: Any = None) -> Any:
        """As of a dict with these and with "socket", "sockname" and "peername"."""
        if self._others is not None and name in self._others:
            return self._others[name]
        if name == "socket":
            if type(self._socket) is not TransportSocket:
                self._socket = TransportSocket(self._socket)
            return self._socket
        if name == "sockname":
            self._unpack()
            return self._sockname
        if name == "peername":
            self._unpack()
            return self._peername
        return default

    def _unpack(self) -> None:
        if self._is_packed:
            self._is_packed = False
            self._sockname = _unpack_own_name(self._sockname)
            self._peername = unpack_sockaddr(self._peername)


def socket_info(sock: socket.socket, extra: dict[str, Any] | None) -> SocketInfo:
    """The socket and its names, then `extra`. Names are asked for now: later the peer may be
    gone. None for a name that the socket does not have."""
    sockname = peername = None
    if extra is None or "sockname" not in extra:
        sockname = name_of(sock.getsockname)
    if extra is None or "peername" not in extra:
        peername = name_of(sock.getpeername)
    return SocketInfo(sock, sockname, peername, extra, False)


def told_info(sock: socket.socket, rings: Any, family: int) -> SocketInfo:
    """As socket_info(), of the connection that the current event of `rings` brings: of ACCEPT,
    or of CONNECT with UL_NAMES."""
    if not rings.address or family not in _PACKED_FAMILIES:
        return socket_info(sock, None)
    return SocketInfo(sock, rings.copy_own_name(), rings.copy_peer_name(), None, True)


def name_of(method: Any) -> Any:
    """What socket.getsockname or getpeername answers, None where it fails."""
    try:
        return method()
    except OSError:
        return None
