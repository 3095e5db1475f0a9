"""Forks in the way that the second argument names, while the parent has operations in flight."""

import asyncio
import multiprocessing
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

from loops import make_loop

KIND = sys.argv[1]
# Python warns of it since 3.12, for good reasons, and many programs do it.
warnings.filterwarnings("ignore", ".*use of fork.*multi-threaded|.*multi-threaded, use of fork")


class Echo(asyncio.Protocol):
    def connection_made(self, transport: asyncio.Transport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


async def echo(rounds: int = 10, between: Callable[[], object] = str) -> None:
    """A server and a client; `between` is called each time the server waits for data."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Echo, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    for number in range(rounds):
        await asyncio.sleep(0.001)  # lets the kernel have all receives and the accept
        between()
        writer.write(b"%06d" % number * 1000)
        assert await reader.readexactly(6000) == b"%06d" % number * 1000
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()


def in_child(work: Callable[[], object]) -> None:
    """Forks, does the work in the child, waits, and demands that it ended well."""
    if pid := os.fork():
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        return
    end_child(work)


def end_child(work: Callable[[], object]) -> None:
    try:
        work()
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def run_fresh() -> None:
    loop = make_loop(KIND)
    loop.run_until_complete(asyncio.wait_for(echo(), 10))
    loop.close()
    print("child: echo")


def expect_told(use: Callable[[], object]) -> None:
    try:
        use()
    except RuntimeError as error:
        check_told(error)
    else:
        raise AssertionError("nobody said anything")


def check_told(error: RuntimeError, reports: Sequence[str] = ()) -> None:
    assert "fork" in str(error), error
    if sys.version_info >= (3, 14):
        # A task that forked finds by itself that no loop runs in its process any more.
        reports = [report for report in reports if "is not the running loop" not in report]
    assert not reports
    print("child: told")


def fork_while_running() -> None:
    parent(lambda: in_child(run_fresh))


def fork_in_traffic() -> None:
    loop = make_loop(KIND)
    loop.run_until_complete(asyncio.wait_for(echo(20, lambda: in_child(str)), 20))
    loop.close()
    print("parent: echo")


def run_and_multiply() -> None:
    process = multiprocessing.get_context("fork").Process(target=run_fresh)
    process.start()
    process.join(20)
    assert process.exitcode == 0
    process.close()


def parent(fork: Callable[[], object]) -> None:
    """Echoes, forks once while the kernel holds receives and an accept, echoes on."""
    forks = iter([fork])
    loop = make_loop(KIND)
    loop.run_until_complete(asyncio.wait_for(echo(10, lambda: next(forks, str)()), 20))
    loop.close()
    print("parent: echo")


def loop_made_before() -> None:
    """As a server does that is loaded once and forked into workers."""
    loop = make_loop(KIND)
    in_child(run_fresh)
    loop.run_until_complete(asyncio.wait_for(echo(), 10))
    loop.close()
    print("parent: echo")


def run_parents_loop() -> None:
    loop = make_loop(KIND)
    loop.run_until_complete(echo())

    def use() -> None:
        loop.call_soon(loop.stop)
        loop.run_forever()

    in_child(lambda: expect_told(use))
    loop.run_until_complete(asyncio.wait_for(echo(), 10))
    loop.close()
    print("parent: echo")


def return_into_parents_loop() -> None:
    """The child returns from its callback as if nothing had happened."""
    parent_pid = os.getpid()
    loop = make_loop(KIND)
    reports: list[str] = []

    def fork() -> None:
        if pid := os.fork():
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        else:
            loop.set_exception_handler(lambda _, about: reports.append(str(about["exception"])))

    forks = iter([fork])

    def run() -> None:
        loop.run_until_complete(asyncio.wait_for(echo(10, lambda: next(forks, str)()), 20))

    try:
        run()
    except RuntimeError as error:
        if os.getpid() == parent_pid:
            raise
        told = error
        end_child(lambda: check_told(told, reports))
    loop.close()
    print("parent: echo")


def close_parents_loop() -> None:
    loop = make_loop(KIND)
    server = loop.run_until_complete(loop.create_server(Echo, "127.0.0.1", 0))

    def close() -> None:
        loop.close()
        assert loop.is_closed()
        print("child: told")

    in_child(close)
    loop.run_until_complete(asyncio.wait_for(echo_with(server), 10))
    loop.close()
    print("parent: echo")


def leave_in_child() -> None:
    """The child's interpreter ends, as by sys.exit(), with all that its parent's loop has."""
    parent_pid = os.getpid()

    def fork() -> None:
        if pid := os.fork():
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 3
        else:
            sys.exit(3)

    try:
        parent(fork)
    except RuntimeError as error:  # the child's copy of the loop is told before the exit is
        if os.getpid() == parent_pid:
            raise
        assert "fork" in str(error), error
        sys.exit(3)


def unwatch_in_child() -> None:
    """A reader and a signal handler that the child removes, and a signal of the child's own."""
    loop = make_loop(KIND)
    reading, writing = os.pipe()
    calls: list[str] = []
    loop.add_reader(reading, lambda: (os.read(reading, 1), calls.append("reader"), loop.stop()))
    loop.add_signal_handler(signal.SIGUSR1, lambda: (calls.append("signal"), loop.stop()))
    loop.call_soon(loop.stop)
    loop.run_forever()

    def unwatch() -> None:
        signal.raise_signal(signal.SIGUSR1)
        assert loop.remove_signal_handler(signal.SIGUSR1)
        loop.remove_reader(reading)
        loop.close()

    signal.raise_signal(signal.SIGUSR1)
    in_child(unwatch)
    loop.run_forever()
    os.write(writing, b"x")
    loop.run_forever()
    assert calls == ["signal", "reader"], calls
    loop.remove_reader(reading)
    loop.remove_signal_handler(signal.SIGUSR1)
    loop.close()
    print("parent: undisturbed")


async def echo_with(server: asyncio.Server) -> None:
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(b"still served")
    assert await reader.readexactly(12) == b"still served"
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()


def fork_beside_a_running_loop() -> None:
    """The loop runs in a thread, and the main thread forks in the midst of its traffic."""
    loop = make_loop(KIND)
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(loop.run_forever)
        for _ in range(3):
            echoing = asyncio.run_coroutine_threadsafe(echo(20), loop)
            in_child(run_fresh)
            echoing.result(20)
        loop.call_soon_threadsafe(loop.stop)
        running.result(20)
    loop.close()
    print("parent: echo")


def process_pool() -> None:
    """Its workers are forked while the loop runs, and come back to the pool's own code."""

    async def use() -> None:
        loop = asyncio.get_running_loop()
        context = multiprocessing.get_context("fork")
        with ProcessPoolExecutor(2, mp_context=context) as pool:
            echoing = loop.create_task(echo())
            powers = [loop.run_in_executor(pool, pow, 2, number) for number in range(10)]
            assert await asyncio.gather(*powers) == [2**number for number in range(10)]
            await echoing

    loop = make_loop(KIND)
    loop.run_until_complete(asyncio.wait_for(use(), 20))
    loop.close()
    print("parent: echo")


SCENARIOS = {
    "fork_beside_a_running_loop": fork_beside_a_running_loop,
    "process_pool": process_pool,
    "multiprocessing": lambda: parent(run_and_multiply),
    "fork_while_running": fork_while_running,
    "fork_in_traffic": fork_in_traffic,
    "loop_made_before": loop_made_before,
    "run_parents_loop": run_parents_loop,
    "return_into_parents_loop": return_into_parents_loop,
    "close_parents_loop": close_parents_loop,
    "leave_in_child": leave_in_child,
    "unwatch_in_child": unwatch_in_child,
}
SCENARIOS[sys.argv[2]]()
