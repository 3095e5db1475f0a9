"""Pipe transports: one direction of a pipe, FIFO, terminal or other character device, or socket.

A read pipe is the reading half of a stream, a write pipe its writing half; RECV and SEND
carry UL_FILE where the descriptor is no socket. What differs from a stream is what asyncio's
pipes do otherwise: an end of file closes, write_eof() is close(), errors of reading are
reported, and a protocol that fails keeps its pipe.

A write pipe has a POLL where a stream has its RECV: it answers when nobody is left to read.
A character device tells nothing of that kind, and is not asked.

Compiled by Cython together with pipes.pxd: Python classes could not override the inner methods
of the compiled stream.
"""

from __future__ import annotations

import asyncio
import errno
import os
import select
import stat
from asyncio.log import logger
from typing import Any

from uringloop import stream_state
from uringloop.driver import binding
from uringloop.errors import CANCELED, exception_of
from uringloop.transports.receiving import ReceivingStream
from uringloop.transports.stream import StreamTransport

_POLL = binding.UL_OP_POLL
_FILE = binding.UL_FILE
_CANCELED = CANCELED

# For a pipe's writing end poll() knows only POLLERR, which need not be asked for. Of a socket
# the end of what its peer sends is asked for, but not what the peer sends.
_GONE = select.POLLRDHUP

# asyncio's words.
_READ_REFUSAL = "Pipe transport is for pipes/sockets only."
_WRITE_REFUSAL = "Pipe transport is only for pipes, sockets and character devices"

_DRAINING = stream_state.DRAINING
_CLOSING = stream_state.CLOSING
_LOST = stream_state.LOST

# asyncio's number of writes after a lost connection that pass without a word.
_SILENT_WRITES = 5


class ReadPipeFace(asyncio.ReadTransport):
    """What a read pipe says it is."""


class WritePipeFace(asyncio.transports._FlowControlMixin, asyncio.WriteTransport):
    """What a write pipe says it is."""


class ReadPipeTransport(ReceivingStream):
    """asyncio.ReadTransport over the reading end of a pipe; see StreamBase for the arguments,
    `sock` being any object with fileno() and close().

    raises   ValueError for a descriptor that is no pipe, socket or character device
    """

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return ReadPipeFace

    def _introduce(self, extra: dict[str, Any] | None) -> None:
        self._extra = pipe_info(self._sock, extra)
        self._kind = "pipe"
        try:
            self._io_flags = io_flags(self._sock_fd, _READ_REFUSAL)
        except ValueError:
            self._sock = None  # not ours: it stays open
            raise

    def __repr__(self) -> str:
        doing = "polling" if self._recv_token and not self._recv_cancelled else "idle"
        return described(self, self._core, self._sock, self._sock_fd, self._state, [doing])

    @property
    def _pipe(self) -> Any:
        """asyncio's name for the file, which it may be robbed of; CPython's tests do."""
        return self._sock

    @_pipe.setter
    def _pipe(self, pipe: Any) -> None:
        self._sock = pipe

    def set_protocol(self, protocol: Any) -> None:
        self._protocol = protocol
        # asyncio's pipes know no BufferedProtocol.
        self._buffered = False

    def completed(self, rings: Any, opcode: int, result: int, more: bool) -> None:
        if not more:
            self._recv_token = 0
        self._recv_completed(rings, result)
        if self._state == _LOST:
            self._close_when_answered()

    def pause_reading(self) -> None:
        """Not lazily, as a stream does it: somebody else may be meant to read on, a child that
        shares the terminal."""
        if self.is_reading():
            self._read_wanted = False
            self._stop_receiving()

    def _weigh(self, size: int) -> None:
        """Never in bulk: there is no recv(2) for a pipe."""

    def _end_of_file(self) -> None:
        if self._core.get_debug():
            logger.info("%r was closed by peer", self)
        self._read_ended = True
        self._core.call_soon(self._tell_end_of_file, context=self._context)
        self.close()

    def _tell_end_of_file(self) -> None:
        self._protocol.eof_received()

    def _protocol_failed(self, error: BaseException) -> None:
        self._tell_handler("protocol.data_received() failed", error)

    def _fatal_error(self, error: BaseException, message: str) -> None:
        # A terminal that was hung up answers EIO. Of other errors asyncio's handler is told.
        if isinstance(error, OSError) and error.errno == errno.EIO:
            ReceivingStream._fatal_error(self, error, message)
            return
        self._tell_handler(message, error)
        self._force_close(error)

    def _close_file(self) -> None:
        close_pipe(self._core, self, self._sock)


