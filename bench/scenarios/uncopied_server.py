"""A server of bytes in memory under test, as a child process, with set_zero_copy() or without.

    python -m bench.scenarios.uncopied_server LOOP FILE WRITE_BYTES copied|uncopied

Says where it listens, or why the loop cannot send without a copy, and serves until it is killed:
each byte that it receives is answered with what is in FILE, written in pieces of WRITE_BYTES for
as long as the transport does not ask for a pause.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench import loops
from bench.children import die_with_parent, say
from bench.errors import MissingError
from bench.scenarios.lacking import LACKING, missing

HOST = "127.0.0.1"


def pieces_of(path: str, write_bytes: int) -> list[bytes]:
    data = Path(path).read_bytes()
    return [data[start : start + write_bytes] for start in range(0, len(data), write_bytes)]


class PiecesProtocol(asyncio.Protocol):
    """One request at a time, as the client makes them.

    threshold_bytes   what is at least so much is sent without a copy; None: nothing is
    """

    def __init__(self, pieces: list[bytes], threshold_bytes: int | None) -> None:
        self._pieces = pieces
        self._threshold_bytes = threshold_bytes
        self._left: Iterator[bytes] = iter(())
        self._is_paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport
        if self._threshold_bytes is not None:
            self._transport.set_zero_copy(self._threshold_bytes)

    def data_received(self, data: bytes) -> None:
        assert len(data) == 1, "the next request came before the answer"
        self._left = iter(self._pieces)
        self._write()

    def pause_writing(self) -> None:
        self._is_paused = True

    def resume_writing(self) -> None:
        self._is_paused = False
        self._write()

    def _write(self) -> None:
        while not self._is_paused and (piece := next(self._left, None)):
            self._transport.write(piece)


async def try_zero_copy(name: str) -> None:
    """Ask a transport of the loop's own.

    raises      MissingError: the loop cannot, in its own words, where it has any.
    """
    loop = asyncio.get_running_loop()
    server = await loop.create_server(asyncio.Protocol, HOST, 0)
    transport: Any
    transport, _ = await loop.create_connection(asyncio.Protocol, *server.sockets[0].getsockname())
    try:
        if not transport.set_zero_copy(1):
            raise MissingError(f"{name}: set_zero_copy() has no effect here")
    except LACKING as error:
        raise missing(f"{name}: transport.set_zero_copy", error) from error
    finally:
        transport.close()
        server.close()


async def serve(pieces: list[bytes], threshold_bytes: int | None) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: PiecesProtocol(pieces, threshold_bytes), HOST, 0)
    port = server.sockets[0].getsockname()[1]
    say({"address": ["tcp", HOST, str(port)]})
    await loop.create_future()


def main(arguments: list[str]) -> None:
    die_with_parent()
    name, path, write_bytes, way = arguments
    threshold_bytes = int(write_bytes) if way == "uncopied" else None
    try:
        loop = loops.new_event_loop(name)
        asyncio.set_event_loop(loop)
        loop.run_until_complete(try_zero_copy(name))
        loop.run_until_complete(serve(pieces_of(path, int(write_bytes)), threshold_bytes))
    except MissingError as error:
        say({"missing": str(error)})


if __name__ == "__main__":
    main(sys.argv[1:])
