"""What the two ways to relay have in common: the verdict, and how both sides end.

A path moves bytes between side 0 ("a") and side 1 ("b"), and ends once: by a verdict, after
which it closes both sides, and by `ended`, a Future that is answered when nothing of them is
with the kernel any more. The paths are relay_engine.EnginePath and relay_streams.StreamsPath.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import time
from asyncio.trsock import TransportSocket
from dataclasses import dataclass
from typing import Any, Literal

from uringloop.relay_result import RelayEnd, RelayResult

_NAMES: tuple[Literal["a", "b"], ...] = ("a", "b")
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


@dataclass(frozen=True)
class Verdict:
    """Why a path ends. `reason` is None for a cancel; failed_side: an index, or None."""

    reason: RelayEnd | None
    error: OSError | None = None
    failed_side: int | None = None


class Path:
    """A path that has not begun: begin() starts it.

    given   what it was made for, kept while it goes on: a StreamWriter that is forgotten closes
            its transport
    """

    given: tuple[Any, ...] = ()

    def __init__(self, loop: Any) -> None:
        self.loop = loop
        self.ended: Any = loop.create_future()
        self.verdict: Verdict | None = None
        self._begun_s = time.monotonic()

    def begin(self) -> None:
        raise NotImplementedError

    def moved_bytes(self, side: int) -> int:
        """How many bytes from this side were given to the other."""
        raise NotImplementedError

    def buffers_held(self) -> int:
        """Pieces of memory that hold bytes which the other side has not taken."""
        raise NotImplementedError

    def progressed_s(self) -> float:
        """When the last byte moved, by time.monotonic(); before the first, the beginning."""
        raise NotImplementedError

    def end(self, verdict: Verdict) -> None:
        """Ends it, unless it has a verdict already."""
        raise NotImplementedError

    def _answer(self) -> None:
        """Both sides are closed: tells who waits."""
        verdict = self.verdict
        if self.ended.done() or verdict is None:
            return
        if verdict.reason is None:
            self.ended.cancel()
            return
        failed = None if verdict.failed_side is None else _NAMES[verdict.failed_side]
        self.ended.set_result(
            RelayResult(
                bytes_a_to_b=self.moved_bytes(0),
                bytes_b_to_a=self.moved_bytes(1),
                reason=verdict.reason,
                error=verdict.error,
                failed_side=failed,
            )
        )


def reset_on_close(sock: Any) -> None:
    """Has the peer of a TCP connection see RST, not FIN: what it sent or waits for is lost.

    sock   what a transport calls its "socket"; None is a pipe
    """
    if sock is None or sock.fileno() < 0:
        return
    if isinstance(sock, (socket.socket, TransportSocket)):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        return
    # Another loop's object, which may not take options. Without a descriptor to spare it is
    # closed by FIN after all.
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(sock.fileno())) as twin:
        twin.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
