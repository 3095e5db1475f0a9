"""Signals: the loop's handlers, and how signals end the engine's wait.

While a loop runs in the main thread, and as long as it has handlers, Python writes the
number of each signal it handles into a pipe (`signal.set_wakeup_fd`), and the loop watches
the other end. An EINTR would not do: the system call that waits may have submitted as
well, and then it answers with a count. Ctrl-C through asyncio.Runner depends on this.

A pipe, not a socket pair: it takes 65536 numbers before one is lost, a socket pair some
hundreds. Whoever had set a wake-up descriptor before gets the numbers all the same, and
has it back in the end.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import inspect
import os
import signal
import sys
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from uringloop.handles import Handle

_NO_DESCRIPTOR = -1
_READ_BYTES = 4096

# asyncio's own also knows the coroutines of its past; it is deprecated from 3.14 on.
_is_coroutine_function: Callable[[Any], bool] = (
    inspect.iscoroutinefunction if sys.version_info >= (3, 14) else asyncio.iscoroutinefunction
)


def in_main_thread() -> bool:
    """Whether signals can be handled here."""
    return threading.current_thread() is threading.main_thread()


class SignalPipe:
    """The pipe between Python's signal handlers and the loop.

    receiver   the descriptor that the loop watches
    sender     the descriptor that Python writes signal numbers to
    """

    def __init__(self) -> None:
        self._open()
        _pipes.add(self)

    def _open(self) -> None:
        self.receiver, self.sender = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._previous = _NO_DESCRIPTOR

    def take_over(self, warn: bool) -> None:
        """Has signals written here from now on.

        warn   whether Python complains of numbers that are lost because the pipe is full
        """
        current = signal.set_wakeup_fd(self.sender, warn_on_full_buffer=warn)
        if current != self.sender:
            self._previous = current

    def give_back(self) -> None:
        """Sets the descriptor that was set before, unless somebody set another meanwhile."""
        current = signal.set_wakeup_fd(_NO_DESCRIPTOR)
        wanted = self._previous if current == self.sender else current
        self._previous = _NO_DESCRIPTOR
        if wanted != _NO_DESCRIPTOR:
            # Its owner may have closed it, or let it block, without a word: then it is unset.
            with contextlib.suppress(OSError, ValueError):
                signal.set_wakeup_fd(wanted)

    def read(self) -> Iterator[bytes]:
        """What was written, in pieces, each passed on to the descriptor that was set before."""
        while True:
            try:
                numbers = os.read(self.receiver, _READ_BYTES)
            except BlockingIOError:
                return
            self._pass_on(numbers)
            yield numbers

    def _pass_on(self, numbers: bytes) -> None:
        if self._previous == _NO_DESCRIPTOR:
            return
        try:
            os.write(self._previous, numbers)
        except BlockingIOError:
            pass  # full: whoever reads it is woken anyway
        except OSError:
            self._previous = _NO_DESCRIPTOR  # closed behind its owner's back

    def part_from_parent(self) -> None:
        """In the child of a fork: what is in the pipe is the parent's to read."""
        os.close(self.receiver)
        os.close(self.sender)
        self._open()

    def close(self) -> None:
        os.close(self.receiver)
        os.close(self.sender)
        _pipes.discard(self)


