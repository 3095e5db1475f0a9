"""asyncpg on the loop under test, against a PostgreSQL of the test's own."""

from __future__ import annotations

import asyncio
import datetime
import io
from asyncio import AbstractEventLoop
from collections.abc import Iterator
from pathlib import Path

import pytest
from peers import numbered_bytes

from tests.frameworks.programs import output_of_main
from tests.frameworks.services import find_postgresql, postgresql

asyncpg = pytest.importorskip("asyncpg")

PROGRAMS = find_postgresql()
pytestmark = pytest.mark.skipif(PROGRAMS is None, reason="needs PostgreSQL's programs")


@pytest.fixture(scope="module")
def host() -> Iterator[str]:
    assert PROGRAMS is not None
    with postgresql(PROGRAMS) as host:
        yield host


async def test_values_go_there_and_back(host: str, loop: AbstractEventLoop) -> None:
    connection = await asyncpg.connect(host=host, user="postgres")
    values = [7, "text \u20ac", numbered_bytes(300_000), [1, 2, 3], datetime.date(2024, 2, 29)]
    row = await connection.fetchrow(
        "select $1::int, $2::text, $3::bytea, $4::int[], $5::date", *values
    )
    assert list(row) == values
    await connection.close()


async def test_many_rows_are_fetched_and_copied(host: str, loop: AbstractEventLoop) -> None:
    connection = await asyncpg.connect(host=host, user="postgres")
    await connection.execute("create temporary table numbers (n int, words text)")
    rows = [(n, f"number {n}" * 5) for n in range(20_000)]
    await connection.copy_records_to_table("numbers", records=rows)
    assert [tuple(row) for row in await connection.fetch("select * from numbers")] == rows
    async with connection.transaction():
        assert len([row async for row in connection.cursor("select n from numbers")]) == 20_000
    copied = io.BytesIO()
    await connection.copy_from_query("select n from numbers order by n", output=copied)
    assert copied.getvalue() == b"".join(b"%d\n" % n for n in range(20_000))
    await connection.close()


async def test_a_pool_serves_many_at_once(host: str, loop: AbstractEventLoop) -> None:
    async with asyncpg.create_pool(host=host, user="postgres", min_size=2, max_size=8) as pool:
        answers = await asyncio.gather(*(pool.fetchval("select $1::int", n) for n in range(300)))
        assert answers == list(range(300))


async def test_a_transaction_that_fails_is_rolled_back(host: str, loop: AbstractEventLoop) -> None:
    connection = await asyncpg.connect(host=host, user="postgres")
    await connection.execute("create temporary table facts (n int primary key)")
    with pytest.raises(asyncpg.UniqueViolationError):
        async with connection.transaction():
            await connection.executemany("insert into facts values ($1)", [(1,), (2,), (1,)])
    assert await connection.fetchval("select count(*) from facts") == 0
    await connection.close()


async def test_notices_arrive(host: str, loop: AbstractEventLoop) -> None:
    listener = await asyncpg.connect(host=host, user="postgres")
    speaker = await asyncpg.connect(host=host, user="postgres")
    heard: asyncio.Queue[str] = asyncio.Queue()
    await listener.add_listener("news", lambda *about: heard.put_nowait(about[-1]))
    for number in range(50):
        await speaker.execute("select pg_notify('news', $1)", str(number))
    assert [await heard.get() for _ in range(50)] == [str(number) for number in range(50)]
    await listener.close()
    await speaker.close()


async def test_a_query_that_is_cancelled_leaves_a_pool_that_works(
    host: str, loop: AbstractEventLoop
) -> None:
    """asyncpg asks the server to stop by a connection of its own."""
    async with asyncpg.create_pool(host=host, user="postgres", min_size=1, max_size=1) as pool:
        for _ in range(3):
            with pytest.raises(asyncio.TimeoutError):
                await pool.fetchval("select pg_sleep(60)", timeout=0.05)
            assert await pool.fetchval("select 1") == 1


@pytest.mark.ours
def test_the_documented_program_runs_on_our_loop(host: str, tmp_path: Path, loop_kind: str) -> None:
    printed = output_of_main("asyncpg", tmp_path, URINGLOOP_BACKEND=loop_kind, PGHOST=host)
    assert printed == f"42 {loop_kind}\n"
