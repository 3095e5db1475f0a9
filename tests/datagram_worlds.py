"""A datagram endpoint of one kind of loop with all that surrounds it, moved step by step.

As worlds.py for streams: two worlds are given the same steps and must show the same. The peer
is a Unix datagram socket worked from the same thread, so that a datagram has arrived when its
call returns, and how many a full socket takes is the same in both worlds.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audit import open_descriptors, settle
from loops import make_loop

QUIET_TURNS = 8  # the longest chain is cancel, answer, connection_lost
SETTLE_LIMIT_S = 5
EMPTY_IS_SENT = sys.version_info >= (3, 13)
KINDS = {"bytes": bytes, "bytearray": bytearray, "memoryview": memoryview, "str": bytes.hex}
RAISED: dict[str, type[BaseException]] = {
    "ValueError": ValueError,
    "OSError": OSError,
    "CancelledError": asyncio.CancelledError,
}


@dataclass
class Seen:
    """What can be observed of a world once it is quiet."""

    calls: list[str]
    flow: list[str]
    received: list[str]
    peer_received: list[str]
    errors: list[str]
    reports: list[tuple[str, str]]
    closing: bool


class Player(asyncio.DatagramProtocol):
    """Tells its world of each call, and plays the reaction that the world has armed."""

    def __init__(self, world: DatagramWorld) -> None:
        self.world = world

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.world.transport = transport
        self.world.called("made")

    def datagram_received(self, data: bytes, addr: Any) -> None:
        assert addr == self.world.peer_name
        self.world.received.append(data)
        self.world.called("received")

    def error_received(self, exc: Exception) -> None:
        self.world.told_errors += 1
        self.world.called("error", f"error {type(exc).__name__} {getattr(exc, 'errno', '')}")

    def pause_writing(self) -> None:
        self.world.called("pause")

    def resume_writing(self) -> None:
        self.world.called("resume")

    def connection_lost(self, exc: BaseException | None) -> None:
        self.world.called("lost", f"lost {type(exc).__name__}")


class DatagramWorld:
    """A loop, a transport, its protocol, the peer. See Seen for what can be looked at."""

    def __init__(self, kind: str, connected: bool) -> None:
        self.kind = kind
        self.connected = connected
        self.loop = make_loop(kind)
        self.loop.set_exception_handler(self._report)
        self.calls: list[str] = []
        self.flow: list[str] = []
        self.received: list[bytes] = []
        self.peer_received: list[bytes] = []
        self.errors: list[str] = []
        self.reports: list[tuple[str, str]] = []
        self.reactions: dict[str, str] = {}
        self.told_errors = 0
        self.sent = 0
        self.peer_sent = 0
        self.peer_reads = True
        self.peer_closed = False
        self._folder = tempfile.TemporaryDirectory(prefix="datagrams-")
        self.peer_name = str(Path(self._folder.name, "peer"))
        self.own_name = str(Path(self._folder.name, "own"))
        self.peer = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.peer.setblocking(False)
        self.peer.bind(self.peer_name)
        self.loop.run_until_complete(self._open())

    async def _open(self) -> None:
        await self.loop.create_datagram_endpoint(
            lambda: Player(self),
            local_addr=self.own_name,
            remote_addr=self.peer_name if self.connected else None,
            family=socket.AF_UNIX,
        )
        await self._settle()

    def _report(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        message = context["message"].split(" callback ")[0]  # whose name is the loop's own
        self.reports.append((message, type(context.get("exception")).__name__))

    # -- steps --------------------------------------------------------------------------

    def step(self, *actions: str) -> None:
        """Does `actions`, such as "send bytes 10", within one callback; ends when quiet."""
        self.loop.run_until_complete(self._step(actions))

    async def _step(self, actions: tuple[str, ...]) -> None:
        for action in actions:
            try:
                self.act(action)
            except BaseException as error:
                self.errors.append(f"{action}: {type(error).__name__}")
        await self._settle()

    def act(self, action: str) -> None:
        name, *arguments = action.split()
        getattr(self, f"_do_{name}")(*arguments)

    def _do_send(self, kind: str, size: str, to: str = "peer") -> None:
        payload = self.sent.to_bytes(4, "big")[: int(size)].ljust(int(size), b"x")
        address = None if self.connected else self.peer_name
        if to == "nobody":
            address = self.own_name + "x"
        counted = bool(payload) or EMPTY_IS_SENT
        self.sent += counted
        told = self.told_errors
        try:
            self.transport.sendto(KINDS[kind](payload), address)
        except BaseException:
            if self.told_errors == told:  # refused, not a failing error_received()
                self.sent -= counted
            raise

    def _do_flood(self) -> None:
        """Until datagrams wait, of which there are the same number then."""
        while len(self.peer_received) + 40 > self.sent - self.told_errors:
            self._do_send("bytes", "100")

    def _do_call(self, method: str) -> None:
        getattr(self.transport, method)()

    def _do_limits(self, high: str, low: str) -> None:
        limits = [None if limit == "-" else int(limit) for limit in (high, low)]
        self.transport.set_write_buffer_limits(*limits)

    def _do_raise(self, name: str) -> None:
        raise RAISED[name](name)

    def _do_peer(self, what: str, size: str = "") -> None:
        if what == "send":
            self.peer.sendto(self.peer_sent.to_bytes(4, "big") + bytes(int(size)), self.own_name)
            self.peer_sent += 1
        else:
            self.peer.close()
            self.peer_closed = True

    def called(self, call: str, described: str = "") -> None:
        """The protocol was called: remembers it, then plays what is armed for it, once."""
        remembered = self.flow if call in ("pause", "resume") else self.calls
        remembered.append(described or call)
        reaction = self.reactions.pop(call, None)
        if reaction is not None:
            self.calls.append(f"plays {reaction}")
            self.act(reaction)

    # -- becoming quiet -----------------------------------------------------------------

    async def _settle(self) -> None:
        deadline = time.monotonic() + SETTLE_LIMIT_S
        quiet = 0
        before: object = None
        while quiet < QUIET_TURNS or not self._has_arrived():
            assert time.monotonic() < deadline, f"{self.kind} does not come to rest: {self}"
            self._pump()
            await asyncio.sleep(0)
            now = (len(self.calls), len(self.flow), len(self.peer_received), len(self.received))
            quiet = 0 if now != before else quiet + 1
            before = now

    def _pump(self) -> None:
        if not self.peer_reads or self.peer_closed:
            return
        with contextlib.suppress(BlockingIOError):
            while True:
                self.peer_received.append(self.peer.recv(1 << 18))

    def _has_arrived(self) -> bool:
        """Whether all that must happen without further ado has happened."""
        if self.is_lost() or not (self.peer_reads or self.peer_closed):
            return True
        if self.transport.is_closing() or self._is_queued():
            return False
        return self.peer_closed or len(self.peer_received) == self.sent - self.told_errors

    def _is_queued(self) -> bool:
        """Not by its size, which asyncio does not keep: see "datagram_header_bytes"."""
        if self.kind == "asyncio":
            return bool(self.transport._buffer)
        return bool(self.transport.get_write_buffer_size())

    def is_lost(self) -> bool:
        return any(call.startswith("lost") for call in self.calls)

    def is_flooded(self) -> bool:
        return self._is_queued()

    def seen(self) -> Seen:
        return Seen(
            calls=list(self.calls),
            flow=list(self.flow),
            received=[_short(data) for data in self.received],
            peer_received=[_short(data) for data in self.peer_received],
            errors=list(self.errors),
            reports=list(self.reports),
            closing=self.transport.is_closing(),
        )

    def __str__(self) -> str:
        peer = f"peer has {len(self.peer_received)} of {self.sent}"
        return f"{self.transport!r}, {peer}, {self.calls} {self.flow} {self.errors}"

    def end(self) -> None:
        """Ends what is left and closes the loop; nothing may be in flight then."""
        self.reactions.clear()
        self.peer_reads = True
        if not self.is_lost():
            self.step("call abort")
        assert self.is_lost()
        self.peer.close()
        settle(self.loop, len(open_descriptors()))
        self.loop.close()
        self._folder.cleanup()


def _short(data: bytes) -> str:
    """The datagram's number and size."""
    return f"{int.from_bytes(data[:4], 'big')}:{len(data)}"
