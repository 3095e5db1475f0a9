"""create_connection() to an address in digits, without options: what a proxy does all the time.

asyncio's own looks up, orders and tries addresses; here there is one, which needs no look-up. With
any option, with a name, in debug mode, and where sock_connect() was replaced, asyncio's own runs.
"""

from __future__ import annotations

import functools
import socket
from typing import Any

from uringloop.addresses import PORT_MAX, pack_sockaddr
from uringloop.readiness import Connect

_STREAM = socket.SOCK_STREAM | socket.SOCK_NONBLOCK

# A program connects to few addresses, again and again.
_TARGETS_MAX = 256


def plain_target(host: Any, port: Any) -> tuple[int, Any] | None:
    """The family and the address to connect to; None for what needs asyncio's care.

    host   digits alone: no name, no IPv6 zone
    """
    if type(host) is not str or type(port) is not int or not 0 <= port <= PORT_MAX:
        return None
    return _target_in_digits(host, port)


@functools.lru_cache(_TARGETS_MAX)
def _target_in_digits(host: str, port: int) -> tuple[int, Any] | None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.inet_pton(family, host)
    except (OSError, ValueError):
        return None
    return family, (host, port) if family == socket.AF_INET else (host, port, 0, 0)


_packed = functools.lru_cache(_TARGETS_MAX)(pack_sockaddr)


async def connect_plainly(
    loop: Any, protocol_factory: Any, family: int, address: Any
) -> tuple[Any, Any]:
    """Connects, and gives the new transport and its protocol.

    raises   OSError, as sock_connect() does; what protocol_factory raises
    """
    sockaddr: Any = _packed(family, address)
    connecting = Connect(loop, address, sockaddr, family)
    sock = socket.socket(family, _STREAM, socket.IPPROTO_TCP)
    try:
        connecting.start(sock)
        await connecting.future
        info = connecting.info
        protocol = protocol_factory()
    except BaseException:
        connecting.cancel()  # if it has not been answered
        sock.close()
        raise
    finally:
        # Needed to break the cycle of future, exception and frame.
        del connecting
    waiter = loop.create_future()
    transport = loop._make_socket_transport(sock, protocol, waiter, extra=info)
    try:
        await waiter
    except BaseException:
        transport.close()
        raise
    return transport, protocol
