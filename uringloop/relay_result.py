"""How a relay ended. Pure: no I/O, no loop."""

from __future__ import annotations

import enum
from dataclasses import dataclass, fields
from typing import Any, Literal


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


_SETTERS = [getattr(RelayResult, field.name).__set__ for field in fields(RelayResult)]


def new_result(*values: Any) -> RelayResult:
    """A RelayResult of these values, in their order, made the quick way.

    A frozen dataclass looks up object.__setattr__ for each: a twelfth of all instructions of a
    short relay.
    """
    result = RelayResult.__new__(RelayResult)
    for set_field, value in zip(_SETTERS, values, strict=True):
        set_field(result, value)
    return result
