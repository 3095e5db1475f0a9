"""A process whose address space is nearly used up: `little_memory.py KIND`."""

import asyncio
import contextlib
import errno
import resource
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from loops import make_loop, run
from smoke import smoke

KIND = sys.argv[1]
LEFT_BYTES = 6 << 20  # less than some loops need
TOO_MUCH = 1 << 30


@contextlib.contextmanager
def little_memory() -> Iterator[None]:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + LEFT_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


class Greedy(asyncio.Protocol):
    """Echoes, and to "more" wants more memory than there is."""

    def connection_made(self, transport: asyncio.Transport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(bytes(TOO_MUCH) if data == b"more" else data)


async def loops_until_refused() -> None:
    loops = []
    try:
        while len(loops) < 1000:
            loops.append(make_loop(KIND))
    except OSError as error:
        assert error.errno in (errno.ENOMEM, errno.EMFILE), error
    except (MemoryError, RuntimeError) as error:
        assert not isinstance(error, RuntimeError) or "has no memory" in str(error), error
    for loop in loops:
        loop.close()


async def thread_that_cannot_start() -> None:
    before_bytes = threading.stack_size(64 << 20)
    try:
        await asyncio.get_running_loop().run_in_executor(ThreadPoolExecutor(1), str)
    except RuntimeError as error:
        assert "thread" in str(error), error
    else:
        raise AssertionError("a thread without a stack")
    finally:
        threading.stack_size(before_bytes)


async def greedy_protocol() -> None:
    """Its connection ends, and the other one does not notice."""
    loop = asyncio.get_running_loop()
    reports: list[BaseException] = []
    loop.set_exception_handler(lambda _, about: reports.append(about["exception"]))
    server = await loop.create_server(Greedy, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    greedy = await asyncio.open_connection(*address)
    modest = await asyncio.open_connection(*address)
    with little_memory():
        greedy[1].write(b"more")
        assert await greedy[0].read() == b""
        for _ in range(100):
            modest[1].write(b"m" * 10_000)
            assert await modest[0].readexactly(10_000) == b"m" * 10_000
        await thread_that_cannot_start()
        await loops_until_refused()
    assert [type(each) for each in reports] == [MemoryError], reports
    for _, writer in (greedy, modest):
        writer.close()
        await writer.wait_closed()
    server.close()
    await server.wait_closed()


async def main() -> None:
    await smoke()
    await greedy_protocol()
    await smoke()


run(KIND, lambda: asyncio.wait_for(main(), 50))
print("recovered")
