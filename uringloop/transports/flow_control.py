"""Flow control that transports have in common: watermarks, and what protocols are told.

No I/O; the loop is only used for its exception handler.
"""

from __future__ import annotations

from asyncio.sslproto import SSLProtocol
from typing import Any

# asyncio's defaults.
HIGH_BYTES = 64 * 1024
LOW_BYTES = HIGH_BYTES // 4


class NoBufferError(Exception):
    """get_buffer() of a BufferedProtocol raised `cause`, or gave an empty buffer."""

    def __init__(self, cause: BaseException) -> None:
        super().__init__(cause)
        self.cause = cause


def write_limits(high: int | None, low: int | None) -> tuple[int, int]:
    """The pair (high, low), in bytes, for set_write_buffer_limits' arguments.

    raises   ValueError unless high >= low >= 0
    """
    if high is None:
        high = HIGH_BYTES if low is None else 4 * low
    if low is None:
        low = high // 4
    if not high >= low >= 0:
        raise ValueError(f"high ({high!r}) must be >= low ({low!r}) must be >= 0")
    return high, low


def tell_protocol(loop: Any, transport: Any, protocol: Any, method: str) -> None:
    """Calls pause_writing or resume_writing; what it raises goes to the exception handler."""
    try:
        getattr(protocol, method)()
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException as error:
        loop.call_exception_handler(
            {
                "message": f"protocol.{method}() failed",
                "exception": error,
                "transport": transport,
                "protocol": protocol,
            }
        )


def protocol_to_resume(current: Any, told_to_pause: Any) -> Any:
    """Which protocol hears resume_writing(): the current one, whoever was paused, as in asyncio.

    But TLS that took over a paused transport was never paused itself, and says so by an
    assertion; the protocol above it is the one that waits.
    """
    return told_to_pause if isinstance(current, SSLProtocol) else current


def buffer_of(protocol: Any, size: int) -> Any:
    """The buffer that a BufferedProtocol gives for about `size` bytes.

    raises   NoBufferError when get_buffer() fails or the buffer is empty
    """
    try:
        buffer = protocol.get_buffer(size)
        if not len(buffer):
            raise RuntimeError("get_buffer() returned an empty buffer")
        return buffer
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise NoBufferError(error) from error
