"""One of everything while another process sends signals by the dozen: `... KIND`."""

import asyncio
import contextlib
import os
import signal
import sys

from loops import run
from smoke import smoke

BURST = 30  # asyncio's wake-up socket takes some hundreds
SIGNALS = (signal.SIGUSR1, signal.SIGWINCH, signal.SIGCHLD)


@contextlib.contextmanager
def storm():
    """Until left: signals from a child, a burst as soon as the one before has been heard. Each
    comes between any two instructions."""
    parent = os.getpid()
    child = os.fork()
    if not child:
        while os.read(heard_a_burst[0], 1):
            for _ in range(BURST):
                for number in SIGNALS:
                    os.kill(parent, number)
    os.write(heard_a_burst[1], b"1")
    try:
        yield
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


async def main() -> None:
    loop = asyncio.get_running_loop()
    heard = dict.fromkeys(SIGNALS, 0)

    def hear(number: signal.Signals) -> None:
        heard[number] += 1
        if number == SIGNALS[-1] and not bursting:
            bursting.append(loop.call_soon(next_burst))

    def next_burst() -> None:
        bursting.clear()
        os.write(heard_a_burst[1], b"1")

    bursting: list[asyncio.Handle] = []
    for number in SIGNALS:
        loop.add_signal_handler(number, hear, number)
    with storm():
        for _ in range(3):
            await smoke()
    for number in SIGNALS:
        assert loop.remove_signal_handler(number)
    assert all(heard.values()), heard


heard_a_burst = os.pipe()
run(sys.argv[1], lambda: asyncio.wait_for(main(), 50))
print("weathered")
