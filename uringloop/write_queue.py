"""Bytes that a stream has taken from its user and not yet given to the kernel.

The queue holds exact `bytes` objects: whatever else is written is copied, so that changing
a buffer after write() changes nothing of what is sent. `take` gives the head of the queue
as one send: a single object as it is, small ones joined, larger ones as a vector.

Pure: no I/O, no loop. Compiled by Cython together with write_queue.pxd.
"""

from __future__ import annotations

from typing import Any

# Up to so many bytes are joined into one object (a copy that stays in the cache); more are
# sent from where they are, as a vector.
_JOIN_BYTES_MAX = 32 * 1024

# The kernel's IOV_MAX.
_VECTOR_PIECES_MAX = 1024


def exact_bytes(data: Any) -> bytes:
    """`data` as an exact bytes object, which nobody can change.

    raises   TypeError with asyncio's words when data is not bytes-like
    """
    if type(data) is bytes:
        return data
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise TypeError(f"data argument must be a bytes-like object, not {type(data).__name__!r}")
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

    def is_single(self, size_max: int) -> bool:
        """Whether there is just one piece, of at most `size_max` bytes."""
        return len(self._pieces) == 1 and self.queued_bytes <= size_max

    def take(self) -> Any:
        """Takes what the next send should carry: a bytes object, or a list of them."""
        pieces = self._pieces
        taken_bytes = self.queued_bytes
        if len(pieces) == 1:
            self._pieces = []
            self.queued_bytes = 0
            return pieces[0]
        if len(pieces) > _VECTOR_PIECES_MAX:
            return self._take_many()
        self._pieces = []
        self.queued_bytes = 0
        if taken_bytes <= _JOIN_BYTES_MAX:
            return b"".join(pieces)
        return pieces

    def _take_many(self) -> Any:
        """Takes as many pieces as one vector holds; small ones are joined first."""
        taken = self._pieces[:_VECTOR_PIECES_MAX]
        taken_bytes = 0
        for piece in taken:
            taken_bytes += len(piece)
        self._pieces = self._pieces[_VECTOR_PIECES_MAX:]
        self.queued_bytes -= taken_bytes
        if taken_bytes <= _JOIN_BYTES_MAX:
            return b"".join(taken)
        return taken
