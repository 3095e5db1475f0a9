"""A server on a machine whose table of files is full, and then not: `accept_enfile.py KIND`.

A filter answers ENFILE to accept4 in one thread. The loop runs there first, then in another. The
listening socket is given: with one of the loop's own, io_uring needs no accept4.
"""

import asyncio
import errno
import socket
import sys
import threading

from loops import make_loop
from seccomp_filter import deny, numbers_by_name

ACCEPT4 = numbers_by_name()["accept4"]


class Greeter(asyncio.Protocol):
    def connection_made(self, transport: asyncio.Transport) -> None:
        transport.write(b"hello")
        transport.close()


def report(_: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
    reports.append(context)
    loop.stop()


def run_without_files() -> None:
    deny({ACCEPT4: errno.ENFILE})
    loop.create_task(server.start_serving())
    loop.run_forever()


reports: list[dict[str, object]] = []
loop = make_loop(sys.argv[1])
loop.set_exception_handler(report)
listener = socket.create_server(("127.0.0.1", 0))
server = loop.run_until_complete(loop.create_server(Greeter, sock=listener, start_serving=False))
peer = socket.create_connection(server.sockets[0].getsockname(), timeout=20)
thread = threading.Thread(target=run_without_files)
thread.start()
thread.join()
loop.set_exception_handler(None)
assert "socket.accept() out of system resource" in reports[0]["message"]
print(errno.errorcode[reports[0]["exception"].errno])
hello = loop.run_in_executor(None, peer.recv, 100)
assert loop.run_until_complete(hello) == b"hello"
peer.close()
server.close()
loop.run_until_complete(server.wait_closed())
loop.run_until_complete(loop.shutdown_default_executor())
loop.close()
print("served")
