"""websockets, server and clients on the loop under test."""

from __future__ import annotations

import asyncio
from asyncio import AbstractEventLoop
from pathlib import Path
from typing import Any

import pytest
from peers import numbered_bytes

from tests.frameworks.programs import output_of_main

pytest.importorskip("websockets")

from websockets.asyncio.client import connect
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK

SECTION = "websockets"
MEBIBYTE = 1 << 20


async def echo(connection: Any) -> None:
    async for message in connection:
        await connection.send(message)


def url(server: Any) -> str:
    return "ws://{}:{}/".format(*server.sockets[0].getsockname())


async def test_messages_of_all_sizes_come_back_whole(loop: AbstractEventLoop) -> None:
    async with serve(echo, "127.0.0.1", 0) as server, connect(url(server)) as client:
        for size in (0, 1, 125, 126, 65_535, 65_536, MEBIBYTE):
            await client.send(numbered_bytes(size))
            assert await client.recv() == numbered_bytes(size)


async def test_many_clients_talk_at_once(loop: AbstractEventLoop) -> None:
    async with serve(echo, "127.0.0.1", 0) as server:

        async def talk(number: int) -> None:
            async with connect(url(server)) as client:
                for count in range(20):
                    await client.send(f"{number}:{count}")
                    assert await client.recv() == f"{number}:{count}"

        await asyncio.gather(*map(talk, range(40)))


async def test_a_client_that_does_not_read_holds_up_its_server_alone(
    loop: AbstractEventLoop,
) -> None:
    """The server's drain() waits for the client; another client is served meanwhile."""
    sent: list[int] = []

    async def flood(connection: Any) -> None:
        if connection.request.path == "/echo":
            return await echo(connection)
        for number in range(24):
            await connection.send(numbered_bytes(MEBIBYTE))
            sent.append(number)
        return None

    server = await serve(flood, "127.0.0.1", 0, compression=None)
    slow = await connect(url(server), max_queue=1, compression=None)
    async with server, slow:
        async with connect(url(server) + "echo") as quick:
            await quick.send("there?")
            assert await quick.recv() == "there?"
        assert len(sent) < 24
        for _ in range(24):
            assert await slow.recv() == numbered_bytes(MEBIBYTE)


async def test_pings_are_answered_and_closing_codes_arrive(loop: AbstractEventLoop) -> None:
    async def say_goodbye(connection: Any) -> None:
        await connection.recv()
        await connection.close(4001, "enough")

    async with serve(say_goodbye, "127.0.0.1", 0) as server, connect(url(server)) as client:
        await (await client.ping())
        await client.send("go")
        with pytest.raises(ConnectionClosedError) as closed:
            await client.recv()
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4001, "enough")


async def test_a_server_that_closes_tells_its_clients(loop: AbstractEventLoop) -> None:
    async with serve(echo, "127.0.0.1", 0) as server:
        client = await connect(url(server))
    with pytest.raises(ConnectionClosedOK):
        await client.recv()
    await client.close()


@pytest.mark.ours
def test_the_documented_program_runs_on_our_loop(tmp_path: Path, loop_kind: str) -> None:
    printed = output_of_main(SECTION, tmp_path, URINGLOOP_BACKEND=loop_kind)
    assert printed == f"through {loop_kind}\n"
