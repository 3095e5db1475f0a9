"""How signals end the engine's wait.

While a loop runs in the main thread, Python writes the number of each signal it handles
into a socket pair (`signal.set_wakeup_fd`), and the loop watches the other end. An EINTR
would not do: the system call that waits may have submitted as well, and then it answers
with a count. Ctrl-C through asyncio.Runner depends on this.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_NO_DESCRIPTOR = -1


def in_main_thread() -> bool:
    """Whether signals can be handled here."""
    return threading.current_thread() is threading.main_thread()


class SignalPipe:
    """The socket pair between Python's signal handlers and the loop.

    receiver   the end that the loop watches
    sender     the end that Python writes signal numbers to
    """

    def __init__(self) -> None:
        self.receiver, self.sender = socket.socketpair()
        self.receiver.setblocking(False)
        self.sender.setblocking(False)
        _pipes.add(self)

    @contextmanager
    def wakes_loop(self, keep: Callable[[], object]) -> Iterator[None]:
        """While this lasts, signals wake the loop. Afterwards the descriptor that was set
        before is set again, unless keep() is true: handlers wait for the next run."""
        previous = self.activate()
        try:
            yield
        finally:
            if not keep():
                signal.set_wakeup_fd(previous)

    def activate(self) -> int:
        """Has signals written here from now on; answers the descriptor that was set."""
        return signal.set_wakeup_fd(self.sender.fileno(), warn_on_full_buffer=False)

    def close(self) -> None:
        self.receiver.close()
        self.sender.close()


_pipes: weakref.WeakSet[SignalPipe] = weakref.WeakSet()


def _forget_pipes() -> None:
    """In the child of a fork: its signals are none of the parent loop's business."""
    if not in_main_thread():
        return
    current = signal.set_wakeup_fd(_NO_DESCRIPTOR)
    if current not in {pipe.sender.fileno() for pipe in _pipes}:
        signal.set_wakeup_fd(current)


os.register_at_fork(after_in_child=_forget_pipes)
