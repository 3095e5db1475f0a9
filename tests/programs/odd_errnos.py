"""A kernel that answers with an errno that nobody has heard of: `odd_errnos.py KIND`.

A filter gives it to system calls on some descriptors, and leaves the others alone.
"""

import asyncio
import fcntl
import socket
import sys

from loops import run
from peers import Recorder, until_true
from seccomp_filter import Rule, numbers_by_name, restrict

ODD = 999
NUMBERS = numbers_by_name()
RECEIVING = ("read", "recvfrom", "recvmsg", "recvmmsg")
SENDING = ("write", "writev", "sendto", "sendmsg")
HIGH = 200  # descriptors from here on are given to nobody else when they are closed


def on(sock: socket.socket, *names: str) -> list[Rule]:
    """The odd answer to these system calls on this descriptor."""
    return [Rule(NUMBERS[name], ODD, argument=0, value=sock.fileno()) for name in names]


def moved(sock: socket.socket) -> socket.socket:
    """The same socket under a high number, non-blocking."""
    with sock:
        sock.setblocking(False)
        return socket.socket(fileno=fcntl.fcntl(sock, fcntl.F_DUPFD_CLOEXEC, HIGH))


async def connected() -> tuple[Recorder, socket.socket, socket.socket]:
    ours, peer = socket.socketpair()
    ours = moved(ours)
    loop = asyncio.get_running_loop()
    _, protocol = await loop.create_connection(Recorder, sock=ours)
    return protocol, ours, peer


async def main() -> None:
    loop = asyncio.get_running_loop()
    reports: list[dict[str, object]] = []
    loop.set_exception_handler(lambda _, about: reports.append(about))
    receiving, sending, spared = [await connected() for _ in range(3)]
    with socket.create_server(("127.0.0.1", 0)) as listener, moved(socket.socket()) as connecting:
        server = await loop.create_server(Recorder, sock=moved(listener.dup()))
        restrict(
            [
                *on(receiving[1], *RECEIVING),
                *on(sending[1], *SENDING),
                *on(server.sockets[0], "accept4"),
                *on(connecting, "connect"),
            ]
        )
        receiving[2].sendall(b"unread")
        assert (await receiving[0].lost).errno == ODD
        sending[0].transport.write(b"unsent")
        assert (await sending[0].lost).errno == ODD
        await refused(loop.sock_connect(connecting, listener.getsockname()))
        await not_accepted(listener.getsockname(), reports)
        server.close()
    spared[2].sendall(b"heard")
    assert await spared[0].received(5) == b"heard"
    spared[0].transport.close()
    await spared[0].lost
    for _, _, peer in (receiving, sending, spared):
        peer.close()


async def refused(connecting: "asyncio.Future[None]") -> None:
    try:
        await connecting
    except OSError as error:
        assert error.errno == ODD
    else:
        raise AssertionError("connected")


async def not_accepted(address: tuple[str, int], reports: list[dict[str, object]]) -> None:
    with socket.create_connection(address):
        await until_true(lambda: bool(reports))
    assert reports[0]["exception"].errno == ODD


run(sys.argv[1], lambda: asyncio.wait_for(main(), 20))
print("none of them matters")
