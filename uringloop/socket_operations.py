"""The commands behind the sock_* calls: one object a call, from its command to its answer.

Receiving goes into the engine's memory and is copied once, when the answer is here: a call
that was given up never has the kernel write into its caller's buffer. Sending goes from the
caller's bytes, which stay as they are until the kernel's final answer.

An answer that nobody took is what Lane.keep gets: of a receive (data, name, result), of an
accept (connection, address) or the kernel's -errno.

Compiled by Cython together with socket_operations.pxd.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from uringloop.addresses import unpack_sockaddr
from uringloop.driver import binding
from uringloop.errors import CANCELED, CLOSED_DESCRIPTOR, exception_of
from uringloop.lanes import LaneOperation

_ACCEPT = binding.UL_OP_ACCEPT
_RECV = binding.UL_OP_RECV
_RECVMSG = binding.UL_OP_RECVMSG
_SEND = binding.UL_OP_SEND
_SENDMSG = binding.UL_OP_SENDMSG
_SENDFILE = binding.UL_OP_SENDFILE
_ONCE = binding.UL_ONCE
_CANCELED = CANCELED
# Nothing was taken, and nothing is to be told to the next call.
_STOPPED = frozenset({CANCELED, CLOSED_DESCRIPTOR})

_ffi = binding.ffi
_Future = asyncio.Future


def address_of_buffer(buffer: Any) -> int:
    """Where what ffi.from_buffer() or ffi.new() gave lies."""
    return int(_ffi.cast("uintptr_t", buffer))


def failure(operation: str, result: int) -> BaseException:
    """The exception for a call that is still waited for; nobody cancelled it, so a stopped
    one lost its socket."""
    return exception_of(operation, CLOSED_DESCRIPTOR if result == _CANCELED else result)


class Receive(LaneOperation):
    """One piece of a stream, or one message. The Future's result is its bytes, None when it
    failed with `result`."""

    def _ask_for(self, is_stream: bool, limit: int, with_name: bool) -> None:
        self._is_stream = is_stream
        self._limit = limit
        self._opcode = _RECV if is_stream and not with_name else _RECVMSG
        self.name = b""
        self.result = 0

    def start(self) -> None:
        core = self._core
        self._token = core._in_flight.add(self)
        # A message is taken whole, so that a caller who gives up leaves all of it to the next.
        length = self._limit if self._is_stream else 0
        core._rings.stage(self._opcode, self._fd, self._token, 0, length, 0, _ONCE)

    def completed(self, rings: Any, opcode: int, result: int, more: bool) -> None:
        self._token = 0
        data = None
        name = b""
        if result > 0:
            data = rings.copy_bytes()
        elif result == 0:
            data = b""
        if opcode == _RECVMSG and result >= 0:
            name = rings.copy_name()
        lane = self._lane
        lane.active = None
        if self.future.done() or self._given_up:
            lane.keep(self._worth_keeping(data, name, result))
        else:
            self.name = name
            self.result = result
            self.future.set_result(data)
        if lane.waiting is not None:
            lane.leave()

    def take(self, kept: list[Any]) -> None:
        data, self.name, self.result = kept[0]
        if self._is_stream and data is not None and len(data) > self._limit:
            kept[0] = (data[self._limit :], self.name, self.result)
            data = data[: self._limit]
        else:
            del kept[0]
        self.future.set_result(data)

    def untaken(self) -> Any:
        return self._worth_keeping(self.future.result(), self.name, self.result)

    def _worth_keeping(self, data: Any, name: bytes, result: int) -> Any:
        """What the next call must see; an end of file it will see anyway."""
        is_end = self._is_stream and data == b""
        if is_end or result in _STOPPED:
            return None
        return (data, name, result)

    def took(self, rest: Any) -> None:
        """The caller has what it can take; where its buffer has shrunk while it waited, the
        rest of a stream goes to the next call."""
        lane = self._lane
        if rest and self._is_stream:
            lane.put_back(self, (rest, self.name, len(rest)))
        elif lane.served is not None:
            lane.went_on(self)

    def address(self) -> Any:
        """The sender's."""
        return unpack_sockaddr(self.name)

    def error(self) -> BaseException:
        """What failed."""
        return failure("recv", self.result)


