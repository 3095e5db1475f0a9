"""What get_extra_info() of a transport knows of its socket.

One is kept for each connection, so it is small: no dict, and the TransportSocket is made when
somebody asks for it. Pure but for getsockname and getpeername; no loop.

Compiled by Cython together with socket_info.pxd.
"""

from __future__ import annotations

import socket
from asyncio.trsock import TransportSocket
from typing import Any


class SocketInfo:
    """A socket, its names, and what else a transport was given to tell."""

    def __init__(self, sock: Any, sockname: Any, peername: Any, others: Any) -> None:
        self._socket = sock
        self._sockname = sockname
        self._peername = peername
        self._others = others

    def get(self, name: str, default: Any = None) -> Any:
        """As of a dict with these and with "socket", "sockname" and "peername"."""
        if self._others is not None and name in self._others:
            return self._others[name]
        if name == "socket":
            if type(self._socket) is not TransportSocket:
                self._socket = TransportSocket(self._socket)
            return self._socket
        if name == "sockname":
            return self._sockname
        if name == "peername":
            return self._peername
        return default


def socket_info(sock: socket.socket, extra: dict[str, Any] | None) -> SocketInfo:
    """The socket and its names, then `extra`. Names are asked for now: later the peer may be
    gone. None for a name that the socket does not have."""
    sockname = peername = None
    if extra is None or "sockname" not in extra:
        sockname = name_of(sock.getsockname)
    if extra is None or "peername" not in extra:
        peername = name_of(sock.getpeername)
    return SocketInfo(sock, sockname, peername, extra)


def accepted_info(sock: socket.socket, shared_sockname: Any) -> SocketInfo:
    """As socket_info(), of a connection; its own name is most often that of all the others of
    its listener, and then one object serves all."""
    sockname = name_of(sock.getsockname)
    if sockname == shared_sockname:
        sockname = shared_sockname
    return SocketInfo(sock, sockname, name_of(sock.getpeername), None)


def name_of(method: Any) -> Any:
    """What socket.getsockname or getpeername answers, None where it fails."""
    try:
        return method()
    except OSError:
        return None
