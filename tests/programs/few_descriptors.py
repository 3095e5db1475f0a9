"""A process that may have 64 descriptors, and uses the last of them: `few_descriptors.py KIND`."""

import asyncio
import contextlib
import errno
import os
import resource
import sys
from collections.abc import Awaitable, Callable, Iterator

from audit import open_descriptors
from loops import make_loop, run
from smoke import smoke

KIND = sys.argv[1]


class Echo(asyncio.Protocol):
    def connection_made(self, transport: asyncio.Transport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def connect_until_refused(address: tuple[str, int]) -> list[Stream]:
    """Both ends are in this process, and so is the server that runs out first or last."""
    streams: list[Stream] = []
    while True:
        try:
            streams.append(await asyncio.open_connection(*address))
        except OSError as error:
            assert error.errno == errno.EMFILE, error
            return streams


async def echo(stream: Stream) -> None:
    stream[1].write(b"there?")
    assert await stream[0].readexactly(6) == b"there?"


async def close(stream: Stream) -> None:
    stream[1].close()
    await stream[1].wait_closed()


async def exhaust_and_recover() -> None:
    reports: list[int] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, about: reports.append(about["exception"].errno))
    server = await loop.create_server(Echo, "127.0.0.1", 0)
    streams = await connect_until_refused(server.sockets[0].getsockname())
    assert len(streams) > 20, len(streams)
    # Those that the server had no descriptor for are in its queue; the others are served.
    for stream in streams[:20]:
        await echo(stream)
    for stream in streams[:20]:
        await close(stream)
    await asyncio.gather(*map(echo, streams[20:]))
    await asyncio.gather(*map(close, streams[20:]))
    server.close()
    await server.wait_closed()
    assert set(reports) <= {errno.EMFILE}, reports


@contextlib.contextmanager
def no_descriptors() -> Iterator[None]:
    taken = []
    with contextlib.suppress(OSError):
        while True:
            taken.append(os.dup(2))
    try:
        yield
    finally:
        for fd in taken:
            os.close(fd)


async def start_child() -> None:
    await asyncio.create_subprocess_exec("true", stdin=asyncio.subprocess.PIPE)


async def start_datagrams() -> None:
    loop = asyncio.get_running_loop()
    await loop.create_datagram_endpoint(asyncio.DatagramProtocol, ("127.0.0.1", 0))


async def connect() -> None:
    await asyncio.open_connection("127.0.0.1", 1)


async def make_another_loop() -> None:
    make_loop(KIND)


async def expect_emfile(use: Callable[[], Awaitable[None]]) -> None:
    before = open_descriptors()
    try:
        with no_descriptors():
            await use()
    except OSError as error:
        assert error.errno == errno.EMFILE, (use, error)
    else:
        raise AssertionError(use)
    await asyncio.sleep(0)
    assert open_descriptors() == before, use


async def main() -> None:
    await smoke()
    await exhaust_and_recover()
    for use in (start_child, start_datagrams, connect):
        await expect_emfile(use)
    if KIND != "asyncio":  # which warns of the loop that did not come to be
        await expect_emfile(make_another_loop)
    await smoke()


resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
run(KIND, lambda: asyncio.wait_for(main(), 50))
print("recovered")
