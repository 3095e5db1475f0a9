"""How a relay ended. Pure: no I/O, no loop."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Literal


class RelayEnd(str, enum.Enum):
    """Why a relay ended.

    EOF            both sides have ended their sending, and all was carried
    RESET          a side failed: connection reset, broken pipe, a timeout of the kernel
    IDLE_TIMEOUT   for so long no byte came in either direction
    CLOSED         a transport was closed from our side
    """

    EOF = "eof"
    RESET = "reset"
    IDLE_TIMEOUT = "idle_timeout"
    CLOSED = "closed"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, slots=True)
class RelayResult:
    """What a relay has done, and why it is over.

    bytes_a_to_b, bytes_b_to_a   given to the other side's transport or socket
    error                        what failed, with RESET; else None
    failed_side                  "a" or "b", with RESET; else None
    """

    bytes_a_to_b: int
    bytes_b_to_a: int
    reason: RelayEnd
    error: OSError | None
    failed_side: Literal["a", "b"] | None
