"""The relay inside the engine: Python sees its beginning and its end, and no byte between.

Each direction is one RELAY command, from one transport's socket to the other's. Before it is
given, the transport that it comes from has stopped receiving, and what it had received was
written to the other one, behind what was written there before; when that is all with the
kernel, the command goes out. From there on the command is the one transport's receive and the
other's send, so that whatever ends a transport cancels it, and no socket is closed before the
last answer.

A direction that has ended leaves nothing that would notice a reset of the side it came from; so
a POLL stays there for as long as the other direction goes on.
"""

from __future__ import annotations

import select
import socket
from typing import Any

from uringloop.driver import binding
from uringloop.driver.binding import ffi
from uringloop.driver.in_flight import Operation
from uringloop.errors import exception_of
from uringloop.relay_path import Path, Verdict, reset_on_close
from uringloop.relay_result import RelayEnd

_RELAY = binding.UL_OP_RELAY
_POLL = binding.UL_OP_POLL
_FAILED_RECEIVE = binding.UL_RELAY_RECEIVE
_NS_PER_S = 1e9


class EnginePath(Path):
    """A relay between two StreamTransports of `loop`.

    received   for each side what was taken from its transport before, to go first
    limit      bytes that the engine may hold, per direction
    """

    def __init__(
        self, loop: Any, sides: tuple[Any, Any], received: tuple[bytes, bytes], limit: int
    ) -> None:
        super().__init__(loop)
        self.limit = limit
        self._sides = sides
        self._states = ffi.new("struct ul_relay_state[2]")
        self._directions = (
            _Direction(self, 0, sides, received[0], ffi.addressof(self._states, 0)),
            _Direction(self, 1, sides[::-1], received[1], ffi.addressof(self._states, 1)),
        )

    def begin(self) -> None:
        if any(side.is_closing() for side in self._sides):
            self.end(Verdict(RelayEnd.CLOSED))
            return
        for side in self._sides:
            side.begin_relay(self)
        self.receive_stopped()

    def moved_bytes(self, side: int) -> int:
        return self._directions[side].first_bytes + int(self._states[side].bytes)

    def buffers_held(self) -> int:
        return sum(int(self._states[side].buffers_held) for side in (0, 1))

    def progressed_s(self) -> float:
        last_ns = max(self._states[0].progress_ns, self._states[1].progress_ns)
        return max(self._begun_s, float(last_ns) / _NS_PER_S)

    # -- told by the transports ---------------------------------------------------------

    def receive_stopped(self) -> None:
        """A transport has got the last that it will receive by itself."""
        for direction in self._directions:
            if self.verdict is None:
                direction.prepare()

    def transport_lost(self, transport: Any, error: BaseException | None) -> None:
        """A transport failed while it sent what goes first, or was closed from our side."""
        if isinstance(error, OSError):
            self.end(Verdict(RelayEnd.RESET, error, self._sides.index(transport)))
        else:
            self.end(Verdict(RelayEnd.CLOSED))

    # -- told by the engine -------------------------------------------------------------

    def direction_over(self, direction: _Direction, result: int, failed: int) -> None:
        if self.verdict is not None:
            self._answer_when_quiet()
        elif result < 0:
            side = direction.side if failed == _FAILED_RECEIVE else 1 - direction.side
            error = exception_of("relay", result)
            self.end(Verdict(RelayEnd.RESET, _as_oserror(error), side))
        elif all(each.is_over for each in self._directions):
            self.end(Verdict(RelayEnd.EOF))
        else:
            direction.watch()

    def source_failed(self, side: int, error: OSError) -> None:
        self.end(Verdict(RelayEnd.RESET, error, side))

    def watch_over(self) -> None:
        self._answer_when_quiet()

    def abandoned(self) -> None:
        """The loop was closed; nothing is with the kernel any more."""
        self.verdict = Verdict(RelayEnd.CLOSED)
        for side in self._sides:
            side.drop()

    # -- the end ------------------------------------------------------------------------

    def end(self, verdict: Verdict) -> None:
        if self.verdict is not None:
            return
        self.verdict = verdict
        for side in self._sides:
            side.end_relay()
        for index, side in enumerate(self._sides):
            if verdict.reason is RelayEnd.EOF:
                side.close()
            else:
                reset_on_close(side.get_extra_info("socket"))
                side._force_close(verdict.error if index == verdict.failed_side else None)
        self._answer_when_quiet()

    def _answer_when_quiet(self) -> None:
        if self.verdict is not None and not any(each.is_in_flight() for each in self._directions):
            self._answer()


