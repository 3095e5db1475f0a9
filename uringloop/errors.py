"""What the kernel's negative answers and users' exceptions become.

The one place where a result below zero turns into an exception, and where a callback's
exception turns into a call of the loop's exception handler. Pure: no I/O, no loop.
"""

from __future__ import annotations

import errno
import os
from asyncio import CancelledError
from typing import Any

# Being out of descriptors or memory: the listener rests before it accepts again.
ACCEPT_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

# The result of an operation that was cancelled before it took place.
CANCELED = -errno.ECANCELED
CLOSED_DESCRIPTOR = -errno.EBADF


def exception_of(operation: str, result: int) -> BaseException:
    """The exception for a negative `result` (-errno) of `operation`, a verb for the message.

    OSError chooses its own subclass (ConnectionResetError, BrokenPipeError, ...). A
    cancelled operation becomes a CancelledError.
    """
    if result == CANCELED:
        return CancelledError()
    return OSError(-result, f"{os.strerror(-result)} ({operation})")


def connect_error(result: int, address: object) -> OSError:
    """The exception for a connect to `address` that was answered by `result`, -errno."""
    return OSError(-result, f"Connect call failed {address}")


def report_callback_error(handle: Any, described: str, error: BaseException) -> None:
    """Gives a callback's exception to the loop's exception handler, as asyncio words it."""
    context: dict[str, Any] = {
        "message": f"Exception in callback {described}",
        "exception": error,
        "handle": handle,
    }
    if handle._source_traceback:
        context["source_traceback"] = handle._source_traceback
    handle._loop.call_exception_handler(context)
