"""anyio on our loops: its sockets, processes, threads and signals; httpx; its pytest plugin."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from loops import LoopFactory
from peers import numbered_bytes

from tests.frameworks.asgi import uvicorn_server
from tests.frameworks.documented import write_files
from tests.frameworks.programs import output_of, output_of_main, without

anyio = pytest.importorskip("anyio")
httpx = pytest.importorskip("httpx")

SECTION = "anyio and httpx"
LIMIT_S = 20
BULK = numbered_bytes(2_000_000)

Run = Callable[[Callable[[], Any]], None]


@pytest.fixture
def run(new_loop: LoopFactory) -> Run:
    """Runs a coroutine function by anyio, within a limit; the loop is audited afterwards."""

    def run(main: Callable[[], Any]) -> None:
        async def limited() -> None:
            with anyio.fail_after(LIMIT_S):
                await main()

        anyio.run(limited, backend_options={"loop_factory": new_loop})

    return run


async def echo(stream: Any) -> None:
    async with stream:
        async for piece in stream:
            await stream.send(piece)


async def echoed(stream: Any, data: bytes) -> bytes:
    """What comes back while it is being sent."""
    received = bytearray()
    async with stream, anyio.create_task_group() as group:
        group.start_soon(stream.send, data)
        while len(received) < len(data):
            received += await stream.receive()
    return bytes(received)


def test_tcp_streams_carry_bulk_both_ways(run: Run) -> None:
    async def main() -> None:
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        async with listener, anyio.create_task_group() as group:
            group.start_soon(listener.serve, echo)
            assert await echoed(await anyio.connect_tcp("127.0.0.1", port), BULK) == BULK
            group.cancel_scope.cancel()

    run(main)


def test_unix_streams_carry_bulk_both_ways(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        listener = await anyio.create_unix_listener(tmp_path / "socket")
        async with listener, anyio.create_task_group() as group:
            group.start_soon(listener.serve, echo)
            assert await echoed(await anyio.connect_unix(tmp_path / "socket"), BULK) == BULK
            group.cancel_scope.cancel()

    run(main)


def test_a_descriptor_goes_through_a_unix_stream(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        listener = await anyio.create_unix_listener(tmp_path / "socket")
        client = await anyio.connect_unix(tmp_path / "socket")
        async with listener, client, await listener.accept() as server:
            with (tmp_path / "file").open("wb") as file:
                await client.send_fds(b"one", [file])
            message, (fd,) = await server.receive_fds(10, 1)
        assert message == b"one"
        os.write(fd, b"written by its receiver")
        os.close(fd)

    run(main)
    assert (tmp_path / "file").read_bytes() == b"written by its receiver"


def test_datagrams_go_there_and_back(run: Run) -> None:
    async def main() -> None:
        async with await anyio.create_udp_socket(local_host="127.0.0.1") as server:
            host, port = server.extra(anyio.abc.SocketAttribute.local_address)
            async with await anyio.create_connected_udp_socket(host, port) as client:
                for number in range(100):
                    await client.send(b"%d" % number)
                    data, sender = await server.receive()
                    await server.sendto(data * 2, *sender)
                    assert await client.receive() == b"%d" % number * 2

    run(main)


def test_a_process_is_fed_and_read(run: Run) -> None:
    async def main() -> None:
        ended = await anyio.run_process(["tr", "a-z", "A-Z"], input=b"shout " * 10_000)
        assert ended.stdout == b"SHOUT " * 10_000

    run(main)


def test_threads_call_back_into_the_loop(run: Run) -> None:
    async def main() -> None:
        def work(number: int) -> int:
            return anyio.from_thread.run_sync(lambda: number + 1)

        assert [await anyio.to_thread.run_sync(work, n) for n in range(20)] == list(range(1, 21))

    run(main)


def test_signals_are_received(run: Run) -> None:
    async def main() -> None:
        with anyio.open_signal_receiver(signal.SIGUSR1) as signals:
            os.kill(os.getpid(), signal.SIGUSR1)
            async for number in signals:
                assert number == signal.SIGUSR1
                break

    run(main)


def test_a_scope_that_is_cancelled_loses_no_bytes_of_a_stream(run: Run) -> None:
    async def main() -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            stream = await anyio.abc.UNIXSocketStream.from_socket(ours)
            async with stream:
                for number in range(50):
                    with anyio.move_on_after(0):
                        await stream.receive()
                    theirs.sendall(b"%02d" % number)
                    assert await stream.receive() == b"%02d" % number

    run(main)


def test_httpx_and_uvicorn_send_bulk_both_ways(run: Run) -> None:
    async def main() -> None:
        async with uvicorn_server("h11") as (host, port), httpx.AsyncClient() as client:

            async def post(number: int) -> None:
                body = numbered_bytes(1 + 1009 * number)
                response = await client.post(f"http://{host}:{port}/", content=body)
                assert response.content == body

            async with anyio.create_task_group() as group:
                for number in range(60):
                    group.start_soon(post, number)
            answer = await client.post(f"http://{host}:{port}/", content=BULK)
            assert answer.content == BULK

    run(main)


def test_httpx_times_out_and_goes_on(run: Run) -> None:
    async def main() -> None:
        async with await anyio.create_tcp_listener(local_host="127.0.0.1") as silent:
            port = silent.extra(anyio.abc.SocketAttribute.local_port)
            async with httpx.AsyncClient() as client:
                with pytest.raises(httpx.ReadTimeout):
                    await client.get(f"http://127.0.0.1:{port}/", timeout=0.05)
                async with uvicorn_server("h11") as (host, port):
                    assert (await client.get(f"http://{host}:{port}/")).text == "Hello, world!"

    run(main)


@pytest.mark.ours
def test_the_documented_program_runs_on_our_loop(tmp_path: Path, loop_kind: str) -> None:
    printed = output_of_main(SECTION, tmp_path, URINGLOOP_BACKEND=loop_kind)
    assert printed == f"{loop_kind}\n"


@pytest.mark.ours
def test_the_documented_fixture_gives_tests_our_loop(tmp_path: Path, loop_kind: str) -> None:
    write_files(SECTION, tmp_path)
    (tmp_path / "test_it.py").write_text(
        "import asyncio, pytest\n"
        "pytestmark = pytest.mark.anyio\n"
        "async def test_loop():\n"
        f"    assert asyncio.get_running_loop().backend == {loop_kind!r}\n"
    )
    printed = output_of(
        [sys.executable, "-m", "pytest", "-q", *without("aiohttp", "asyncio")],
        tmp_path,
        URINGLOOP_BACKEND=loop_kind,
    )
    assert "1 passed" in printed
