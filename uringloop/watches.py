"""Descriptors watched for readiness: add_reader, add_writer, and all that rests on them.

The watched descriptors are in an epoll set of the loop's own, and the engine is asked for
one thing: to POLL that set. When it is ready, the set tells which descriptors are, and the
POLL is given again. The engine takes commands at the start of a turn, so the callbacks have
run by then: readiness is level-triggered, as asyncio's.

Why no POLL for each descriptor: io_uring holds the file that it polls. A socket that its
owner closes without a word would stay open for its peer, and once its number is given to
another file, the next POLL would watch a stranger. An epoll set forgets a file when its
last descriptor is closed, and asyncio's programs count on it. The price is one system call
in a turn in which something is ready, and what it buys besides: one POLL serves any number
of descriptors.

What epoll does not forget is a file that lives on under another number (dup, fork). Its
readiness is then told under the closed one, for ever, and no call takes it out: the whole
set is made anew, with those that it still has under their true number.
"""

from __future__ import annotations

import os
import select
import selectors
import weakref
from typing import Any

from uringloop.driver import binding
from uringloop.driver.in_flight import Operation
from uringloop.handles import Handle

READ = select.EPOLLIN
WRITE = select.EPOLLOUT


def fileno_of(fd: Any, *, may_be_closed: bool = False) -> int:
    """The descriptor of an int or of an object with fileno(), as selectors take it.

    may_be_closed   whether -1, a closed socket's, is an answer
    raises          ValueError when there is none
    """
    if isinstance(fd, int):
        number = fd
    else:
        try:
            number = int(fd.fileno())
        except (AttributeError, TypeError, ValueError):
            raise ValueError(f"Invalid file object: {fd!r}") from None
    if number < 0 and not may_be_closed:
        raise ValueError(f"Invalid file descriptor: {number}")
    return number


class Watched:
    """What is watched under one number: the file as the user named it, a callback a direction."""

    def __init__(self, fd: Any) -> None:
        self.named = fd
        self.handles: dict[int, Handle] = {}

    def mask(self) -> int:
        """The directions as epoll takes them."""
        return sum(self.handles)

    def cancel(self) -> None:
        for handle in self.handles.values():
            handle.cancel()
        self.handles.clear()


