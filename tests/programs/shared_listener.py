"""Processes that accept on one socket: `shared_listener.py KIND SCENARIO`.

One of them, the one that began first, is busy, stops or dies when connections come. The others
serve all of these, and nobody makes a further connection that would tell them to look.
"""

import asyncio
import os
import signal
import socket
import sys
import threading
from collections.abc import Awaitable, Callable

from loops import make_loop

KIND, SCENARIO = sys.argv[1:]
CONNECTIONS = 5
LIMIT_S = 10

# Begins to serve the socket, and returns how to stop.
Serving = Callable[[socket.socket], Awaitable[Callable[[], object]]]


class NameOfProcess(asyncio.Protocol):
    def connection_made(self, transport: asyncio.Transport) -> None:
        transport.write(b"%d %d" % (os.getpid(), threading.get_ident()))
        transport.close()


async def by_server(listener: socket.socket) -> Callable[[], object]:
    server = await asyncio.get_running_loop().create_server(NameOfProcess, sock=listener)
    return server.close


async def by_late_server(listener: socket.socket) -> Callable[[], object]:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(NameOfProcess, sock=listener, start_serving=False)
    await server.start_serving()
    return server.close


async def by_unix_server(listener: socket.socket) -> Callable[[], object]:
    server = await asyncio.get_running_loop().create_unix_server(NameOfProcess, sock=listener)
    return server.close


async def by_calls(listener: socket.socket) -> Callable[[], object]:
    """sock_accept() for each connection; stopped by a cancel."""
    loop = asyncio.get_running_loop()

    async def serve_all() -> None:
        with listener:
            while True:
                connection, _ = await loop.sock_accept(listener)
                await loop.create_connection(NameOfProcess, sock=connection)

    serving = loop.create_task(serve_all())
    await asyncio.sleep(0)
    return serving.cancel


def listening(family: int = socket.AF_INET) -> socket.socket:
    listener = socket.socket(family)
    listener.bind("" if family == socket.AF_UNIX else ("127.0.0.1", 0))
    listener.listen()
    listener.setblocking(False)
    return listener


def connected(listener: socket.socket) -> socket.socket:
    peer = socket.socket(listener.family)
    peer.settimeout(LIMIT_S)
    peer.connect(listener.getsockname())
    return peer


def served_by(peer: socket.socket) -> tuple[int, int]:
    """Process and thread; its end of the connection is closed by then."""
    with peer, peer.makefile("rb") as answer:
        process, thread = map(int, answer.read().split())
    return process, thread


def ask(listener: socket.socket) -> int:
    return served_by(connected(listener))[0]


def start_worker(listener: socket.socket, serving: Serving) -> int:
    if pid := os.fork():
        assert os.read(started[0], 1) == b"s"
        return pid
    try:
        loop = make_loop(KIND)
        stop = loop.run_until_complete(serving(listener.dup()))
        loop.call_soon(os.write, started[1], b"s")
        loop.run_forever()
        stop()
    finally:
        os._exit(1)


def kill(worker: int) -> None:
    os.kill(worker, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1]) == -signal.SIGKILL


def beside_a_worker(
    meanwhile: Callable[[socket.socket, Callable[[], object]], list[int]],
    serving: Serving,
    family: int = socket.AF_INET,
) -> None:
    """This process serves, then another one too; `meanwhile`, in the loop, says who answered."""
    with listening(family) as listener:
        loop = make_loop(KIND)
        stop = loop.run_until_complete(serving(listener.dup()))
        worker = start_worker(listener, serving)

        async def ask_in_loop() -> list[int]:
            return meanwhile(listener, stop)

        try:
            answers = loop.run_until_complete(ask_in_loop())
        finally:
            kill(worker)
        assert set(answers) == {worker}, answers
        stop()
        loop.run_until_complete(asyncio.sleep(0.01))
        loop.close()


def while_busy(listener: socket.socket, stop: Callable[[], object]) -> list[int]:
    """It blocks the loop of this process."""
    return [ask(listener) for _ in range(CONNECTIONS)]


def while_stopping(listener: socket.socket, stop: Callable[[], object]) -> list[int]:
    peers = [connected(listener) for _ in range(CONNECTIONS)]
    stop()
    return [served_by(peer)[0] for peer in peers]


def workers_that_die() -> None:
    """Each worker in turn is halted, so that it may be told and does nothing, and then killed."""
    with listening() as listener:
        workers = [start_worker(listener, by_server) for _ in range(4)]
        while len(workers) > 1:
            halted = workers.pop(0)
            os.kill(halted, signal.SIGSTOP)
            assert os.WIFSTOPPED(os.waitpid(halted, os.WUNTRACED)[1])
            assert {ask(listener) for _ in range(CONNECTIONS)} <= set(workers)
            peers = [connected(listener) for _ in range(CONNECTIONS)]
            kill(halted)
            assert {served_by(peer)[0] for peer in peers} <= set(workers)
        kill(*workers)


def workers_that_compete() -> None:
    """All are told of each connection: one serves it, and the others find nothing amiss."""
    with listening() as listener:
        workers = [start_worker(listener, by_server) for _ in range(3)]
        for _ in range(40):
            peers = [connected(listener) for _ in range(CONNECTIONS)]
            assert {served_by(peer)[0] for peer in peers} <= set(workers)
        for worker in workers:
            kill(worker)


def threads() -> None:
    """Loops in two threads of one process; the one that began first is busy."""
    answers: list[int] = []
    loops = [make_loop(KIND), make_loop(KIND)]
    idle = threading.Thread(target=loops[1].run_forever)
    with listening() as listener:
        stop = loops[0].run_until_complete(by_server(listener.dup()))
        idle.start()
        other = asyncio.run_coroutine_threadsafe(by_server(listener.dup()), loops[1])
        stop_other = other.result(LIMIT_S)

        async def be_busy() -> None:
            answers.extend(served_by(connected(listener))[1] for _ in range(CONNECTIONS))

        loops[0].run_until_complete(be_busy())
        assert set(answers) == {idle.ident}, answers
        stop()
        loops[0].run_until_complete(asyncio.sleep(0.01))
        loops[1].call_soon_threadsafe(stop_other)
        loops[1].call_soon_threadsafe(loops[1].stop)
        idle.join()
    for loop in loops:
        loop.close()


SCENARIOS = {
    "busy": lambda: beside_a_worker(while_busy, by_server),
    "busy_late": lambda: beside_a_worker(while_busy, by_late_server),
    "busy_unix": lambda: beside_a_worker(while_busy, by_unix_server, socket.AF_UNIX),
    "busy_calls": lambda: beside_a_worker(while_busy, by_calls),
    "busy_thread": threads,
    "stopping": lambda: beside_a_worker(while_stopping, by_server),
    "stopping_unix": lambda: beside_a_worker(while_stopping, by_unix_server, socket.AF_UNIX),
    "stopping_calls": lambda: beside_a_worker(while_stopping, by_calls),
    "dying": workers_that_die,
    "competing": workers_that_compete,
}
started = os.pipe()
SCENARIOS[SCENARIO]()
print("all served")
