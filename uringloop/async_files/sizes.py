"""How much to ask for, to have all of a file in few reads. Pure."""

from __future__ import annotations

# A read of more than this does not ask for one byte beyond the end: cutting it off is a copy.
COPIED_BYTES_MAX = 128 * 1024
# One request answers with an int.
REQUEST_BYTES_MAX = 1 << 30


def size_to_end(size: int, offset: int) -> int:
    """How much to ask for, to have all of a file of `size` bytes from `offset` on.

    Of a small file one byte more: so the answer says that this was the end.
    """
    left = size - offset
    if left <= 0:
        left = max(offset, COPIED_BYTES_MAX)  # it grows, or says too little, as those of /proc do
    elif left < COPIED_BYTES_MAX:
        left += 1
    return min(left, REQUEST_BYTES_MAX)


def is_end(result: int, asked: int, size: int, offset: int) -> bool:
    """Whether a read that brought us to `offset` says that a file of `size` bytes ends there."""
    return result < asked and offset == size
