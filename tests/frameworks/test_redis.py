"""redis-py on the loop under test, against a redis-server of the test's own."""

from __future__ import annotations

import asyncio
import shutil
from asyncio import AbstractEventLoop
from collections.abc import Iterator
from pathlib import Path

import pytest
from peers import numbered_bytes

from tests.frameworks.programs import output_of_main
from tests.frameworks.services import redis_server

pytest.importorskip("redis")

from redis.asyncio import Redis

PROGRAM = shutil.which("redis-server") or shutil.which("valkey-server")
pytestmark = pytest.mark.skipif(PROGRAM is None, reason="needs redis-server")


@pytest.fixture(scope="module")
def path() -> Iterator[str]:
    assert PROGRAM is not None
    with redis_server(PROGRAM) as path:
        yield path


async def test_values_go_there_and_back(path: str, loop: AbstractEventLoop) -> None:
    async with Redis(unix_socket_path=path) as redis:
        for size in (0, 1, 4096, 2_000_000):
            await redis.set("value", numbered_bytes(size))
            assert await redis.get("value") == numbered_bytes(size)


async def test_a_pipeline_answers_in_order(path: str, loop: AbstractEventLoop) -> None:
    async with Redis(unix_socket_path=path) as redis, redis.pipeline() as pipeline:
        await redis.delete("count")
        for _ in range(2000):
            pipeline.incr("count")
        assert await pipeline.execute() == list(range(1, 2001))


async def test_many_callers_share_a_pool(path: str, loop: AbstractEventLoop) -> None:
    async with Redis(unix_socket_path=path, max_connections=50) as redis:

        async def use(number: int) -> bool:
            await redis.set(f"key {number}", number)
            return int(await redis.get(f"key {number}")) == number

        for start in range(0, 200, 40):
            assert all(await asyncio.gather(*map(use, range(start, start + 40))))


async def test_what_is_published_is_heard(path: str, loop: AbstractEventLoop) -> None:
    async with Redis(unix_socket_path=path) as redis, redis.pubsub() as subscriber:
        await subscriber.subscribe("news")
        assert (await subscriber.get_message(timeout=10))["type"] == "subscribe"
        for number in range(100):
            await redis.publish("news", number)
        heard = [await subscriber.get_message(timeout=10) for _ in range(100)]
        assert [int(message["data"]) for message in heard] == list(range(100))


async def test_a_call_that_blocks_wakes_for_another_and_times_out(
    path: str, loop: AbstractEventLoop
) -> None:
    async with Redis(unix_socket_path=path) as redis:
        await redis.delete("queue")
        waiting = asyncio.ensure_future(redis.blpop(["queue"], timeout=15))
        await redis.rpush("queue", "first")
        assert await waiting == (b"queue", b"first")
        assert await redis.blpop(["queue"], timeout=0.05) is None


@pytest.mark.ours
def test_the_documented_program_runs_on_our_loop(path: str, tmp_path: Path, loop_kind: str) -> None:
    printed = output_of_main("redis-py", tmp_path, URINGLOOP_BACKEND=loop_kind, REDIS_SOCKET=path)
    assert printed == f"42 {loop_kind}\n"
