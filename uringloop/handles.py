"""Callbacks waiting to be run: `Handle`, `TimerHandle` with its moment, `ThreadSafeHandle`.

They answer to `isinstance(handle, asyncio.Handle)` and have its attributes, but are made
without a call of `__init__`: one is made for every callback of the loop, so what making
and running one costs is the price of a turn.

Compiled by Cython together with handles.pxd; the same file runs interpreted.
"""

from __future__ import annotations

import asyncio
import inspect
import sys
import threading
from asyncio import events, format_helpers
from collections.abc import Callable
from contextvars import Context
from typing import Any

from uringloop.context_calls import call_with, current_context
from uringloop.errors import report_callback_error

# Whether asyncio asks for the loop's debug mode before it shows arguments (3.12.5 and up).
_ASKS_FOR_DEBUG = "debug" in inspect.signature(format_helpers._format_callback_source).parameters

_CANCEL_WAITS = sys.version_info >= (3, 14)


def describe_callback(handle: Any) -> str:
    """The handle's callback in words, as asyncio prints it in its messages."""
    arguments: dict[str, Any] = {}
    if _ASKS_FOR_DEBUG:
        arguments["debug"] = handle._loop.get_debug()
    return format_helpers._format_callback_source(handle._callback, handle._args, **arguments)


class Handle:
    """A callback with its arguments and context; asyncio.Handle's counterpart."""

    # Compiled, the class cannot derive from asyncio.Handle, an extension type having no
    # Python base. This makes isinstance() true all the same.
    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return asyncio.Handle

    def _set(self, callback: Any, args: Any, loop: Any, context: Context | None) -> None:
        """Fills a handle that was made by __new__."""
        self._callback = callback
        self._args = args
        self._loop = loop
        self._context = current_context() if context is None else context
        self._cancelled = False
        self._repr: str | None = None
        self._source_traceback: Any = None

    def _repr_info(self) -> list[str]:
        info = [self.__class__.__name__]
        if self._cancelled:
            info.append("cancelled")
        if self._callback is not None:
            info.append(describe_callback(self))
        if self._source_traceback:
            frame = self._source_traceback[-1]
            info.append(f"created at {frame[0]}:{frame[1]}")
        return info

    def __repr__(self) -> str:
        if self._repr is not None:
            return self._repr
        return f"<{' '.join(self._repr_info())}>"

    def get_context(self) -> Context:
        """The context that the callback runs in."""
        return self._context

    def cancel(self) -> None:
        """Ask for the callback not to be run. Cancelling twice, or after the run, is nothing."""
        if self._cancelled:
            return
        self._cancelled = True
        if self._loop.get_debug():
            # What a debug message will want to show, before it is let go.
            self._repr = repr(self)
        self._callback = None
        self._args = None

    def cancelled(self) -> bool:
        """Whether cancel() was called."""
        return self._cancelled

    def _run(self) -> None:
        try:
            call_with(self._context, self._callback, self._args)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            report_callback_error(self, describe_callback(self), error)


class ThreadSafeHandle(Handle):
    """What call_soon_threadsafe() answers since 3.14: cancel() waits while the callback runs.

    So when cancel() has returned in another thread, the callback has run or never will.
    """

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        handle_class: type = events._ThreadSafeHandle  # type: ignore[attr-defined]
        return handle_class

    def _set_lock(self) -> None:
        # The callback may cancel its own handle.
        self._lock = threading.RLock()

    def cancel(self) -> None:
        """Ask for the callback not to be run, and wait for one that another thread runs."""
        with self._lock:
            Handle.cancel(self)

    def cancelled(self) -> bool:
        """Whether cancel() was called."""
        with self._lock:
            return self._cancelled

    def _run(self) -> None:
        with self._lock:
            # It was not cancelled when the loop looked.
            if not self._cancelled:
                Handle._run(self)


class TimerHandle(Handle):
    """A callback to be run at a moment of the loop's clock; asyncio.TimerHandle's counterpart."""

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return asyncio.TimerHandle

    def _set_time(self, when: float) -> None:
        self._when = when
        self._scheduled = False

    def _repr_info(self) -> list[str]:
        info = Handle._repr_info(self)
        info.insert(2 if self._cancelled else 1, f"when={self._when}")
        return info

    def when(self) -> float:
        """The moment, in seconds of the loop's clock."""
        return self._when

    def cancel(self) -> None:
        """Ask for the callback not to be run; the loop forgets the timer in time."""
        if not self._cancelled:
            self._loop._timer_handle_cancelled(self)
        Handle.cancel(self)

    def __hash__(self) -> int:
        return hash(self._when)

    def __lt__(self, other: Any) -> Any:
        if isinstance(other, TimerHandle):
            return self._when < other._when
        return NotImplemented

    def __le__(self, other: Any) -> Any:
        if isinstance(other, TimerHandle):
            return self._when < other._when or self.__eq__(other)
        return NotImplemented

    def __gt__(self, other: Any) -> Any:
        if isinstance(other, TimerHandle):
            return self._when > other._when
        return NotImplemented

    def __ge__(self, other: Any) -> Any:
        if isinstance(other, TimerHandle):
            return self._when > other._when or self.__eq__(other)
        return NotImplemented

    def __eq__(self, other: Any) -> Any:
        if isinstance(other, TimerHandle):
            return (
                self._when == other._when
                and self._callback == other._callback
                and self._args == other._args
                and self._cancelled == other._cancelled
            )
        return NotImplemented


def new_handle(callback: Callable[..., object], args: Any, loop: Any, context: Any) -> Any:
    """A Handle, made the quick way."""
    handle = Handle.__new__(Handle)
    handle._set(callback, args, loop, context)
    return handle


def new_threadsafe_handle(
    callback: Callable[..., object], args: Any, loop: Any, context: Any
) -> Any:
    """A handle for call_soon_threadsafe(), as the running asyncio's own."""
    if not _CANCEL_WAITS:
        return new_handle(callback, args, loop, context)
    handle = ThreadSafeHandle.__new__(ThreadSafeHandle)
    handle._set(callback, args, loop, context)
    handle._set_lock()
    return handle


def new_timer(
    when: float, callback: Callable[..., object], args: Any, loop: Any, context: Any
) -> Any:
    """A TimerHandle for the moment `when`, made the quick way."""
    timer = TimerHandle.__new__(TimerHandle)
    timer._set(callback, args, loop, context)
    timer._set_time(when)
    return timer
