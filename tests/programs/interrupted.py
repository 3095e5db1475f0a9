"""A program that is interrupted by Ctrl-C in the state that its second argument names."""

import asyncio
import sys
import threading

from loops import run


async def idle() -> None:
    await asyncio.get_running_loop().create_future()


async def busy() -> None:
    while True:  # noqa: ASYNC110 - busy is what it is to be
        await asyncio.sleep(0)


async def sleeping() -> None:
    await asyncio.sleep(3600)


async def executor() -> None:
    released = threading.Event()
    try:
        await asyncio.get_running_loop().run_in_executor(None, released.wait)
    finally:
        released.set()


async def receiving() -> None:
    served = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        await writer.wait_closed()
        served.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
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
    asyncio.get_running_loop().call_soon(print, "ready")
    try:
        await state[sys.argv[2]]()
    finally:
        print("cleaned up")


try:
    run(sys.argv[1], main)
except KeyboardInterrupt:
    print("interrupted")
