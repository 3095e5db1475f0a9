"""Files sent by the kernel: what loop.sendfile() and loop.sock_sendfile() do natively.

asyncio checks the arguments, and falls back to reading and sending by itself when
SendfileNotAvailableError says that nothing could be sent from this file to this socket. Here is
what happens in between: one SENDFILE command, the file's position, the transport held still.

A caller that is cancelled goes on only when the kernel has stopped: until then the descriptors
must stay open, no other byte may be sent, and nobody knows where the file's position belongs.
"""

from __future__ import annotations

import asyncio
import errno
import io
import os
import socket
import sys
from typing import Any

from uringloop.lanes import Lane
from uringloop.socket_operations import new_send_file

# A file's end is where sending ends; this is the farthest that one can be.
_FILE_BYTES_MAX = 2**63 - 1

# Before 3.14, asyncio left the position where it was when nothing was sent.
_POSITION_FOLLOWS_ALWAYS = sys.version_info >= (3, 14)


async def send_to_socket(
    loop: Any, sock: socket.socket, file: Any, offset: int, count: int | None
) -> int:
    """Sends the file from `offset` on: `count` bytes, None for all; answers how many were sent.

    raises   SendfileNotAvailableError when nothing was sent and it cannot be done so; OSError;
             RuntimeError when a transport owns the socket
    """
    file_fd, length = _part_of(file, offset, count)
    if length == 0:
        return 0
    channel = loop._channel_of(sock)
    if channel is None:
        raise asyncio.SendfileNotAvailableError(f"{sock!r} is closed, or no socket of Python's")
    operation = new_send_file(loop, channel.sends, channel.fd, file_fd, offset, length, None)
    return await _send(loop, channel.sends, operation, file_fd, offset)


async def send_to_transport(
    loop: Any, transport: Any, file: Any, offset: int, count: int | None
) -> int:
    """The same over a stream transport, after all that was written before.

    raises   also ConnectionError when the transport is closed meanwhile
    """
    loop._check_sendfile_params(transport._sock, file, offset, count)
    file_fd, length = _part_of(file, offset, count)
    if length == 0:
        return 0
    drained = transport._make_empty_waiter()  # from here on write() is refused
    reads = transport.is_reading()
    transport.pause_reading()
    try:
        await drained
        if transport.is_closing():
            raise _closed()
        lane = Lane()
        fd = transport._sock_fd
        operation = new_send_file(loop, lane, fd, file_fd, offset, length, transport)
        return await _send(loop, lane, operation, file_fd, offset)
    finally:
        transport._reset_empty_waiter()
        if reads:
            transport.resume_reading()


def _part_of(file: Any, offset: int, count: int | None) -> tuple[int, int]:
    """The file's descriptor, and how many bytes are to be sent at most.

    raises   SendfileNotAvailableError for an object without a descriptor
    """
    try:
        fd = file.fileno()
        size = os.fstat(fd).st_size
    except (AttributeError, io.UnsupportedOperation, OSError) as error:
        raise asyncio.SendfileNotAvailableError("not a regular file") from error
    if count:
        return fd, count
    # As asyncio has it: what says that it is empty is not read. A file that grows is followed.
    return fd, max(_FILE_BYTES_MAX - offset, 0) if size else 0


async def _send(loop: Any, lane: Lane, operation: Any, file_fd: int, offset: int) -> int:
    try:
        await _until_over(loop, lane, operation)
    finally:
        if operation.sent_bytes or _POSITION_FOLLOWS_ALWAYS:
            os.lseek(file_fd, offset + operation.sent_bytes, os.SEEK_SET)
    if operation.result < 0:
        raise _error(operation)
    sent_bytes: int = operation.result
    return sent_bytes


async def _until_over(loop: Any, lane: Lane, operation: Any) -> None:
    """Waits for the kernel's last word, even when cancelled; says so only afterwards."""
    lane.enter(operation)
    cancelled: asyncio.CancelledError | None = None
    while True:
        try:
            await operation.future
            break
        except asyncio.CancelledError as error:
            cancelled = error
        if not operation.is_with_kernel():  # not begun, or over
            operation.give_up()
            break
        operation.stop()
        operation.future = loop.create_future()
    try:
        if cancelled is not None:
            raise cancelled
    finally:
        # Needed to break the cycle of exception and frame.
        del cancelled


def _error(operation: Any) -> BaseException:
    """The exception for an operation that ended before the file."""
    if operation.was_stopped_by_transport():
        return _closed()
    error: OSError = operation.error()
    if operation.sent_bytes == 0:
        unavailable = asyncio.SendfileNotAvailableError("os.sendfile call failed")
        unavailable.__cause__ = error
        return unavailable
    if error.errno == errno.ENOTCONN:
        lost = ConnectionError("socket is not connected", errno.ENOTCONN)
        lost.__cause__ = error
        return lost
    return error


def _closed() -> ConnectionError:
    return ConnectionError("the transport was closed while a file was sent")
