"""Bytes that a stream has taken from its user and not yet given to the kernel.

The queue holds exact `bytes` objects: whatever else is written is copied, so that changing
a buffer after write() changes nothing of what is sent. `take` gives the head of the queue
as one send: a single object as it is, small ones joined, larger ones as a vector.

Pure: no I/O, no loop. Compiled by Cython together with write_queue.pxd.
"""

from __future__ import annotations

import sys
from typing import Any

# Up to so many bytes are joined into one object (a copy that stays in the cache); more are
# sent from where they are, as a vector.
_JOIN_BYTES_MAX = 32 * 1024

# Pieces that are smaller than this on average are joined whatever their sum: a vector's entry
# costs more than the copy.
_PIECE_BYTES_MIN = 4 * 1024

# The kernel's IOV_MAX.
_VECTOR_PIECES_MAX = 1024

_TAKEN = (
    "a bytes, bytearray, or memoryview object"
    if sys.version_info >= (3, 14)
    else "a bytes-like object"
)


def exact_bytes(data: Any) -> bytes:
    """`data` as an exact bytes object, which nobody can change.

    raises   TypeError with asyncio's words when data is not bytes-like
    """
    if type(data) is bytes:
        return data
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise TypeError(f"data argument must be {_TAKEN}, not {type(data).__name__!r}")
    return bytes(data)


class WriteQueue:
    """A queue of bytes objects. `queued_bytes` is their size in all."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self.queued_bytes = 0

    def append(self, data: bytes) -> None:
        """Adds exact bytes at the end."""
        self._pieces.append(data)
        self.queued_bytes += len(data)

    def clear(self) -> None:
        """Forgets everything."""
        self._pieces = []
        self.queued_bytes = 0

    def take(self) -> Any:
        """Takes what the next send should carry: a bytes object, or a list of them."""
        pieces = self._pieces
        count = len(pieces)
        taken_bytes = self.queued_bytes
        joined = taken_bytes <= _JOIN_BYTES_MAX or taken_bytes < count * _PIECE_BYTES_MIN
        if count > _VECTOR_PIECES_MAX and not joined:
            return self._take_vector()
        self._pieces = []
        self.queued_bytes = 0
        if count == 1:
            return pieces[0]
        return b"".join(pieces) if joined else pieces

    def _take_vector(self) -> Any:
        """Takes as many pieces as one vector holds."""
        taken = self._pieces[:_VECTOR_PIECES_MAX]
        self._pieces = self._pieces[_VECTOR_PIECES_MAX:]
        for piece in taken:
            self.queued_bytes -= len(piece)
        return taken

    def put_back(self, taken: Any, sent_bytes: int) -> None:
        """Puts what take() gave back to the front, but for its first `sent_bytes`."""
        pieces = [taken] if type(taken) is bytes else taken
        rest = []
        for piece in pieces:
            size = len(piece)
            if sent_bytes >= size:
                sent_bytes -= size
                continue
            rest.append(piece[sent_bytes:] if sent_bytes else piece)
            self.queued_bytes += size - sent_bytes
            sent_bytes = 0
        rest.extend(self._pieces)
        self._pieces = rest
