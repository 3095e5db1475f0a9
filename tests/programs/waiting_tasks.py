"""A program whose tasks wait for one another, and the last of them for ever."""

import asyncio
import sys

from loops import run


async def innermost() -> None:
    # Said in the next turn, when all tasks wait.
    asyncio.get_running_loop().call_soon(print, "ready")
    await asyncio.get_running_loop().create_future()


async def middle() -> None:
    await innermost()


async def waiter() -> None:
    await asyncio.create_task(middle(), name="the awaited")


async def main() -> None:
    await asyncio.create_task(waiter(), name="the waiter")


run(sys.argv[1], main)
