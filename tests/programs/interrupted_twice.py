"""A program whose main task survives the first Ctrl-C."""

import asyncio
import sys

from loops import run


async def main() -> None:
    asyncio.get_running_loop().call_soon(print, "ready")
    try:
        await asyncio.sleep(3600)
    except asyncio.CancelledError:
        print("cancelled once")
    await asyncio.sleep(3600)


try:
    run(sys.argv[1], main)
except KeyboardInterrupt:
    print("interrupted")