class Watches(Operation):
    """The watched descriptors of one loop, and the POLL of their set."""

    def __init__(self, core: Any) -> None:
        self._core = core
        self._watched: dict[int, Watched] = {}
        self._set: select.epoll | None = None
        self._has_ghosts = False
        self._token = 0
        _all_watches.add(self)

    def __len__(self) -> int:
        """How many descriptors are watched."""
        return len(self._watched)

    @property
    def is_armed(self) -> bool:
        """Whether a POLL is in flight."""
        return self._token != 0

    # -- what the loop asks for ------------------------------------------------------

    def add(self, fd: Any, direction: int, handle: Handle) -> None:
        """Watches `fd`; replaces the callback of the same direction.

        raises   PermissionError for a regular file or folder, which cannot be waited for;
                 OSError(EBADF) for a closed descriptor; ValueError for what is none
        """
        number = fileno_of(fd)
        watched = self._watched.get(number)
        if watched is None:
            watched = Watched(fd)
        self._put_into_set(number, watched, direction)
        replaced = watched.handles.get(direction)
        watched.handles[direction] = handle
        self._watched[number] = watched
        if replaced is not None:
            replaced.cancel()

    def remove(self, fd: Any, direction: int) -> bool:
        """Stops watching; False when there was no such callback."""
        number = self._number_of(fd)
        watched = self._watched.get(number)
        if watched is None or direction not in watched.handles:
            return False
        watched.handles.pop(direction).cancel()
        if not watched.handles:
            del self._watched[number]
        self._take_out_of_set(number, watched)
        return True

    def get_key(self, fd: int) -> selectors.SelectorKey:
        """What asyncio's own transports ask of a selector, to describe themselves.

        raises   KeyError when `fd` is not watched
        """
        events = 0
        for direction in self._watched[fd].handles:
            events |= selectors.EVENT_READ if direction == READ else selectors.EVENT_WRITE
        return selectors.SelectorKey(fd, fd, events, None)

    def _number_of(self, fd: Any) -> int:
        """The number that `fd` is, or was, watched under: it may have been closed since."""
        try:
            return fileno_of(fd)
        except ValueError:
            for number, watched in self._watched.items():
                if watched.named is fd:
                    return number
            raise

    # -- the epoll set ---------------------------------------------------------------

    def _put_into_set(self, number: int, watched: Watched, direction: int) -> None:
        """Has the set watch one direction more, or the same ones again."""
        if self._set is None:
            self._set = select.epoll()
            self.arm()
        try:
            if watched.handles:
                self._set.modify(number, watched.mask() | direction)
                return
        except FileNotFoundError:
            # Closed behind our back, and the number is another file's now.
            watched.cancel()
            self._has_ghosts = True
        try:
            self._set.register(number, direction)
        except FileExistsError:
            # It was taken out under a number that was closed then.
            self._set.modify(number, direction)

    def _take_out_of_set(self, number: int, watched: Watched) -> None:
        assert self._set is not None
        try:
            if watched.handles:
                self._set.modify(number, watched.mask())
            else:
                self._set.unregister(number)
        except OSError:
            pass  # closed behind our back: the set has forgotten it, or it is a ghost

    def _lay_ghosts(self) -> None:
        """Makes the set anew, with what it has under its true number."""
        assert self._set is not None
        fresh = select.epoll()
        for number, watched in self._watched.items():
            try:
                self._set.modify(number, watched.mask())
            except OSError:
                continue  # closed behind our back; a stranger may have the number
            fresh.register(number, watched.mask())
        self._set.close()
        self._set = fresh
        self._has_ghosts = False

    # -- the POLL of the set ---------------------------------------------------------

    def arm(self) -> None:
        """Gives the POLL command, to be taken by the next turn."""
        if self._set is not None:
            self._token = self._core._in_flight.add(self)
            self._core._rings.stage(
                binding.UL_OP_POLL, self._set.fileno(), self._token, 0, 0, READ, 0
            )

    def arm_again(self) -> None:
        """Before a run: an exception that ended the run before may have come in between."""
        if not self._token or self._core._in_flight.find(self._token) is not self:
            self.arm()

    def completed(self, rings: Any, opcode: int, result: int, more: bool) -> None:
        self._token = 0
        assert result > 0, "the descriptor of the loop's epoll set was closed"
        assert self._set is not None
        for number, events in self._set.poll(0, len(self._watched) + 1):
            if not self._make_ready(number, events):
                self._has_ghosts = True
        if self._has_ghosts:
            self._lay_ghosts()
        self.arm()

    def _make_ready(self, number: int, events: int) -> bool:
        """Queues the callbacks; False when there is none for these events.

        An error and a hang-up are for both directions, as with asyncio.
        """
        watched = self._watched.get(number)
        if watched is None:
            return False
        found = False
        for direction, handle in watched.handles.items():
            if events & (direction | ~(READ | WRITE)):
                self._core._add_callback(handle)
                found = True
        return found

    def abandoned(self) -> None:
        self._token = 0

    def close(self) -> None:
        """The loop is closed, and its engine: nothing is watched any more."""
        self._watched.clear()
        if self._set is not None:
            self._set.close()
            self._set = None

    def part_from_parent(self) -> None:
        """In the child of a fork: the set is the parent's, though the child has it open too."""
        self._token = 0
        self.close()


_all_watches: weakref.WeakSet[Watches] = weakref.WeakSet()


def _part_all_from_parents() -> None:
    for watches in _all_watches:
        watches.part_from_parent()


os.register_at_fork(after_in_child=_part_all_from_parents)
