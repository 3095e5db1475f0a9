"""Random lives of a stream: ours must tell its protocol what asyncio's tells (row 37).

A seed decides a script of steps. It is played on the loop under test and on asyncio, over a
Unix socketpair, where everything that the peer does arrives at once. After each step both
loops come to rest; then what was called, what was raised and what arrived must be equal.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import zlib
from asyncio import AbstractEventLoop
from collections.abc import Callable

import pytest
from loops import make_loop
from peers import BufferedRecorder, Recorder, numbered_bytes, turns

TURNS_TO_REST = 6
STEPS = 14
SCRIPTS = 150
BIG_BYTES = 700_000  # more than a socketpair holds


class Stage:
    """A transport, its peer, and what was noticed so far."""

    def __init__(self, transport: asyncio.Transport, protocol: Recorder, peer: socket.socket):
        self.transport = transport
        self.protocol = protocol
        self.peer = peer
        self.arrived = bytearray()
        self.sent = 0

    def drain(self) -> bool:
        """Takes what is there for the peer; whether there was anything."""
        try:
            piece = self.peer.recv(1 << 20)
        except OSError:  # nothing there, reset, or closed before
            return False
        self.arrived += piece
        return bool(piece)

    def state(self) -> str:
        calls = [call for call in self.protocol.calls if call != "data"]
        # After end-of-file asyncio still calls it reading, ours does not; nobody reads then.
        over = self.transport.is_closing() or "eof" in calls
        reading = self.transport.is_reading() and not over
        return (
            f"{' '.join(calls)} received={len(self.protocol.data)} "
            f"closing={self.transport.is_closing()} reading={reading} arrived={len(self.arrived)}"
        )


async def write(stage: Stage, size: int) -> None:
    stage.transport.write(numbered_bytes(size, stage.sent))
    stage.sent += size


async def write_lines(stage: Stage) -> None:
    if stage.transport.is_closing():
        return  # asyncio since 3.12 raises "NoneType object is not callable"
    pieces = [numbered_bytes(100, stage.sent + start) for start in range(0, 1000, 100)]
    stage.transport.writelines(pieces)
    stage.sent += 1000


async def peer_sends(stage: Stage, size: int) -> None:
    with contextlib.suppress(OSError):
        stage.peer.sendall(bytes(size))


async def peer_takes_all(stage: Stage) -> None:
    idle = 0
    while idle < TURNS_TO_REST:
        idle = 0 if stage.drain() else idle + 1
        await turns(1)


async def pause_or_resume(stage: Stage, name: str) -> None:
    if "eof" not in stage.protocol.calls:  # asyncio calls eof_received again after a resume
        await call(stage, name)


async def abort(stage: Stage) -> None:
    """A send that waits for a peer that has half-closed takes the kernel some ms to stop."""
    stage.transport.abort()
    await asyncio.wait_for(asyncio.shield(stage.protocol.lost), 5)


async def call(stage: Stage, name: str) -> None:
    getattr(stage.transport, name)()


async def peer_calls(stage: Stage, name: str, *arguments: int) -> None:
    with contextlib.suppress(OSError):
        getattr(stage.peer, name)(*arguments)


STEP_KINDS: dict[str, Callable[[Stage], object]] = {
    "write": lambda stage: write(stage, 10),
    "write more": lambda stage: write(stage, 5000),
    "write much": lambda stage: write(stage, BIG_BYTES),
    "write lines": write_lines,
    "write eof": lambda stage: call(stage, "write_eof"),
    "pause": lambda stage: pause_or_resume(stage, "pause_reading"),
    "resume": lambda stage: pause_or_resume(stage, "resume_reading"),
    "close": lambda stage: call(stage, "close"),
    "abort": abort,
    "peer sends": lambda stage: peer_sends(stage, 10),
    "peer sends more": lambda stage: peer_sends(stage, 3000),
    "peer takes all": peer_takes_all,
    "peer ends": lambda stage: peer_calls(stage, "shutdown", socket.SHUT_WR),
    "peer closes": lambda stage: peer_calls(stage, "close"),
}
# The ends come late, or most scripts would be short.
WEIGHTS = {"close": 0.3, "abort": 0.15, "peer closes": 0.15, "write eof": 0.4, "peer ends": 0.4}


def script_of(seed: int) -> list[str]:
    chance = random.Random(seed)
    kinds = list(STEP_KINDS)
    weights = [WEIGHTS.get(kind, 1.0) for kind in kinds]
    return chance.choices(kinds, weights, k=STEPS)


async def play(script: list[str], seed: int) -> list[str]:
    """What was noticed after each step of the script, and at the end."""
    chance = random.Random(seed)
    stage = await open_stage(chance)
    noticed = []
    for step in script:
        noticed.append(f"{step}: {await take(step, stage)}")
        if "lost" in stage.protocol.calls:
            break
    noticed.append(await finish(stage))
    return noticed


async def open_stage(chance: random.Random) -> Stage:
    ours, peer = socket.socketpair()
    ours.setblocking(False)
    peer.setblocking(False)
    kind = chance.choice([Recorder, BufferedRecorder])
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_unix_connection(kind, sock=ours)
    protocol.keep_open = chance.random() < 0.5
    return Stage(transport, protocol, peer)


async def take(step: str, stage: Stage) -> str:
    try:
        await STEP_KINDS[step](stage)
    except Exception as error:
        return type(error).__name__
    await turns(TURNS_TO_REST)
    return stage.state()


async def finish(stage: Stage) -> str:
    stage.transport.close()
    await peer_takes_all(stage)
    await turns(TURNS_TO_REST)
    stage.peer.close()
    error = await asyncio.wait_for(stage.protocol.lost, 5)
    await turns(TURNS_TO_REST)
    # Receive and send both fail when the peer is gone; which one is first, and so whether it
    # was a reset or a broken pipe, is open.
    kind = "gone" if isinstance(error, ConnectionError) else repr(error)
    return f"end: {stage.state()} {kind} {zlib.crc32(stage.arrived)}"


@pytest.mark.ours
@pytest.mark.parametrize("first", range(0, SCRIPTS, 25))
def test_a_stream_lives_as_asyncios_does(first: int, loop: AbstractEventLoop) -> None:
    """Row 37. A failure shows the script and both accounts of it."""
    with contextlib.closing(make_loop("asyncio")) as oracle:
        for seed in range(first, first + 25):
            script = script_of(seed)
            ours = loop.run_until_complete(play(script, seed))
            expected = oracle.run_until_complete(play(script, seed))
            assert ours == expected, f"seed {seed}"
