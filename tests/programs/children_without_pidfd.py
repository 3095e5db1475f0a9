"""Children where pidfd_open is denied: `children_without_pidfd.py BACKEND NUMBER ERRNO`."""

import asyncio
import os
import sys
import threading
from asyncio.subprocess import PIPE

from seccomp_filter import deny

import uringloop

deny({int(sys.argv[2]): int(sys.argv[3])})

try:
    os.pidfd_open(os.getpid())
except OSError:
    print("no pidfd")


def waiting_threads() -> int:
    return sum(each.name.startswith("uringloop-waitid") for each in threading.enumerate())


async def main() -> None:
    process = await asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
    assert waiting_threads() == 1
    assert await process.communicate(b"through") == (b"through", None)
    assert process.returncode == 0
    killed = await asyncio.create_subprocess_exec("cat", stdin=PIPE)
    killed.kill()
    assert await killed.wait() == -9
    many = [await asyncio.create_subprocess_exec("sh", "-c", f"exit {n}") for n in range(20)]
    assert [await each.wait() for each in many] == list(range(20))
    reaped = await asyncio.create_subprocess_exec("cat", stdin=PIPE)
    reaped._transport.get_extra_info("subprocess").kill()
    reaped._transport.get_extra_info("subprocess").wait()
    assert await reaped.wait() == -9


async def start() -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec("cat", stdin=reader)


loop = uringloop.new_event_loop(sys.argv[1])
loop.run_until_complete(main())
reader, writer = os.pipe()
outliving = loop.run_until_complete(start())
loop.close()
os.close(reader)
os.close(writer)
for thread in threading.enumerate():
    if thread.name.startswith("uringloop-waitid"):
        thread.join(20)
assert waiting_threads() == 0
try:
    os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG)
except ChildProcessError:
    print("waited in threads")
outliving._transport.close()