class WritePipeTransport(StreamTransport):
    """asyncio.WriteTransport over the writing end of a pipe; see ReadPipeTransport."""

    _start_tls_compatible = False
    _sendfile_compatible = asyncio.constants._SendfileMode.UNSUPPORTED

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return WritePipeFace

    def _introduce(self, extra: dict[str, Any] | None) -> None:
        self._extra = pipe_info(self._sock, extra)
        self._kind = "pipe"
        self._lost_writes = 0
        self._reader_gone = False
        try:
            self._io_flags = io_flags(self._sock_fd, _WRITE_REFUSAL)
        except ValueError:
            self._sock = None  # not ours: it stays open
            raise
        self._read_wanted = not stat.S_ISCHR(os.fstat(self._sock_fd).st_mode)

    def __repr__(self) -> str:
        size = self.get_write_buffer_size()
        doing = ["polling" if size else "idle", f"bufsize={size}"]
        return described(self, self._core, self._sock, self._sock_fd, self._state, doing)

    @property
    def _pipe(self) -> Any:
        """As ReadPipeTransport's."""
        return self._sock

    @_pipe.setter
    def _pipe(self, pipe: Any) -> None:
        self._sock = pipe

    def write(self, data: Any) -> None:
        """Offers the first data to the pipe at once, as asyncio does: the caller may go on by
        reading, blocked, at the other end."""
        is_first = self._is_idle()
        StreamTransport.write(self, data)
        if is_first and self._queue.queued_bytes:
            self._send_directly()

    def writelines(self, list_of_data: Any) -> None:
        is_first = self._is_idle()
        StreamTransport.writelines(self, list_of_data)
        if is_first and self._queue.queued_bytes:
            self._send_directly()

    def _is_idle(self) -> bool:
        return self._send_token == 0 and self._queue.queued_bytes == 0

    def write_eof(self) -> None:
        self.close()

    def _may_write(self) -> bool:
        if self._lost_writes >= _SILENT_WRITES:
            logger.warning("pipe closed by peer or os.write(pipe, data) raised exception.")
        self._lost_writes += 1
        return False

    def _offer(self, data: Any) -> int:
        if type(data) is bytes:
            return os.write(self._sock_fd, data)
        return os.writev(self._sock_fd, data)

    def _start_receiving(self) -> None:
        """Has a POLL with the kernel that answers when the other end is closed."""
        if self._recv_token or self._state >= _DRAINING:
            return
        self._recv_token = self._core._in_flight.add(self)
        self._recv_cancelled = False
        self._rings.stage(_POLL, self._sock_fd, self._recv_token, 0, 0, _GONE, 0)

    def _recv_completed(self, rings: Any, result: int) -> None:
        """The POLL's answer."""
        if self._state >= _CLOSING or result == _CANCELED:
            return
        if result < 0:
            error = exception_of("poll", result)
            self._fatal_error(error, "Fatal write error on pipe transport")
            return
        self._reader_gone = True
        if self._core.get_debug():
            logger.info("%r was closed by peer", self)
        # A send in flight knows better whether all was read before.
        if not self._send_token:
            self._lose_reader()

    def _send_completed(self, result: int) -> None:
        StreamTransport._send_completed(self, result)
        if self._reader_gone and self._state < _CLOSING:
            self._lose_reader()

    def _lose_reader(self) -> None:
        unsent = self.get_write_buffer_size()
        self._force_close(BrokenPipeError() if unsent else None)

    def _fatal_error(self, error: BaseException, message: str) -> None:
        self._lost_writes += 1
        StreamTransport._fatal_error(self, error, message)

    def _close_file(self) -> None:
        close_pipe(self._core, self, self._sock)


def pipe_info(pipe: Any, extra: dict[str, Any] | None) -> dict[str, Any]:
    """What get_extra_info() of a pipe knows."""
    return {**(extra or {}), "pipe": pipe}


def io_flags(fd: int, refusal: str) -> int:
    """How RECV and SEND are to treat the descriptor, which is made non-blocking.

    refusal   asyncio's words for a file of another kind
    raises    ValueError for a descriptor that is no pipe, socket or character device
    """
    mode = os.fstat(fd).st_mode
    if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or stat.S_ISCHR(mode)):
        raise ValueError(refusal)
    os.set_blocking(fd, False)
    return 0 if stat.S_ISSOCK(mode) else int(_FILE)


def described(transport: Any, core: Any, pipe: Any, fd: int, state: int, doing: list[str]) -> str:
    """The transport in words, as asyncio's pipes put it."""
    info = [type(transport).__name__]
    if pipe is None:
        info.append("closed")
    elif state >= _DRAINING:
        info.append("closing")
    info.append(f"fd={fd}")
    if pipe is None:
        info.append("closed")
    elif core.is_closed():
        info.append("open")
    else:
        info.extend(doing)
    return f"<{' '.join(info)}>"


def close_pipe(core: Any, transport: Any, pipe: Any) -> None:
    """Closes the user's object; what that raises goes to the exception handler."""
    try:
        pipe.close()
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException as error:
        core.call_exception_handler(
            {
                "message": "closing a pipe failed",
                "exception": error,
                "transport": transport,
                "pipe": pipe,
            }
        )