class _Direction(Operation):
    """One RELAY command: what comes before it, and the POLL that follows it.

    side    the index of where it comes from
    ends    the transports: where it comes from, where it goes to
    state   what the engine tells while it runs; a struct ul_relay_state
    """

    def __init__(
        self, path: EnginePath, side: int, ends: tuple[Any, Any], received: bytes, state: Any
    ) -> None:
        self.side = side
        self.is_over = False
        self.first_bytes = 0
        self._path = path
        self._source, self._destination = ends
        self._received = received
        self._state = state
        self._is_prepared = False
        self._token = 0
        self._watch: _Watch | None = None

    def is_in_flight(self) -> bool:
        return self._token != 0 or (self._watch is not None and self._watch.token != 0)

    def prepare(self) -> None:
        """Has sent what was received before, once no more of that can come."""
        if self._is_prepared or self._source.is_receive_in_flight():
            return
        self._is_prepared = True
        for item in [self._received, *self._source.take_received()]:
            if isinstance(item, BaseException):
                self._path.source_failed(self.side, _as_oserror(item))
                return
            if item:  # an end of file comes again
                self._destination.write(item)
                self.first_bytes += len(item)
        self._received = b""
        if self._path.verdict is not None:
            return  # the destination refused it
        sent = self._destination._make_empty_waiter()
        if sent.done():
            self._begin()
        else:
            sent.add_done_callback(self._first_sent)

    def _first_sent(self, sent: Any) -> None:
        if not sent.cancelled() and sent.exception() is None and self._path.verdict is None:
            self._begin()

    def _begin(self) -> None:
        core = self._path.loop
        self._token = core._in_flight.add(self)
        source, destination = self._source._sock_fd, self._destination._sock_fd
        address = int(ffi.cast("uintptr_t", self._state))
        core._rings.stage(_RELAY, source, self._token, address, self._path.limit, destination, 0)
        self._source.lend_receive(self._token)
        self._destination.lend_send(self._token)

    def completed(self, rings: Any, opcode: int, result: int, more: bool) -> None:
        self._give_back()
        self.is_over = True
        self._path.direction_over(self, result, self._state.failed)

    def abandoned(self) -> None:
        self._give_back()
        self._path.abandoned()

    def _give_back(self) -> None:
        self._token = 0
        self._source.lend_receive(0)
        self._destination.lend_send(0)

    def watch(self) -> None:
        """Has a failure of the source told from here on."""
        self._watch = _Watch(self._path, self.side, self._source)
        self._watch.begin()


class _Watch(Operation):
    """A POLL that answers when a source whose end was carried fails after all.

    A Unix socket whose peer is gone answers too, without an error: then there is nothing more to
    be told, and sending there will.
    """

    def __init__(self, path: EnginePath, side: int, source: Any) -> None:
        self.token = 0
        self._path = path
        self._side = side
        self._source = source

    def begin(self) -> None:
        core = self._path.loop
        self.token = core._in_flight.add(self)
        core._rings.stage(_POLL, self._source._sock_fd, self.token, 0, 0, 0, 0)
        self._source.lend_receive(self.token)

    def completed(self, rings: Any, opcode: int, result: int, more: bool) -> None:
        failed = result > 0 and result & select.POLLERR and self._path.verdict is None
        error = self._source._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) if failed else 0
        self._give_back()
        if error:
            self._path.source_failed(self._side, _as_oserror(exception_of("relay", -error)))
        self._path.watch_over()

    def abandoned(self) -> None:
        self._give_back()
        self._path.abandoned()

    def _give_back(self) -> None:
        self.token = 0
        self._source.lend_receive(0)


def _as_oserror(error: BaseException) -> OSError:
    """Failures of sockets are OSErrors; a cancel that nobody here asked for is none."""
    return error if isinstance(error, OSError) else ConnectionAbortedError(str(error))
