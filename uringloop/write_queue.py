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
    """A queue of bytes objects. `queued_bytes` is their size in all.

    Mostly there is one, which needs no list.
    """

    def __init__(self) -> None:
        self._first: bytes | None = None
        self._others: list[bytes] | None = None
        self.queued_bytes = 0

    def append(self, data: bytes) -> None:
        """Adds exact bytes at the end."""
        if self._first is None:
            self._first = data
        elif self._others is None:
            self._others = [data]
        else:
            self._others.append(data)
        self.queued_bytes += len(data)

    def clear(self) -> None:
        """Forgets everything."""
        self._first = None
        self._others = None
        self.queued_bytes = 0

    def take(self) -> Any:
        """Takes what the next send should carry: a bytes object, or a list of them."""
        if self._others is None:
            first = self._first
            self.clear()
            return first
        pieces = self._all()
        size = self.queued_bytes
        self.clear()
        if size <= _JOIN_BYTES_MAX or size < len(pieces) * _PIECE_BYTES_MIN:
            return b"".join(pieces)
        if len(pieces) > _VECTOR_PIECES_MAX:
            for piece in pieces[_VECTOR_PIECES_MAX:]:
                self.append(piece)
            del pieces[_VECTOR_PIECES_MAX:]
        return pieces

    def put_back(self, taken: Any, sent_bytes: int) -> None:
        """Puts what take() gave back to the front, but for its first `sent_bytes`."""
        later = self._all()
        self.clear()
        for piece in [taken] if type(taken) is bytes else taken:
            size = len(piece)
            if sent_bytes < size:
                self.append(piece[sent_bytes:] if sent_bytes else piece)
                sent_bytes = 0
            else:
                sent_bytes -= size
        for piece in later:
            self.append(piece)

    def _all(self) -> list[bytes]:
        if self._first is None:
            return []
        return [self._first, *self._others] if self._others else [self._first]
