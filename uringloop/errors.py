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

# What an operation of engine.h may end with, but for ECANCELED, which any may: what the manual
# pages of its system call and of the protocols list, less what the engine itself meets (EAGAIN,
# EINTR, EINPROGRESS; of accept also the errors of a single dead connection). An errno that is not
# here is raised all the same.
_SOCKET = frozenset({errno.EBADF, errno.ENOTSOCK, errno.EFAULT, errno.EINVAL, errno.ENOMEM})
_NETWORK = frozenset({errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH})
_RECEIVING = _SOCKET | {errno.ENOTCONN, errno.ECONNREFUSED, errno.ECONNRESET, errno.ETIMEDOUT}
_SENDING = (
    _SOCKET
    | {errno.EACCES, errno.EALREADY, errno.ECONNRESET, errno.EDESTADDRREQ, errno.EISCONN}
    | {errno.EMSGSIZE, errno.ENOBUFS, errno.ENOTCONN, errno.EOPNOTSUPP, errno.EPIPE}
    | {errno.ETIMEDOUT}
)
ANSWERS: dict[str, frozenset[int]] = {
    "accept": _SOCKET | ACCEPT_EXHAUSTED | {errno.EOPNOTSUPP, errno.EPERM},
    "recv": _RECEIVING,
    "send": _SENDING,
    "relay": _RECEIVING | _SENDING,
    "connect": _NETWORK
    | {errno.EACCES, errno.EPERM, errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}
    | {errno.EALREADY, errno.EBADF, errno.EFAULT, errno.EISCONN, errno.ENOTSOCK}
    | {errno.EPROTOTYPE, errno.ETIMEDOUT},
    "poll": frozenset({errno.EBADF, errno.EFAULT, errno.EINVAL, errno.ENOMEM}),
    "recvmsg": _SOCKET | _NETWORK | {errno.ENOTCONN},
    "sendmsg": _SOCKET
    | _NETWORK
    | {errno.EACCES, errno.EDESTADDRREQ, errno.EMSGSIZE, errno.ENOBUFS, errno.EPERM},
    "sendfile": frozenset({errno.EBADF, errno.EFAULT, errno.EINVAL, errno.EIO, errno.ENOMEM})
    | {errno.ENOSYS, errno.EOVERFLOW, errno.ESPIPE, errno.EPIPE, errno.ECONNRESET}
    | {errno.ETIMEDOUT},
}

# The same of the requests about files, which system calls in threads answer alike.
_PATH = frozenset({errno.EACCES, errno.EFAULT, errno.ELOOP, errno.ENAMETOOLONG, errno.ENOENT})
_PATH |= {errno.ENOMEM, errno.ENOTDIR}
_CHANGING = _PATH | {errno.EPERM, errno.EROFS}
_MAKING = _CHANGING | {errno.EDQUOT, errno.EEXIST, errno.ENOSPC}
FILE_ANSWERS: dict[str, frozenset[int]] = {
    "open": _MAKING
    | {errno.EBUSY, errno.EFBIG, errno.EINVAL, errno.EISDIR, errno.EMFILE, errno.ENFILE}
    | {errno.ENODEV, errno.EOPNOTSUPP, errno.EOVERFLOW, errno.ETXTBSY},
    "read": frozenset({errno.EBADF, errno.EFAULT, errno.EINVAL, errno.EIO, errno.EISDIR}),
    "write": frozenset({errno.EBADF, errno.EDESTADDRREQ, errno.EDQUOT, errno.EFAULT, errno.EFBIG})
    | {errno.EINVAL, errno.EIO, errno.ENOSPC, errno.EPERM, errno.EPIPE},
    "close": frozenset({errno.EBADF, errno.EDQUOT, errno.EIO, errno.ENOSPC}),
    "fsync": frozenset({errno.EBADF, errno.EDQUOT, errno.EINVAL, errno.EIO, errno.ENOSPC})
    | {errno.EROFS},
    "truncate": frozenset({errno.EBADF, errno.EFBIG, errno.EINVAL, errno.EIO, errno.EPERM}),
    "stat": _PATH | {errno.EBADF, errno.EINVAL},
    "rename": _MAKING
    | {errno.EBUSY, errno.EINVAL, errno.EISDIR, errno.EMLINK, errno.ENOTEMPTY, errno.EXDEV},
    "link": _MAKING | {errno.EMLINK, errno.EXDEV},
    "symlink": _MAKING,
    "mkdir": _MAKING | {errno.EINVAL, errno.EMLINK},
    "unlink": _CHANGING | {errno.EBUSY, errno.EINVAL, errno.EIO, errno.EISDIR, errno.ENOTEMPTY},
}


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
