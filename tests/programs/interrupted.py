"""A program that is interrupted by Ctrl-C in the state that its second argument names."""

import asyncio
import sys
import threading

from loops import run


def ready() -> None:
    """Said in the next turn, when the state is reached."""
    asyncio.get_running_loop().call_soon(print, "ready")


async def idle() -> None:
    ready()
    await asyncio.get_running_loop().create_future()


async def busy() -> None:
    ready()
    while True:  # noqa: ASYNC110 - busy is what it is to be
        await asyncio.sleep(0)


async def sleeping() -> None:
    ready()
    await asyncio.sleep(3600)


async def executor() -> None:
    released = threading.Event()
    ready()
    try:
        await asyncio.get_running_loop().run_in_executor(None, released.wait)
    finally:
        released.set()


async def receiving() -> None:
    served = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.read()
        finally:
            writer.close()
            served.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    ready()
    try:
        await reader.read()
    finally:
        writer.close()
        await writer.wait_closed()
        await served.wait()
        server.close()
        await server.wait_closed()


async def main() -> None:
    state = {each.__name__: each for each in (idle, busy, sleeping, executor, receiving)}
    try:
        await state[sys.argv[2]]()
    finally:
        print("cleaned up")


try:
    run(sys.argv[1], main)
except KeyboardInterrupt:
    print("interrupted")
