"""The life of a byte stream, as one table.

A transport asks `next_state` what an occurrence leads to; a pair that is missing is a bug
in the caller. Pure: no I/O, no loop. Compiled by Cython together with stream_state.pxd.

    OPEN ----------- reading and writing
    FINISHING ------ write_eof() was asked, bytes are still queued
    HALF_CLOSED ---- the sending side is shut
    DRAINING ------- close() was asked, bytes are still queued
    CLOSING -------- nothing more to send; connection_lost() is scheduled
    LOST ----------- connection_lost() was called; waiting for the kernel's last answers
    CLOSED --------- the socket is closed
"""

from __future__ import annotations

OPEN = 0
FINISHING = 1
HALF_CLOSED = 2
DRAINING = 3
CLOSING = 4
LOST = 5
CLOSED = 6

STATE_NAMES = ("open", "finishing", "half-closed", "draining", "closing", "lost", "closed")

EOF_ASKED = 0  # write_eof()
CLOSE_ASKED = 1  # close()
QUEUE_EMPTY = 2
FAILED = 3  # a fatal error, or abort()
LOSS_TOLD = 4  # connection_lost() was called
ANSWERED = 5  # nothing of this stream is with the kernel any more
_OCCURRENCES = 6

_NEXT = {
    (OPEN, EOF_ASKED): FINISHING,
    (OPEN, CLOSE_ASKED): DRAINING,
    (OPEN, FAILED): CLOSING,
    (FINISHING, QUEUE_EMPTY): HALF_CLOSED,
    (FINISHING, CLOSE_ASKED): DRAINING,
    (FINISHING, FAILED): CLOSING,
    (HALF_CLOSED, CLOSE_ASKED): DRAINING,
    (HALF_CLOSED, FAILED): CLOSING,
    (DRAINING, QUEUE_EMPTY): CLOSING,
    (DRAINING, FAILED): CLOSING,
    (CLOSING, LOSS_TOLD): LOST,
    (LOST, ANSWERED): CLOSED,
}


# The same by position, which costs a connection less than four look-ups of a pair.
_IMPOSSIBLE = -1
_TABLE = [
    _NEXT.get((state, occurrence), _IMPOSSIBLE)
    for state in range(len(STATE_NAMES))
    for occurrence in range(_OCCURRENCES)
]


def next_state(state: int, occurrence: int) -> int:
    """The state after `occurrence`. KeyError for a pair that cannot happen."""
    following: int = _TABLE[state * _OCCURRENCES + occurrence]
    if following == _IMPOSSIBLE:
        raise KeyError((state, occurrence))
    return following
