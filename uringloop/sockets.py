"""The sock_* calls: what a loop does for sockets that are not transports.

Each call is one command of the engine. The calls of one socket take turns in its lanes, which
also keep what came for a call that had been cancelled (lanes.py): cancelled at whatever moment,
a call loses no byte, no message and no connection, and who asks next gets it, be it a transport
or a server that takes the socket over.

What no command can do (readiness.py) is left to the socket's own methods.

Compiled by Cython together with sockets.pxd.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from typing import Any

from uringloop import readiness
from uringloop.addresses import pack_name, pack_sockaddr
from uringloop.core import LoopCore
from uringloop.driver import binding
from uringloop.errors import exception_of
from uringloop.lanes import Channel
from uringloop.readiness import READABLE, WRITABLE
from uringloop.socket_operations import (
    new_accept,
    new_receive,
    new_send,
    new_send_message,
)

_ffi = binding.ffi
_Socket = socket.socket
_SOCK_STREAM = socket.SOCK_STREAM

# The property `socket.type` without the enum that it makes; __mro__[1] is _socket.socket.
_kind_of = socket.socket.__mro__[1].type.__get__

# How often to look whether a listening socket was closed that connections are kept for.
_CLOSED_LOOK_S = 1.0


class SocketCalls(LoopCore):
    """The sock_* methods of an event loop."""

    def _start_sockets(self) -> None:
        """Call before the loop runs."""
        self._channels: dict[int, Channel] = {}
        self._transports: dict[int, Any] = {}
        self._looking_for_closed = False

    # -- receiving ------------------------------------------------------------------

    async def sock_recv(self, sock: socket.socket, n: int) -> bytes:
        channel = self._channel_of(sock)
        if channel is None or type(n) is not int or n <= 0:
            data: bytes = await readiness.call_when_ready(self, sock, READABLE, "recv", n)
            return data
        lane = channel.receives
        receive = new_receive(self, lane, channel.fd, channel.is_stream, n, False)
        lane.enter(receive)
        try:
            data = await receive.future
        except BaseException:
            receive.give_up()
            raise
        if lane.served is not None:
            lane.went_on(receive)
        if data is None:
            raise receive.error()
        return data if len(data) <= n else data[:n]

    async def sock_recv_into(self, sock: socket.socket, buf: Any) -> int:
        channel = self._channel_of(sock)
        size = 0 if channel is None else _room_in(buf)
        if channel is None or size <= 0:
            count: int = await readiness.call_when_ready(self, sock, READABLE, "recv_into", buf)
            return count
        receive = new_receive(self, channel.receives, channel.fd, channel.is_stream, size, False)
        data = await _answer(channel.receives, receive)
        return _fill(buf, size, receive, data)

    async def sock_recvfrom(self, sock: socket.socket, bufsize: int) -> tuple[bytes, Any]:
        channel = self._channel_of(sock)
        if channel is None or type(bufsize) is not int or bufsize <= 0:
            answer: tuple[bytes, Any] = await readiness.call_when_ready(
                self, sock, READABLE, "recvfrom", bufsize
            )
            return answer
        lane = channel.receives
        receive = new_receive(self, lane, channel.fd, channel.is_stream, bufsize, True)
        data = await _answer(lane, receive)
        lane.went_on(receive)
        if data is None:
            raise receive.error()
        return data[:bufsize], receive.address()

    async def sock_recvfrom_into(
        self, sock: socket.socket, buf: Any, nbytes: int = 0
    ) -> tuple[int, Any]:
        channel = self._channel_of(sock)
        size = nbytes or len(buf)
        if channel is None or type(size) is not int or not 0 < size <= _room_in(buf):
            answer: tuple[int, Any] = await readiness.call_when_ready(
                self, sock, READABLE, "recvfrom_into", buf, size
            )
            return answer
        receive = new_receive(self, channel.receives, channel.fd, channel.is_stream, size, True)
        data = await _answer(channel.receives, receive)
        return _fill(buf, size, receive, data), receive.address()

    # -- sending --------------------------------------------------------------------

    async def sock_sendall(self, sock: socket.socket, data: Any) -> None:
        channel = self._channel_of(sock)
        sent = data
        if channel is not None and (type(data) is not bytes or not channel.is_stream):
            sent = _ffi.from_buffer(data)
        if channel is None or len(sent) == 0:
            await readiness.send_all(self, sock, data)
            return
        lane = channel.sends
        if channel.is_stream:
            send = new_send(self, lane, channel.fd, sent)
        else:
            send = new_send_message(self, lane, channel.fd, sent, None)
        del sent  # it keeps the caller's buffer from being resized
        lane.enter(send)
        try:
            await send.future
        except BaseException:
            send.give_up()
            raise
        if send.result < 0:
            raise send.error()

    async def sock_sendto(self, sock: socket.socket, data: Any, address: Any) -> int:
        channel = self._channel_of(sock)
        name = None
        if channel is not None and not channel.is_stream:
            name = _name_struct(sock, address)
        if name is None:
            count: int = await readiness.call_when_ready(
                self, sock, WRITABLE, "sendto", data, address
            )
            return count
        lane = channel.sends
        send = new_send_message(self, lane, channel.fd, _ffi.from_buffer(data), name)
        await _answer(lane, send)
        if send.result < 0:
            raise send.error()
        sent: int = send.result
        return sent

    # -- connections ----------------------------------------------------------------

    async def sock_accept(self, sock: socket.socket) -> tuple[socket.socket, Any]:
        channel = self._channel_of(sock)
        if channel is None:
            return await readiness.accept(self, sock)
        lane = channel.accepts
        accept = new_accept(self, lane, channel.fd, sock)
        connection: tuple[socket.socket, Any] = await _answer(lane, accept)
        lane.went_on(accept)
        if connection is None:
            raise accept.error()
        return connection

    async def sock_connect(self, sock: socket.socket, address: Any) -> None:
        self._check_socket(sock)
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            resolved = await self._ensure_resolved(
                address, family=sock.family, type=sock.type, proto=sock.proto, loop=self
            )
            address = resolved[0][4]
        sockaddr = None
        if sock.type == socket.SOCK_STREAM and sock.fileno() >= 0:
            sockaddr = pack_sockaddr(sock.family, address)
        if sockaddr is None:
            await readiness.connect_by_readiness(self, sock, address)
        else:
            await readiness.connect(self, sock, address, sockaddr)

    # -- sockets and their lanes ----------------------------------------------------

    def _check_socket(self, sock: socket.socket) -> None:
        if isinstance(sock, ssl.SSLSocket):
            raise TypeError("Socket cannot be of type SSLSocket")
        if self._debug and sock.gettimeout() != 0:
            raise ValueError("the socket must be non-blocking")

    def _channel_of(self, sock: Any) -> Any:
        """The socket's channel; None for one that only its own methods can serve.

        raises   TypeError, ValueError, RuntimeError for sockets that asyncio refuses
        """
        if self._debug or type(sock) is not _Socket:
            self._check_socket(sock)
            if not issubclass(type(sock), _Socket):
                return None
        fd = sock.fileno()
        if fd in self._transports:
            self._ensure_fd_no_transport(fd)
        channel = self._channels.get(fd)
        if channel is not None and channel.sock_ref() is sock:
            return channel
        return self._new_channel(sock, fd)

    def _new_channel(self, sock: Any, fd: int) -> Any:
        if fd < 0:
            return None  # closed: its methods say so
        self._forget_channel(fd)
        is_stream = _kind_of(sock) == _SOCK_STREAM
        channel = Channel(sock, fd, is_stream, self._channel_closed)
        self._channels[fd] = channel
        return channel

    def _forget_channel(self, fd: int) -> None:
        """The number belongs to another socket now."""
        channel = self._channels.get(fd)
        if channel is not None:
            channel.stop()
            channel.close()

    def _channel_closed(self, channel: Channel) -> None:
        if self._channels.get(channel.fd) is channel:
            del self._channels[channel.fd]

    def _close_channels(self) -> None:
        """The loop is closed: nobody asks for what is kept."""
        for channel in list(self._channels.values()):
            channel.close()

    def _connection_kept(self) -> None:
        """Has the listening sockets looked at, while connections are kept for them.

        Nobody tells a loop that a socket is closed, and the peers of what is kept should not
        have to wait for the garbage collector.
        """
        if not self._looking_for_closed:
            self._looking_for_closed = True
            self.call_later(_CLOSED_LOOK_S, self._look_for_closed)

    def _look_for_closed(self) -> None:
        """Closes the connections that nobody can ask for any more."""
        self._looking_for_closed = False
        for channel in list(self._channels.values()):
            if channel.accepts.kept is None:
                continue
            sock = channel.sock_ref()
            if sock is None or sock.fileno() != channel.fd:
                channel.close()
            else:
                self._connection_kept()

    # -- others take a socket over --------------------------------------------------

    async def _settle_socket(self, sock: Any) -> None:
        """Waits until the kernel has answered what was cancelled on a socket that a transport
        is about to take over."""
        channel = self._channels.get(sock.fileno())
        if channel is None:
            return
        while channel.is_stopping():  # noqa: ASYNC110 - a turn or two, hardly ever
            await asyncio.sleep(0)

    def _take_kept(self, sock: Any) -> list[Any]:
        """What calls have left of a socket that a transport takes over: pieces of bytes, and
        perhaps an exception at the end."""
        channel = self._channels.get(sock.fileno())
        if channel is None or channel.sock_ref() is not sock:
            return []
        kept = channel.receives.take_all()
        channel.close()
        return [exception_of("recv", result) if data is None else data for data, _, result in kept]

    def _take_kept_connections(self, sock: Any, accepted: Any) -> None:
        """A server listens on `sock` from now on: it is called with each connection that calls
        have left, or leave yet."""
        channel = self._channels.get(sock.fileno())
        if channel is None or channel.sock_ref() is not sock:
            return
        lane = channel.accepts
        lane.heir = accepted
        for connection in lane.take_all():
            accepted(connection)


async def _answer(lane: Any, operation: Any) -> Any:
    """What the Future of an operation has in the end; a caller that is cancelled leaves the
    answer to the next one."""
    lane.enter(operation)
    try:
        return await operation.future
    except BaseException:
        operation.give_up()
        raise


def _room_in(buffer: Any) -> int:
    """How many bytes can be received into `buffer`; -1 for what socket.recv_into() refuses."""
    try:
        view = memoryview(buffer)
    except TypeError:
        return -1
    with view:
        usable = view.c_contiguous and not view.readonly
        return view.nbytes if usable else -1


def _fill(buffer: Any, size: int, receive: Any, data: Any) -> int:
    """Gives the caller's buffer what was received, at most `size` bytes; how many."""
    if data is None:
        receive.took(None)
        raise receive.error()
    count = 0
    try:
        with memoryview(buffer) as view:
            # It may have been resized while its caller waited.
            count = min(size, len(data), view.nbytes)
            if count:
                with view.cast("B") as flat:
                    flat[:count] = data if count == len(data) else data[:count]
    finally:
        receive.took(data[count:])
    return count


def _name_struct(sock: socket.socket, address: Any) -> Any:
    """engine.h's struct ul_name for `address`, to be kept while the engine reads it; None for
    an address that only the socket's own methods understand, or refuse."""
    if isinstance(address, tuple) and "%" in str(address[:1]):
        return None  # the zone of an IPv6 address is a name to be looked up
    try:
        name = pack_name(sock.family, address)
    except (OSError, TypeError, ValueError, struct.error):
        return None
    return None if name is None else _ffi.from_buffer(name)