class Accept(LaneOperation):
    """One connection. The Future's result is the pair of socket and address, None when it
    failed with `result`."""

    def _ask_for(self, sock: Any) -> None:
        self._sock = sock
        self._name: Any = None
        self.result = 0

    def start(self) -> None:
        core = self._core
        self._name = _ffi.new("struct ul_name *")
        self._token = core._in_flight.add(self)
        where = address_of_buffer(self._name)
        core._rings.stage(_ACCEPT, self._fd, self._token, where, 0, 0, _ONCE)

    def completed(self, rings: Any, opcode: int, result: int, more: bool) -> None:
        self._token = 0
        answer: Any = result
        if result >= 0:
            answer = (self._connection(result), self._address())
        self._name = None
        lane = self._lane
        lane.active = None
        if self.future.done() or self._given_up:
            self._came_too_late(answer)
        else:
            self._answer(answer)
        if lane.waiting is not None:
            lane.leave()

    def take(self, kept: list[Any]) -> None:
        self._answer(kept.pop(0))

    def untaken(self) -> Any:
        connection = self.future.result()
        if connection is not None:
            self._core._connection_kept()
        return connection

    def _answer(self, answer: Any) -> None:
        if isinstance(answer, tuple):
            self.result = 0
            self.future.set_result(answer)
        else:
            self.result = answer
            self.future.set_result(None)

    def _came_too_late(self, answer: Any) -> None:
        if not isinstance(answer, tuple):
            return  # the next accept will be told the same
        if self._sock.fileno() < 0:
            answer[0].close()  # nobody can ask for it any more
        else:
            self._lane.keep(answer)
            self._core._connection_kept()

    def _connection(self, fd: int) -> socket.socket:
        listener = self._sock
        # Non-blocking by its type: setblocking(False) would cost a system call.
        kind = listener.type | socket.SOCK_NONBLOCK
        return socket.socket(listener.family, kind, listener.proto, fileno=fd)

    def _address(self) -> Any:
        """The peer's, which the kernel told with the connection: it may be gone by now."""
        name = self._name
        return unpack_sockaddr(bytes(_ffi.buffer(name.bytes, min(name.length, 128))))

    def error(self) -> BaseException:
        """What failed."""
        return failure("accept", self.result)


class Send(LaneOperation):
    """All of some bytes, to a stream. `result` is the kernel's answer, known when the Future is
    done."""

    def _ask_for(self, data: Any) -> None:
        self._data: Any = data
        self.result = 0

    def start(self) -> None:
        core = self._core
        data = self._data
        if type(data) is bytes:
            where = core._rings.address_of(data)
        else:
            where = address_of_buffer(data)
        self._token = core._in_flight.add(self)
        core._rings.stage(_SEND, self._fd, self._token, where, len(data), 0, 0)

    def completed(self, rings: Any, opcode: int, result: int, more: bool) -> None:
        self._token = 0
        self._data = None
        self.result = result
        lane = self._lane
        lane.active = None
        if not self.future.done() and not self._given_up:
            self.future.set_result(None)
        if lane.waiting is not None:
            lane.leave()

    def abandoned(self) -> None:
        self._data = None
        LaneOperation.abandoned(self)

    def error(self) -> BaseException:
        """What failed."""
        return failure("send", self.result)


