"""Refuses subinterpreters, before anything is imported that cannot live in one.

The compiled modules, cffi's and asyncio's have state of the process, and which of them
notices that it is in a second interpreter depends on the version of Python and on the order
of imports: on 3.11 a program hung. Pure, and asks Python only for the interpreter's number.
"""

from __future__ import annotations

import sys
from typing import Any

# _interpreters came with 3.13, and _xxsubinterpreters went. A Python that was built without
# either can make subinterpreters only from C.
_MODULE = "_interpreters" if sys.version_info >= (3, 13) else "_xxsubinterpreters"


def refuse_subinterpreters() -> None:
    """Raises ImportError in any interpreter but the main one."""
    number = _number_of_this_interpreter()
    if number:
        raise ImportError(
            f"uringloop works in the main interpreter only, and this is subinterpreter {number}; "
            "run loops in threads or processes instead"
        )


def _number_of_this_interpreter() -> int:
    """0 is the main one."""
    try:
        interpreters: Any = __import__(_MODULE)
    except ImportError:
        return 0
    current = interpreters.get_current()
    return int(current[0] if isinstance(current, tuple) else current)
