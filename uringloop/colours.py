"""Colours for lines on a terminal, and none where they are not wanted.

They are left out when the stream is no terminal, when the terminal is dumb, and when
NO_COLOR is set to anything but nothing (https://no-color.org).
"""

from __future__ import annotations

import os
from typing import TextIO

_CODES = {"good": 32, "attention": 33, "error": 31}  # green, yellow, red


def coloured(text: str, meaning: str, stream: TextIO) -> str:
    """`text` as it is to be written to `stream`.

    meaning   "good", "attention" or "error"
    """
    if not is_wanted(stream):
        return text
    return f"\x1b[{_CODES[meaning]}m{text}\x1b[0m"


def is_wanted(stream: TextIO) -> bool:
    """Whether whoever reads `stream` wants colours."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return stream.isatty()