class Signals:
    """The handlers of one loop, by signal number, and its pipe, made when first needed."""

    def __init__(self, loop: Any) -> None:
        self._loop = loop
        self._handlers: dict[int, Handle] = {}
        self._pipe: SignalPipe | None = None
        self._running = False

    @property
    def is_watched(self) -> bool:
        """Whether the loop watches a pipe."""
        return self._pipe is not None

    def add(self, number: int, callback: Callable[..., object], args: tuple[Any, ...]) -> None:
        """Has `callback` called in the loop for each signal `number`, as asyncio does.

        raises   TypeError for a coroutine function; TypeError and ValueError for what is no
                 signal; RuntimeError outside the main thread and for what cannot be caught
        """
        if asyncio.iscoroutine(callback) or _is_coroutine_function(callback):
            raise TypeError("coroutines cannot be used with add_signal_handler()")
        _check_number(number)
        self._loop._check_closed()
        if not in_main_thread():
            raise RuntimeError("set_wakeup_fd only works in main thread of the main interpreter")
        self._open_pipe().take_over(warn=True)
        try:
            _set_handler(number, _do_nothing)
            # So that it interrupts as few system calls as can be.
            signal.siginterrupt(number, False)
            self._handlers[number] = self._loop._make_handle(callback, args, None)
        finally:
            self._give_back_if_idle()

    def remove(self, number: int) -> bool:
        """Restores Python's own way with the signal; False when there was no handler."""
        _check_number(number)
        if number not in self._handlers:
            return False
        is_interrupt = number == signal.SIGINT
        _set_handler(number, signal.default_int_handler if is_interrupt else signal.SIG_DFL)
        del self._handlers[number]
        self._give_back_if_idle()
        return True

    @contextmanager
    def heard(self) -> Iterator[None]:
        """While this lasts, signals wake the loop; in other threads this is nothing."""
        if not in_main_thread():
            yield
            return
        pipe = self._open_pipe()
        self._running = True
        try:
            pipe.take_over(warn=bool(self._handlers))
            yield
        finally:
            self._running = False
            self._give_back_if_idle()

    def close(self) -> None:
        """The loop is closed: its handlers are removed, and its pipe with them."""
        if sys.is_finalizing():
            self._abandon_handlers()
        for number in list(self._handlers):
            self.remove(number)
        if self._pipe is not None:
            self._pipe.close()
            self._pipe = None

    def _abandon_handlers(self) -> None:
        if self._handlers:
            warnings.warn(
                f"Closing the loop {self._loop!r} on interpreter shutdown stage, "
                "skipping signal handlers removal",
                ResourceWarning,
                source=self._loop,
                stacklevel=3,
            )
            self._handlers.clear()
            self._give_back_if_idle()

    def _open_pipe(self) -> SignalPipe:
        if self._pipe is None:
            self._pipe = SignalPipe()
            self._loop._add_reader(self._pipe.receiver, self._read)
        return self._pipe

    def _give_back_if_idle(self) -> None:
        """Signals are heard during a run, and as long as handlers wait for the next one."""
        if self._pipe is not None and not self._running and not self._handlers:
            self._read()
            self._pipe.give_back()

    def _read(self) -> None:
        assert self._pipe is not None
        for numbers in self._pipe.read():
            for number in numbers:
                handle = self._handlers.get(number)
                if handle is not None:
                    self._loop._add_callback(handle)


def _do_nothing(number: int, frame: object) -> None:
    """Python's handler for a signal of the loop: Python has written its number already."""


def _check_number(number: int) -> None:
    if not isinstance(number, int):
        raise TypeError(f"sig must be an int, not {number!r}")
    if number not in signal.valid_signals():
        raise ValueError(f"invalid signal number {number}")


def _set_handler(number: int, handler: Any) -> None:
    try:
        signal.signal(number, handler)
    except OSError as error:
        if error.errno == errno.EINVAL:
            raise RuntimeError(f"sig {number} cannot be caught") from error
        raise


_pipes: weakref.WeakSet[SignalPipe] = weakref.WeakSet()


def _forget_pipes() -> None:
    """In the child of a fork: its signals are none of the parent loop's business."""
    senders = {pipe.sender for pipe in _pipes}
    if in_main_thread():
        current = signal.set_wakeup_fd(_NO_DESCRIPTOR)
        if current not in senders:
            signal.set_wakeup_fd(current)
    for pipe in _pipes:
        pipe.part_from_parent()


os.register_at_fork(after_in_child=_forget_pipes)
