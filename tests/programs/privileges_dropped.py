"""Root makes a loop and then becomes somebody else: `privileges_dropped.py KIND`.

What only root may open must be refused from then on, whoever made the ring.
"""

import asyncio
import os
import socket
import sys
import tempfile
from pathlib import Path

from loops import make_loop
from smoke import limited_smoke

import uringloop

NOBODY = 65_534


async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"hello")
    writer.close()
    await writer.wait_closed()


async def greeted(path: Path) -> bytes:
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        return await reader.read()
    finally:
        writer.close()
        await writer.wait_closed()


async def connected(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, str(path))


async def opened(path: Path) -> str:
    """By the ring where the loop has one, and some other file's content."""
    async with uringloop.open(path.with_name("file")) as file:
        return await file.read()


async def main(path: Path) -> None:
    await limited_smoke()
    server = await asyncio.start_unix_server(greet, path)
    path.with_name("file").write_text("secret")
    assert await greeted(path) == b"hello"
    assert await opened(path) == "secret"
    drop_privileges()
    for use in (greeted, connected, opened):
        try:
            await use(path)
        except PermissionError:
            print("refused")
    await limited_smoke()
    os.setresuid(0, 0, 0)  # from 3.13 on the server removes its socket
    server.close()
    await server.wait_closed()


def drop_privileges() -> None:
    # The effective user alone: the saved one removes the folder in the end.
    os.setresgid(NOBODY, NOBODY, 0)
    os.setresuid(NOBODY, NOBODY, 0)


with tempfile.TemporaryDirectory() as name:  # which is root's alone
    loop = make_loop(sys.argv[1])
    try:
        loop.run_until_complete(main(Path(name, "socket")))
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        os.setresuid(0, 0, 0)
        loop.close()
print("dropped")
