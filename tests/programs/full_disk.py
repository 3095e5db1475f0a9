"""A process whose file system is full: `full_disk.py KIND`.

Where it may not mount one for itself, it says so and ends.
"""

import asyncio
import errno
import socket
import sys
import tempfile
from asyncio.subprocess import DEVNULL, PIPE
from pathlib import Path

from loops import run
from namespaces import have_own_mounts, mount_memory, unmount

FILES_MAX = 4  # of which the file system itself has one


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError as error:
            assert error.errno == errno.ENOSPC, error


async def child_that_writes(path: Path) -> int:
    """What a child makes of it is its own affair."""
    with path.open("ab") as file:
        command = "printf %10000d 1 2>&1 || exit 7"
        child = await asyncio.create_subprocess_shell(command, stdout=file, stderr=DEVNULL)
        return await child.wait()


async def child_between_pipes(path: Path) -> bytes:
    child = await asyncio.create_subprocess_exec("cat", path, stdout=PIPE)
    return (await child.communicate())[0]


async def served(path: Path) -> None:
    server = await asyncio.start_unix_server(greet, path)
    reader, writer = await asyncio.open_unix_connection(path)
    assert await reader.read() == b"hello"
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()


async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"hello")
    writer.close()
    await writer.wait_closed()


async def sent_through_socket(path: Path) -> bytes:
    loop = asyncio.get_running_loop()
    ours, peer = socket.socketpair()
    ours.setblocking(False)
    transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
    reader, writer = await asyncio.open_connection(sock=peer)
    receiving = asyncio.ensure_future(reader.read())
    with path.open("rb") as file:
        await loop.sendfile(transport, file)
    transport.close()
    content = await receiving
    writer.close()
    await writer.wait_closed()
    return content


async def main(folder: Path) -> None:
    big, spare = folder / "big", folder / "spare"
    spare.touch()
    fill(big)
    content = big.read_bytes()
    assert content
    assert await child_that_writes(spare) == 7
    assert await child_between_pipes(big) == content
    assert await sent_through_socket(big) == content
    (folder / "last").touch()
    try:
        await served(folder / "socket")
    except OSError as error:
        assert error.errno == errno.ENOSPC, error
        print("refused")
    spare.unlink()
    big.unlink()
    await served(folder / "socket")
    print("recovered")


with tempfile.TemporaryDirectory() as name:
    try:
        have_own_mounts()
        mount_memory(name, f"size=64k,nr_inodes={FILES_MAX}")
    except OSError as error:
        print("no mount:", error)
        sys.exit(0)
    run(sys.argv[1], lambda: asyncio.wait_for(main(Path(name)), 50))
    unmount(name)
