"""The relay inside the engine: Python sees its beginning and its end, and no byte between.

Each direction is one RELAY command, from one transport's socket to the other's. Before it is
given, the transport that it comes from has stopped receiving, and what it had received was
written to the other one, behind what was written there before; when that is all with the
kernel, the command goes out. From there on the command is the one transport's receive and the
other's send, so that whatever ends a transport cancels it, and no socket is closed before the
last answer.

A direction that has ended leaves nothing that would notice a reset of the side it came from; so
a POLL stays there for as long as the other direction goes on.

Compiled by Cython together with relay_engine.pxd.
"""

from __future__ import annotations

import select
import socket
from typing import Any

from uringloop.driver import binding
from uringloop.driver.in_flight import Operation
from uringloop.driver.rings import RelayState
from uringloop.errors import exception_of
from uringloop.relay_base import Relay, Verdict, reset_on_close
from uringloop.relay_result import RelayEnd

_RELAY = binding.UL_OP_RELAY
_POLL = binding.UL_OP_POLL
_FAILED_RECEIVE = binding.UL_RELAY_RECEIVE
_POLLERR = select.POLLERR
_NS_PER_S = 1e9

_EOF = Verdict(RelayEnd.EOF)


class EngineRelay(Relay):
    """A relay between two StreamTransports of `loop`.

    sides      the transports
    received   for each side what was taken from its transport before, to go first
    limit      bytes that the engine may hold, per direction
    """

    def __init__(
        self,
        loop: Any,
        idle_timeout_s: float | None,
        sides: tuple[Any, Any],
        received: tuple[bytes, bytes],
        limit: int,
    ) -> None:
        Relay.__init__(self, loop, idle_timeout_s)
        self._there = _Direction(self, 0, sides[0], sides[1], received[0], limit)
        self._back = _Direction(self, 1, sides[1], sides[0], received[1], limit)

    def _begin(self) -> None:
        there, back = self._there, self._back
        if there.source.is_closing() or back.source.is_closing():
            self._end(Verdict(RelayEnd.CLOSED))
            return
        there.source.begin_relay(self)
        back.source.begin_relay(self)
        self.receive_stopped()

    @property
    def buffers_held(self) -> int:
        held: int = self._there.state.buffers_held() + self._back.state.buffers_held()
        return held

    def _moved_bytes(self, side: int) -> int:
        direction = self._back if side else self._there
        return direction.first_bytes + direction.state.moved_bytes()

    def _progressed_s(self) -> float:
        last_ns = max(self._there.state.progress_ns(), self._back.state.progress_ns())
        return max(self._begun_s, last_ns / _NS_PER_S)

    # -- told by the transports ---------------------------------------------------------

    def receive_stopped(self) -> None:
        """A transport has got the last that it will receive by itself."""
        if self._verdict is None:
            self._there.prepare()
        if self._verdict is None:
            self._back.prepare()

    def transport_lost(self, transport: Any, error: BaseException | None) -> None:
        """A transport failed while it sent what goes first, or was closed from our side."""
        if isinstance(error, OSError):
            self._end(Verdict(RelayEnd.RESET, error, int(transport is self._back.source)))
        else:
            self._end(Verdict(RelayEnd.CLOSED))

    # -- told by the directions ---------------------------------------------------------

    def direction_over(self, direction: _Direction, result: int) -> None:
        """Its RELAY was answered."""
        if self._verdict is not None:
            self.answer_when_quiet()
        elif result < 0:
            has_source_failed = direction.state.failed() == _FAILED_RECEIVE
            side = direction.side if has_source_failed else 1 - direction.side
            self.side_failed(side, exception_of("relay", result))
        elif self._there.is_over and self._back.is_over:
            self._end(_EOF)
        else:
            direction.watch()

    def side_failed(self, side: int, error: BaseException) -> None:
        self._end(Verdict(RelayEnd.RESET, _as_oserror(error), side))

    def abandoned(self) -> None:
        """The loop was closed; nothing is with the kernel any more."""
        self._verdict = Verdict(RelayEnd.CLOSED)
        self._there.source.drop()
        self._back.source.drop()

    # -- the end ------------------------------------------------------------------------

    def _end(self, verdict: Verdict) -> None:
        if self._verdict is not None:
            return
        self._verdict = verdict
        there, back = self._there, self._back
        there.source.end_relay()
        back.source.end_relay()
        if verdict.reason is RelayEnd.EOF:
            there.source.close()
            back.source.close()
        else:
            there.reset_source(verdict)
            back.reset_source(verdict)
        self.answer_when_quiet()

    def answer_when_quiet(self) -> None:
        """Something is not with the kernel any more: if it was the last, that is the end."""
        there, back = self._there, self._back
        if self._verdict is None or there.token or back.token:
            return
        there.let_go()
        back.let_go()
        self._answer()