class SendMessage(Send):
    """One message, to a socket whose messages have borders."""

    def _ask_for_message(self, data: Any, name: Any) -> None:
        self._ask_for(data)
        self._name: Any = name

    def start(self) -> None:
        core = self._core
        where, length = address_of_buffer(self._data), len(self._data)
        name = address_of_buffer(self._name) if self._name is not None else 0
        self._token = core._in_flight.add(self)
        core._rings.stage(_SENDMSG, self._fd, self._token, where, length, name, 0)

    def completed(self, rings: Any, opcode: int, result: int, more: bool) -> None:
        self._name = None
        Send.completed(self, rings, opcode, result, more)

    def abandoned(self) -> None:
        self._name = None
        Send.abandoned(self)


class SendFile(LaneOperation):
    """Bytes of a file, to a stream. What became of it is `result` (the kernel's answer) and
    `sent_bytes`, both known when it is over: a cancelled caller has to wait for that.

    A transport whose send this is keeps its socket open until then.
    """

    def _ask_for(self, file_fd: int, offset: int, length: int, transport: Any) -> None:
        self._file_fd = file_fd
        self._offset = offset
        self._length = length
        self._transport: Any = transport
        self.result = 0
        self.sent_bytes = 0

    def start(self) -> None:
        core = self._core
        self._token = core._in_flight.add(self)
        where, length, file_fd = self._offset, self._length, self._file_fd
        core._rings.stage(_SENDFILE, self._fd, self._token, where, length, file_fd, 0)
        if self._transport is not None:
            self._transport.begin_file(self, self._token)

    def was_stopped_by_transport(self) -> bool:
        """Whether it ended early because its transport was closed."""
        return self._transport is not None and self._transport.is_closing()

    def is_with_kernel(self) -> bool:
        """Whether an answer is still to come."""
        return self._token != 0

    def completed(self, rings: Any, opcode: int, result: int, more: bool) -> None:
        self._token = 0
        self.result = result
        self.sent_bytes = result if result >= 0 else rings.address
        lane = self._lane
        lane.active = None
        if not self.future.done() and not self._given_up:
            self.future.set_result(None)
        if self._transport is not None:
            self._transport.end_file()
        if lane.waiting is not None:
            lane.leave()

    def abandoned(self) -> None:
        LaneOperation.abandoned(self)
        if self._transport is not None:
            self._transport.end_file()

    def error(self) -> BaseException:
        """What failed."""
        return failure("sendfile", self.result)


def new_receive(core: Any, lane: Any, fd: int, is_stream: bool, limit: int, with_name: bool) -> Any:
    """A Receive of at most `limit` bytes, made the quick way."""
    receive = Receive.__new__(Receive)
    receive._set(core, lane, fd, _Future(loop=core))
    receive._ask_for(is_stream, limit, with_name)
    return receive


def new_accept(core: Any, lane: Any, fd: int, sock: Any) -> Any:
    """An Accept on the listening `sock`."""
    accept = Accept.__new__(Accept)
    accept._set(core, lane, fd, _Future(loop=core))
    accept._ask_for(sock)
    return accept


def new_send(core: Any, lane: Any, fd: int, data: Any) -> Any:
    """A Send of bytes, or of what ffi.from_buffer() gave for another object."""
    send = Send.__new__(Send)
    send._set(core, lane, fd, _Future(loop=core))
    send._ask_for(data)
    return send


def new_send_message(core: Any, lane: Any, fd: int, data: Any, name: Any) -> Any:
    """A SendMessage of what ffi.from_buffer() gave; name: of a struct ul_name likewise, or
    None where the socket is connected."""
    send = SendMessage.__new__(SendMessage)
    send._set(core, lane, fd, _Future(loop=core))
    send._ask_for_message(data, name)
    return send


def new_send_file(
    core: Any, lane: Any, fd: int, file_fd: int, offset: int, length: int, transport: Any
) -> Any:
    """A SendFile of at most `length` bytes from `offset` on; transport: who owns the socket, or
    None."""
    send = SendFile.__new__(SendFile)
    send._set(core, lane, fd, _Future(loop=core))
    send._ask_for(file_fd, offset, length, transport)
    return send
