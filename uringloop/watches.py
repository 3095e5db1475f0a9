"""Descriptors watched for readiness: add_reader, add_writer, and all that rests on them.

A watch is a POLL command, given again after each answer. The engine takes commands at the
start of a turn, so the callback has run by then: readiness is level-triggered, as asyncio's.
"""

from __future__ import annotations

import os
import select
import selectors
import stat
from typing import Any

from uringloop.driver import binding
from uringloop.driver.in_flight import Operation
from uringloop.handles import Handle

READ = select.POLLIN
WRITE = select.POLLOUT


def fileno_of(fd: Any, *, may_be_closed: bool = False) -> int:
    """The descriptor of an int or of an object with fileno(), as selectors take it.

    may_be_closed   whether -1, a closed socket's, is an answer
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


class Watch(Operation):
    """One descriptor, one direction, one callback."""

    def __init__(self, core: Any, fd: int, mask: int, handle: Handle) -> None:
        self._core = core
        self._fd = fd
        self._mask = mask
        self.handle = handle
        self._token = 0
        self._is_forgotten = False

    def arm(self) -> None:
        """Gives the POLL command, to be taken by the next turn."""
        self._token = self._core._in_flight.add(self)
        self._core._rings.stage(binding.UL_OP_POLL, self._fd, self._token, 0, 0, self._mask, 0)

    def arm_again(self) -> None:
        """Arms it where an exception out of a signal handler came before completed() could."""
        if not self._is_forgotten and self._core._in_flight.find(self._token) is not self:
            self.arm()

    def stop(self) -> None:
        """No callback from now on; the kernel's answer is awaited without one."""
        self.handle.cancel()
        if self._token:
            self._core._rings.stage(binding.UL_OP_CANCEL, -1, 0, 0, 0, self._token, 0)

    def completed(self, rings: Any, opcode: int, result: int, more: bool) -> None:
        self._token = 0
        # A descriptor that was closed behind our back is forgotten, as epoll does.
        self._is_forgotten = result < 0
        if self.handle._cancelled or self._is_forgotten:
            return
        self._core._add_callback(self.handle)
        self.arm()

    def abandoned(self) -> None:
        self._token = 0


class Watches:
    """The watches of one loop, by descriptor and direction."""

    def __init__(self, core: Any) -> None:
        self._core = core
        self._watches: dict[tuple[int, int], Watch] = {}

    def add(self, fd: int, mask: int, handle: Handle) -> None:
        """Watches `fd`; replaces the watch of the same direction.

        raises   PermissionError for a regular file or folder, which cannot be waited for;
                 OSError(EBADF) for a closed descriptor
        """
        mode = os.fstat(fd).st_mode
        if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
            raise PermissionError(
                1, f"descriptor {fd} is a file: reads and writes of files never wait"
            )
        self.remove(fd, mask)
        watch = Watch(self._core, fd, mask, handle)
        self._watches[fd, mask] = watch
        watch.arm()

    def remove(self, fd: int, mask: int) -> bool:
        """Stops watching; False when there was no such watch."""
        watch = self._watches.pop((fd, mask), None)
        if watch is None:
            return False
        watch.stop()
        return True

    def get_key(self, fd: int) -> selectors.SelectorKey:
        """What asyncio's own transports ask of a selector, to describe themselves.

        raises   KeyError when `fd` is not watched
        """
        events = 0
        for mask, event in ((READ, selectors.EVENT_READ), (WRITE, selectors.EVENT_WRITE)):
            if (fd, mask) in self._watches:
                events |= event
        if not events:
            raise KeyError(fd)
        return selectors.SelectorKey(fd, fd, events, None)

    def close(self) -> None:
        """Forgets all watches; the loop is being closed, and stops them itself."""
        self._watches.clear()

    def arm_again(self) -> None:
        """Before a run: none may have been lost when an exception ended the run before."""
        for watch in self._watches.values():
            watch.arm_again()

    def move(self) -> None:
        """Gives all commands again: the engine is a fresh one, in another thread."""
        for watch in self._watches.values():
            watch.arm()
