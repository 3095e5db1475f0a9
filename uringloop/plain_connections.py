"""create_connection() to an address in digits, without options: what a proxy does all the time.

asyncio's own looks up, orders and tries addresses; here there is one, which needs no look-up. With
any option, with a name, in debug mode, and where sock_connect() was replaced, asyncio's own runs.
"""

from __future__ import annotations

import socket
from typing import Any

from uringloop import readiness
from uringloop.addresses import PORT_MAX, pack_sockaddr

_STREAM = socket.SOCK_STREAM | socket.SOCK_NONBLOCK


def plain_target(host: Any, port: Any) -> tuple[int, Any] | None:
    """The family and the address to connect to; None for what needs asyncio's care.

    host   digits alone: no name, no IPv6 zone
    """
    if type(host) is not str or type(port) is not int or not 0 <= port <= PORT_MAX:
        return None
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.inet_pton(family, host)
    except (OSError, ValueError):
        return None
    return family, (host, port) if family == socket.AF_INET else (host, port, 0, 0)


async def connect_plainly(
    loop: Any, protocol_factory: Any, family: int, address: Any
) -> tuple[Any, Any]:
    """Connects, and gives the new transport and its protocol.

    raises   OSError, as sock_connect() does; what protocol_factory raises
    """
    sockaddr: Any = pack_sockaddr(family, address)
    sock = socket.socket(family, _STREAM, socket.IPPROTO_TCP)
    try:
        await readiness.connect(loop, sock, address, sockaddr)
        protocol = protocol_factory()
    except BaseException:
        sock.close()
        raise
    return await _transport_of(loop, sock, protocol)


async def _transport_of(loop: Any, sock: socket.socket, protocol: Any) -> tuple[Any, Any]:
    waiter = loop.create_future()
    transport = loop._make_socket_transport(sock, protocol, waiter)
    try:
        await waiter
    except BaseException:
        transport.close()
        raise
    return transport, protocol
