"""A file server under test, as a child process: loop.sendfile() over TCP on one loop.

    python -m bench.scenarios.sendfile_server LOOP FILE

Says where it listens, or that the loop has no sendfile(), and serves until it is killed:
each byte that it receives is answered with the whole file.
"""

from __future__ import annotations

import asyncio
import sys
from typing import BinaryIO, cast

from bench import loops
from bench.children import die_with_parent, say
from bench.errors import MissingError
from bench.scenarios.lacking import LACKING, missing

HOST = "127.0.0.1"


class FileProtocol(asyncio.Protocol):
    """One request at a time, as the client makes them."""

    _transport: asyncio.Transport

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._sending: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        assert len(data) == 1, "the next request came before the answer"
        self._sending = asyncio.ensure_future(self._send())

    async def _send(self) -> None:
        try:
            await asyncio.get_running_loop().sendfile(self._transport, self._file)
        except BaseException:
            self._transport.abort()  # the client must not wait for the rest
            raise


async def try_sendfile(name: str, file: BinaryIO) -> None:
    """Send a byte over a connection of the loop's own.

    raises      MissingError: the loop cannot, in its own words.
    """
    loop = asyncio.get_running_loop()
    server = await loop.create_server(asyncio.Protocol, HOST, 0)
    host, port = server.sockets[0].getsockname()
    transport, _ = await loop.create_connection(asyncio.Protocol, host, port)
    try:
        await loop.sendfile(transport, file, 0, 1)
    except (*LACKING, RuntimeError) as error:  # RuntimeError: not for its transports
        raise missing(f"{name}: loop.sendfile", error) from error
    finally:
        transport.close()
        server.close()


async def serve(name: str, file: BinaryIO) -> None:
    await try_sendfile(name, file)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: FileProtocol(file), HOST, 0)
    port = server.sockets[0].getsockname()[1]
    say({"address": ["tcp", HOST, str(port)]})
    await loop.create_future()


def main(arguments: list[str]) -> None:
    die_with_parent()
    name, path = arguments
    try:
        loop = loops.new_event_loop(name)
        asyncio.set_event_loop(loop)
        with open(path, "rb") as file:
            loop.run_until_complete(serve(name, file))
    except MissingError as error:
        say({"missing": str(error)})


if __name__ == "__main__":
    main(sys.argv[1:])
