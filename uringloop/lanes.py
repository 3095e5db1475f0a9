"""Who waits for a socket, in which order, and what came for somebody who had given up.

A lane is one direction of one socket: receiving, sending or accepting. One of its operations
is with the kernel at a time, the next waits here; so the answers of calls that overlap come
in the order of the calls. An operation that was given up is still answered. What it has taken
(bytes, a message, a connection) is kept, and goes to the next caller before the kernel is
asked again.

A Channel is the three lanes of one socket. It knows the socket weakly.

Compiled by Cython together with lanes.pxd. Calls nothing but the operations it is given.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from uringloop.driver import binding
from uringloop.driver.in_flight import Operation

_CANCEL = binding.UL_OP_CANCEL


class LaneOperation(Operation):
    """A command for one lane, and the Future that its caller waits for.

    The Future never has an exception: what failed is told by the subclass, to a caller that
    is still there.
    """

    def _set(self, core: Any, lane: Any, fd: int, future: Any) -> None:
        self._core = core
        self._lane = lane
        self._fd = fd
        self._token = 0
        self._given_up = False
        self.future = future

    def start(self) -> None:
        """Gives the command, to be taken by the next turn."""
        raise NotImplementedError

    def take(self, kept: list[Any]) -> None:
        """Answers the caller from the head of what the lane kept."""
        raise NotImplementedError

    def untaken(self) -> Any:
        """What was answered and nobody took, for Lane.keep; None for nothing of worth."""
        return None

    def is_awaited(self) -> bool:
        """Whether the caller is there and has no answer yet."""
        return not self._given_up and not self.future.done()

    def stop(self) -> None:
        """Asks the kernel for its final answer, if that is due."""
        if self._token:
            self._core._rings.stage(_CANCEL, -1, 0, 0, 0, self._token, 0)

    def give_up(self) -> None:
        """The caller is gone. What has been answered to it goes to the next one."""
        if self._given_up:
            return
        self._given_up = True
        self.stop()
        if self.future.done() and not self.future.cancelled():
            self._lane.put_back(self, self.untaken())

    def abandoned(self) -> None:
        self._token = 0
        self._given_up = True
        self._lane.active = None
        self._lane.waiting = None


class Lane:
    """One direction of one socket.

    active    the operation that is with the kernel
    waiting   those that come after it, in order; None for none
    kept      answers that nobody took, in order; None for none
    served    the operation that was answered from `kept` and has not gone on yet
    heir      called with each answer from now on, instead of keeping it
    """

    def __init__(self) -> None:
        self.active: Any = None
        self.waiting: Any = None
        self.kept: Any = None
        self.served: Any = None
        self.heir: Callable[[Any], None] | None = None

    def enter(self, operation: LaneOperation) -> None:
        """Starts the operation, at once or after those before it."""
        if self.active is None and self.kept is None and self.served is None:
            operation.start()
            self.active = operation
            return
        if self.waiting is None:
            self.waiting = []
        self.waiting.append(operation)
        self._serve()

    def leave(self) -> None:
        """The active operation's final event is here."""
        self.active = None
        if self.waiting is not None:
            self._serve()

    def keep(self, answer: Any) -> None:
        """Adds what the kernel answered to somebody who had given up; None is nothing."""
        if answer is None:
            return
        if self.heir is not None:
            self.heir(answer)
            return
        if self.kept is None:
            self.kept = []
        self.kept.append(answer)
        self._serve()

    def put_back(self, operation: LaneOperation, answer: Any) -> None:
        """`operation` had its answer and gave up: it belongs before all that is kept."""
        if operation is self.served:
            self.served = None
        if answer is not None and self.heir is None and self.kept is not None:
            self.kept.insert(0, answer)
            answer = None
        self.keep(answer)
        self._serve()

    def went_on(self, operation: LaneOperation) -> None:
        """The caller of an operation that was served has its answer in hand."""
        if operation is self.served:
            self.served = None
            self._serve()

    def take_all(self) -> list[Any]:
        """What is kept; somebody else cares for it from now on."""
        kept = self.kept
        self.kept = None
        return kept or []

    def _serve(self) -> None:
        """Gives what is kept to who comes next, or else starts the next operation."""
        active = self.active
        if self.kept is not None and active is not None and active.is_awaited():
            # Its own answer will be one that nobody waits for, and is kept.
            active.stop()
            self._answer(active)
        while self.waiting is not None and self.served is None:
            if self.kept is None and self.active is not None:
                return
            operation = self.waiting.pop(0)
            if not self.waiting:
                self.waiting = None
            if not operation.is_awaited():
                continue
            if self.kept is not None:
                self._answer(operation)
            else:
                operation.start()
                self.active = operation

    def _answer(self, operation: LaneOperation) -> None:
        """One at a time: should this caller give up now, the order must still be right."""
        self.served = operation
        operation.take(self.kept)
        if not self.kept:
            self.kept = None


def _drop(answer: Any) -> None:
    """Bytes of a closed socket are for nobody."""


def close_connection(answer: Any) -> None:
    """An accepted connection that nobody will ask for."""
    answer[0].close()


class Channel:
    """The lanes of one socket.

    sock       known weakly; close() is called when it is collected
    is_stream  whether its bytes have no borders
    on_close   called with this channel by close()
    """

    def __init__(
        self, sock: Any, fd: int, is_stream: bool, on_close: Callable[[Channel], None]
    ) -> None:
        self.fd = fd
        self.is_stream = is_stream
        self.receives = Lane()
        self.sends = Lane()
        self.accepts = Lane()
        self._on_close: Any = on_close
        self.sock_ref: Any = weakref.ref(sock, self._collected)

    def _collected(self, ref: Any) -> None:
        self.close()

    def lanes(self) -> tuple[Lane, Lane, Lane]:
        return (self.receives, self.sends, self.accepts)

    def is_stopping(self) -> bool:
        """Whether the kernel has something of the socket that nobody waits for any more."""
        actives = [lane.active for lane in self.lanes()]
        return any(active is not None and not active.is_awaited() for active in actives)

    def stop(self) -> None:
        """Stops what is with the kernel; who waits for it hears that the socket is closed."""
        for lane in self.lanes():
            if lane.active is not None:
                lane.active.stop()

    def close(self) -> None:
        """The socket or the loop is gone: what is kept, or comes yet, is for nobody."""
        self.sock_ref = None
        self.receives.kept = None
        self.receives.heir = _drop
        self.accepts.heir = close_connection
        for connection in self.accepts.take_all():
            close_connection(connection)
        on_close = self._on_close
        self._on_close = None
        if on_close is not None:
            on_close(self)