class _Direction(Operation):
    """One RELAY command: what comes before it, and the POLL that follows it.

    The POLL answers when the source fails after all, whose end was carried. A Unix socket whose
    peer is gone answers too, without an error: then there is nothing more to be told, and sending
    there will.

    side          the index of where it comes from
    source        the transport where it comes from
    first_bytes   what the transports have moved themselves
    state         what the engine tells while it runs
    token         of what is with the kernel; 0: nothing
    """

    def __init__(
        self,
        relay: EngineRelay,
        side: int,
        source: Any,
        destination: Any,
        received: bytes,
        limit: int,
    ) -> None:
        self.side = side
        self.source: Any = source
        self.first_bytes = 0
        self.state = RelayState()
        self.token = 0
        self.is_over = False
        self._relay: Any = relay
        self._destination: Any = destination
        self._received = received
        self._limit = limit
        self._is_prepared = False

    def prepare(self) -> None:
        """Has sent what was received before, once no more of that can come."""
        if self._is_prepared or self.source.is_receive_in_flight():
            return
        self._is_prepared = True
        relay, destination = self._relay, self._destination  # a failure has them let go
        for item in [self._received, *self.source.take_received()]:
            if isinstance(item, BaseException):
                relay.side_failed(self.side, item)
                return
            if item:  # an end of file comes again
                destination.write(item)
                self.first_bytes += len(item)
        self._received = b""
        if relay._verdict is not None:
            return  # the destination refused it
        sent = destination.lend_sending()
        if sent is None:
            self._give_command()
        else:
            sent.add_done_callback(self._first_sent)

    def _first_sent(self, sent: Any) -> None:
        if sent.cancelled() or sent.exception() is not None or self._relay is None:
            return
        if self._relay._verdict is None:
            self._give_command()

    def _give_command(self) -> None:
        core = self.source._core
        fd, to_fd = self.source._sock_fd, self._destination._sock_fd
        self.token = core._in_flight.add(self)
        core._rings.stage(_RELAY, fd, self.token, self.state.address(), self._limit, to_fd, 0)
        self.source.lend_receive(self.token)
        self._destination.lend_send(self.token)

    def watch(self) -> None:
        """Has a failure of the source told from here on."""
        core = self.source._core
        self.token = core._in_flight.add(self)
        core._rings.stage(_POLL, self.source._sock_fd, self.token, 0, 0, 0, 0)
        self.source.lend_receive(self.token)

    def completed(self, rings: Any, opcode: int, result: int, more: bool) -> None:
        if opcode == _POLL:
            self._watch_over(result)
        else:
            self._give_back()
            self.is_over = True
            self._relay.direction_over(self, result)

    def _watch_over(self, result: int) -> None:
        relay = self._relay
        error = 0
        if relay._verdict is None and result > 0 and result & _POLLERR:
            error = self.source._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        self._give_back()
        if error:
            relay.side_failed(self.side, exception_of("relay", -error))
        relay.answer_when_quiet()

    def abandoned(self) -> None:
        self._give_back()
        self._relay.abandoned()

    def _give_back(self) -> None:
        """The kernel has no more to do with it: nothing of the transports is lent."""
        self.token = 0
        self.source.lend_receive(0)
        if not self.is_over:
            self._destination.lend_send(0)

    def let_go(self) -> None:
        """The relay is over: of what it had only the counters are left."""
        self._relay = self.source = self._destination = None

    def reset_source(self, verdict: Verdict) -> None:
        """Closes where it comes from with a reset."""
        reset_on_close(self.source.get_extra_info("socket"))
        self.source._force_close(verdict.error if verdict.failed_side == self.side else None)


def _as_oserror(error: BaseException) -> OSError:
    """Failures of sockets are OSErrors; a cancel that nobody here asked for is none."""
    return error if isinstance(error, OSError) else ConnectionAbortedError(str(error))
