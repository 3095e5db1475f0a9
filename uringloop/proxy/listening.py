"""The sockets that listen, bound before any loop runs: what fails here is said in one line.

For several workers each has a socket of its own (SO_REUSEPORT: the kernel spreads the
connections), but all belong to the parent: connections in the queue of a worker that died
wait for its successor. A Unix socket cannot be bound twice, so all workers share one.

Pure but for the sockets: no loop.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Sequence

from uringloop.proxy.addresses import Address, TcpAddress, UnixAddress
from uringloop.proxy.errors import ListenError
from uringloop.shared_port import share_port

BACKLOG = 4096  # the kernel cuts it to net.core.somaxconn

# Names that stand for several addresses do with those that this machine has.
_NOT_OURS = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


class Listeners:
    """Listening sockets, for each worker its own.

    sockets   for each worker those that it accepts from
    names     the addresses, with the ports that the kernel chose
    """

    def __init__(
        self, sockets: list[list[socket.socket]], names: list[Address], file_id: _FileId | None
    ) -> None:
        self.sockets = sockets
        self.names = names
        self._file_id = file_id

    def close(self) -> None:
        """Listens no more, and removes the file of a Unix socket if it is still ours."""
        for sock in {sock for group in self.sockets for sock in group}:
            sock.close()
        if self._file_id is not None:
            address = self.names[0]
            assert isinstance(address, UnixAddress)
            if _file_id_of(address.path) == self._file_id:
                os.unlink(address.path)
            self._file_id = None


# Device, number and time of making: numbers are used again.
_FileId = tuple[int, int, int]


def listen(address: Address, workers: int = 1) -> Listeners:
    """Binds and listens, for so many workers.

    raises    ListenError
    """
    try:
        if isinstance(address, UnixAddress):
            return _listen_unix(address, workers)
        return _listen_tcp(address, workers)
    except socket.gaierror as error:
        raise ListenError(f"cannot listen on {address}: {error.strerror}") from None
    except OSError as error:
        # Of a failed bind, Python's own text would say the address again.
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise ListenError(f"cannot listen on {address}: {reason}") from None


def _listen_tcp(address: TcpAddress, workers: int) -> Listeners:
    found = socket.getaddrinfo(
        address.host or None, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    groups: list[list[socket.socket]] = [[] for _ in range(workers)]
    names: list[Address] = []
    refusal: OSError | None = None
    try:
        for family, host in dict.fromkeys((each[0], str(each[4][0])) for each in found):
            # All interfaces have one port, also when the kernel chooses it.
            port = names[0].port if names and isinstance(names[0], TcpAddress) else address.port
            try:
                port = _add_sockets(groups, family, host, port)
            except OSError as error:
                if error.errno not in _NOT_OURS:
                    raise
                refusal = error
            else:
                names.append(TcpAddress(host, port))
        if not names:
            assert refusal is not None
            raise refusal
    except BaseException:
        for sock in (sock for group in groups for sock in group):
            sock.close()
        raise
    return Listeners(groups, names, None)


def _add_sockets(groups: Sequence[list[socket.socket]], family: int, host: str, port: int) -> int:
    """One listening socket more for each worker. Returns the port."""
    sockets = share_port((host, port), len(groups), family=family, backlog=BACKLOG)
    for group, sock in zip(groups, sockets, strict=True):
        group.append(sock)
    return int(sockets[0].getsockname()[1])


def _listen_unix(address: UnixAddress, workers: int) -> Listeners:
    _remove_stale(address.path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.bind(address.path)
        sock.listen(BACKLOG)
        return Listeners([[sock]] * workers, [address], _file_id_of(address.path))
    except BaseException:
        sock.close()
        raise


def _remove_stale(path: str) -> None:
    """Removes the socket of a server that is no more; one that answers is in use."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            raise OSError(errno.EEXIST, "there is a file that is no socket")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except BlockingIOError:
            pass  # its queue is full: somebody listens
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


def _file_id_of(path: str) -> _FileId | None:
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns
