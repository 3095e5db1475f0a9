"""A server that is loaded once and forked into workers, as gunicorn does: `prefork.py KIND`.

The parent has had a loop before, and listens; each worker makes its own loop and accepts.
"""

import asyncio
import os
import signal
import socket
import sys

from loops import make_loop

KIND = sys.argv[1]
WORKERS = 4


class NameOfWorker(asyncio.Protocol):
    def connection_made(self, transport: asyncio.Transport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(b"%d" % os.getpid())
        self.transport.close()


async def work(listener: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    asked_to_end = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, asked_to_end.set)
    server = await loop.create_server(NameOfWorker, sock=listener)
    os.write(started[1], b"s")
    await asked_to_end.wait()
    server.close()
    await server.wait_closed()


def start_worker(listener: socket.socket) -> int:
    if pid := os.fork():
        return pid
    status = 1
    try:
        own = make_loop(KIND)
        own.run_until_complete(work(listener))
        own.close()
        status = 0
    finally:
        os._exit(status)


async def ask(address: tuple[str, int]) -> int:
    reader, writer = await asyncio.open_connection(*address)
    try:
        writer.write(b"who?")
        return int(await reader.read())
    finally:
        writer.close()
        await writer.wait_closed()


def main() -> None:
    loop = make_loop(KIND)
    loop.run_until_complete(asyncio.sleep(0))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        workers = {start_worker(listener) for _ in range(WORKERS)}
        for _ in workers:
            assert os.read(started[0], 1) == b"s"
        address = listener.getsockname()
        while len(workers) > 1:  # whoever answers dies, and the others go on
            name = loop.run_until_complete(asyncio.wait_for(ask(address), 20))
            os.kill(name, signal.SIGKILL)
            workers.remove(name)
            assert os.waitstatus_to_exitcode(os.waitpid(name, 0)[1]) == -signal.SIGKILL
        assert {loop.run_until_complete(asyncio.wait_for(ask(address), 20))} == workers
        os.kill(*workers, signal.SIGTERM)
        assert os.waitstatus_to_exitcode(os.waitpid(*workers, 0)[1]) == 0
    loop.close()


started = os.pipe()
main()
print("served to the last")
