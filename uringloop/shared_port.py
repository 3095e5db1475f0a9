"""One TCP port for several workers, each with a queue of connections of its own.

Pure but for the sockets: no loop.
"""

from __future__ import annotations

import socket


def share_port(
    address: tuple[str, int], workers: int, *, family: int = socket.AF_INET, backlog: int = 100
) -> list[socket.socket]:
    """Sockets that listen on one TCP port, one for each worker: the kernel spreads the
    connections over them.

    Make them in the parent, before it forks, and give each worker its own
    (`create_server(..., sock=sock)`). As long as the parent keeps them open too, connections in
    the queue of a worker that died wait for its successor; with `reuse_port=True` in the workers
    themselves those are reset.

    address   host and port; port 0 lets the kernel choose one, the same for all. An empty host is
              all of this machine's addresses
    workers   how many sockets; at least 1, and for 1 the port is not shared
    family    socket.AF_INET, or socket.AF_INET6: those take no connections over IPv4
    backlog   connections that each queue holds; the kernel cuts it to net.core.somaxconn
    returns   sockets that do not block and listen, also before any worker accepts
    raises    OSError(EADDRINUSE): somebody listens there, be it another group of this user's, and
              what bind(2) raises else; ValueError for less than one worker
    kernel    3.9
    source    SO_REUSEPORT of socket(7)
    """
    if workers < 1:
        raise ValueError(f"workers must be at least 1, not {workers!r}")
    sockets: list[socket.socket] = []
    try:
        if workers > 1:
            # SO_REUSEPORT would let us in beside another group of the same user: look first.
            with _bound(family, address, is_shared=False) as alone:
                address = (address[0], alone.getsockname()[1])
        for _ in range(workers):
            sockets.append(_bound(family, address, is_shared=workers > 1))
            sockets[-1].listen(backlog)
    except BaseException:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def _bound(family: int, address: tuple[str, int], is_shared: bool) -> socket.socket:
    # Named as TCP: asyncio's own loops set TCP_NODELAY on a connection only then.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if is_shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setblocking(False)
        sock.bind(address)
    except BaseException:
        sock.close()
        raise
    return sock
