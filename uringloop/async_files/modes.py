"""The arguments of open(), looked at before anything is opened.

The words and the types of the errors are the builtin open's. Pure: no I/O.
"""

from __future__ import annotations

import functools
import os
import sys
from dataclasses import dataclass

_ACTIONS = "rwax"
_WRITES_AS_READS = sys.version_info < (3, 15)


@dataclass(frozen=True)
class Mode:
    """What a mode asks for.

    spelled      as it was given
    action       one of "r", "w", "a", "x"
    is_updating  "+" was in it: for both reading and writing
    is_binary    bytes rather than text
    """

    spelled: str
    action: str
    is_updating: bool
    is_binary: bool

    @property
    def is_readable(self) -> bool:
        return self.action == "r" or self.is_updating

    @property
    def is_writable(self) -> bool:
        return self.action != "r" or self.is_updating

    @property
    def is_appending(self) -> bool:
        return self.action == "a"

    @functools.cached_property
    def flags(self) -> int:
        """Those of open(2)."""
        if self.is_updating:
            flags = os.O_RDWR
        else:
            flags = os.O_RDONLY if self.action == "r" else os.O_WRONLY
        flags |= {
            "r": 0,
            "w": os.O_CREAT | os.O_TRUNC,
            "a": os.O_CREAT | os.O_APPEND,
            "x": os.O_CREAT | os.O_EXCL,
        }[self.action]
        return flags | os.O_CLOEXEC

    @property
    def as_binary(self) -> str:
        """How a binary file spells it: before 3.15, "wb+" is "rb+", which can do the same."""
        action = (
            "r" if _WRITES_AS_READS and self.action == "w" and self.is_updating else self.action
        )
        return f"{action}b+" if self.is_updating else f"{action}b"


@functools.lru_cache(maxsize=64)
def parse_mode(mode: str) -> Mode:
    """What `mode` says.

    raises   TypeError when it is no string; ValueError when it is no mode
    """
    if not isinstance(mode, str):
        raise TypeError(f"open() argument 'mode' must be str, not {type(mode).__name__}")
    letters = set(mode)
    if letters - set(_ACTIONS + "+bt") or len(mode) > len(letters):
        raise ValueError(f"invalid mode: {mode!r}")
    if {"b", "t"} <= letters:
        raise ValueError("can't have text and binary mode at once")
    actions = letters & set(_ACTIONS)
    if len(actions) != 1:
        words = "exactly one of create/read/write/append mode"
        raise ValueError(f"must have {words}" if actions else f"Must have {words}")
    return Mode(mode, actions.pop(), "+" in letters, "b" in letters)


def check_arguments(
    mode: Mode,
    buffering: int,
    encoding: str | None,
    errors: str | None,
    newline: str | None,
) -> None:
    """Whether these go together.

    raises   TypeError, ValueError, as the builtin open does
    """
    if not isinstance(buffering, int):
        kind = type(buffering).__name__
        raise TypeError(f"'{kind}' object cannot be interpreted as an integer")
    if buffering == 0 and not mode.is_binary:
        raise ValueError("can't have unbuffered text I/O")
    for name, value in (("encoding", encoding), ("errors", errors), ("newline", newline)):
        if value is not None and not isinstance(value, str):
            kind = type(value).__name__
            raise TypeError(f"open() argument '{name}' must be str or None, not {kind}")
        if value is not None and mode.is_binary:
            raise ValueError(f"binary mode doesn't take an {name} argument")
