"""One loop's engine: opened, bound to a thread, woken, left behind in a fork, closed.

The driver owns the engine and the table of operations in flight, and hands out the rings.
What it says about the engine is in choose.Choice; what the engine does is in engine.h.
"""

from __future__ import annotations

import errno
import os
import threading
import time
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from uringloop.driver.binding import UL_OP_ACCEPT, UL_OP_OPEN, ffi, lib
from uringloop.driver.choose import Choice, choose
from uringloop.driver.features import FEATURE_BITS, feature_names
from uringloop.driver.in_flight import InFlight
from uringloop.driver.rings import Rings

_USUAL_SIZES: Mapping[str, int] = MappingProxyType({})
_COUNTERS = tuple(name for name, _ in ffi.typeof("struct ul_counters").fields)
_S2_OF_NS2 = 1e-18


@dataclass(frozen=True)
class HeldWindow:
    """engine.h's struct ul_held_window, with the lateness that it tells of in seconds²."""

    begin_ns: int = 0
    longest_ns: int = 0
    lateness: float = 0.0


_NO_WINDOWS = (HeldWindow(), HeldWindow())


@dataclass(frozen=True)
class DriverState:
    """What an engine holds at the moment, and what it counted.

    in_flight      operations without their final event
    buffers_held   receive buffers named by the last turn's events, and those of relays
    features       names of the features in use
    counters       engine.h's struct ul_counters, by name
    held_ns, held_since_ns, held_windows
                   engine.h's struct ul_held; of the windows the latest first
    """

    in_flight: int
    buffers_held: int
    features: tuple[str, ...]
    counters: dict[str, int]
    held_ns: int = 0
    held_since_ns: int = 0
    held_windows: tuple[HeldWindow, HeldWindow] = _NO_WINDOWS


_NOTHING = DriverState(0, 0, (), dict.fromkeys(_COUNTERS, 0))


class Driver:
    """An open engine and its operations in flight.

    sizes       fields of struct ul_config, for tests; what is missing has its default
    monotonic   the clock that the engine waits by, in seconds
    """

    def __init__(self, choice: Choice, sizes: Mapping[str, int] = _USUAL_SIZES) -> None:
        self.choice = choice
        self._sizes = sizes
        self.monotonic = time.monotonic
        self._is_bound = bool(choice.features & FEATURE_BITS["single_issuer"])
        self.in_flight = InFlight()
        self.rings = Rings()
        self._engine = ffi.NULL
        # Held by whoever uses the engine's memory or its wake descriptor from any thread, so
        # that neither is given back meanwhile. A signal's handler may come in between.
        self._guard = threading.RLock()
        self._earlier = _NOTHING  # what the engines before this one have counted
        self._open()
        self._thread: int | None = None
        self._is_parents = False
        _drivers.add(self)

    def _open(self) -> None:
        config = ffi.new("struct ul_config *", {"features": self.choice.features, **self._sizes})
        engine = ffi.new("struct ul_engine **")
        answer = lib.ul_open(config, engine)
        if answer < 0:
            raise OSError(-answer, f"opening the {self.choice.backend} engine", None)
        self._engine = engine[0]
        self._shared = lib.ul_shared_of(self._engine)
        self._wake_fd = lib.ul_wake_descriptor(self._engine)
        self.rings.bind(
            _address_of(self._engine),
            _address_of(self._shared),
            _address_of(ffi.addressof(lib, "ul_turn")),
            self._grow,
        )

    def _grow(self) -> None:
        if lib.ul_grow_commands(self._engine) < 0:
            raise MemoryError("no memory for more commands to the kernel")

    def explain(self, answer: int) -> None:
        """Raises what a negative answer of a turn means to the loop's user."""
        if answer == -errno.EBADF:
            raise RuntimeError(
                "this event loop belongs to the parent process; "
                "make a new one after a fork, in the child"
            )
        if answer == -errno.EEXIST:
            raise RuntimeError(
                "this event loop's io_uring belongs to the thread that ran it first; "
                "run it there, or set URINGLOOP_DISABLE=single_issuer"
            )
        raise OSError(-answer, os.strerror(-answer))

    def belongs_elsewhere(self) -> bool:
        """Notes the running thread; True when the engine is bound to another one."""
        # Python's own thread numbers are given again as soon as a thread has ended.
        thread = threading.get_native_id()
        if self._thread is None:
            self._thread = thread
        return self._is_bound and self._thread != thread and not self._is_parents

    def open_again(self) -> None:
        """A fresh engine for this thread. Nothing may be in flight."""
        assert not len(self.in_flight), "operations in flight cannot move to another thread"
        engine = self._leave()
        lib.ul_close(engine)
        self._open()
        self._thread = threading.get_native_id()

    def wake_from_any_thread(self) -> None:
        """Ends the engine's wait; nothing once closed."""
        # Under the lock, so that close() cannot free the number, and somebody else get it,
        # between the look and the write.
        with self._guard:
            if self._wake_fd >= 0:
                os.eventfd_write(self._wake_fd, 1)

    def state(self) -> DriverState:
        """What the engine holds and counted, from any thread; once closed, what it counted."""
        with self._guard:
            earlier = self._earlier
            if self._engine == ffi.NULL:
                return earlier
            return _state_of(self._shared, earlier)

    def _leave(self) -> Any:
        """The engine, which nobody else uses any more. What it has counted is kept."""
        with self._guard:
            engine = self._engine
            if engine != ffi.NULL:
                left = _state_of(self._shared, self._earlier)
                self._earlier = replace(_NOTHING, counters=left.counters, held_ns=left.held_ns)
            self._engine = ffi.NULL
            self._wake_fd = -1
        return engine

    def close(self) -> None:
        """Stops everything in flight, without events, and frees the engine."""
        engine = self._leave()
        self._discard_events()
        self.rings.unbind()
        if engine != ffi.NULL:
            lib.ul_close(engine)
        for operation in self.in_flight.operations():
            operation.abandoned()
        self.in_flight = InFlight()

    def _discard_events(self) -> None:
        """What came with the last turn and was never dispatched: descriptors are nobody's now."""
        rings = self.rings
        while rings.take():
            if rings.opcode in (UL_OP_ACCEPT, UL_OP_OPEN) and rings.result >= 0:
                os.close(rings.result)

    def abandon(self) -> None:
        """In the child of a fork: the ring stays the parent's."""
        # Another thread may have held the lock when the process forked.
        self._guard = threading.RLock()
        self._wake_fd = -1
        self._is_parents = True  # no thread of the child may have it: a turn says so
        if self._engine != ffi.NULL:
            lib.ul_abandon(self._engine)


def _state_of(shared: Any, earlier: DriverState) -> DriverState:
    """What a struct ul_shared says, with what engines before it have counted."""
    held = shared.held
    return DriverState(
        in_flight=shared.in_flight,
        buffers_held=shared.buffers_held + shared.relay_buffers_held,
        features=feature_names(shared.features),
        counters={
            name: int(getattr(shared.counters, name)) + earlier.counters[name] for name in _COUNTERS
        },
        held_ns=int(held.total_ns) + earlier.held_ns,
        held_since_ns=int(held.since_ns),
        held_windows=(_window_of(held.window), _window_of(held.before)),
    )


def _window_of(window: Any) -> HeldWindow:
    lateness = float(window.squares_ns2) / 2 * _S2_OF_NS2
    return HeldWindow(int(window.begin_ns), int(window.longest_ns), lateness)


def _address_of(pointer: Any) -> int:
    return int(ffi.cast("uintptr_t", pointer))


def open_driver(backend: str | None) -> Driver:
    """Opens the engine that choose() names.

    backend   as choose() takes it
    raises    what choose() raises; OSError when the engine cannot be opened, as when
              descriptors ran out
    kernel    where rings are charged to RLIMIT_MEMLOCK (6.14, without CAP_IPC_LOCK), a trial
              passes and one ring more may not: then "auto" goes on with epoll
    """
    choice = choose(backend)
    try:
        return Driver(choice)
    except OSError as error:
        if error.errno != errno.ENOMEM or choice.backend != "io_uring":
            raise
        refusal = "io_uring has no memory for another ring; raise RLIMIT_MEMLOCK"
        if choice.demanded:
            raise RuntimeError(f"{refusal}, or choose 'auto' or 'epoll'") from error
        return Driver(Choice("epoll", f"{refusal}; using epoll", 0))


_drivers: weakref.WeakSet[Driver] = weakref.WeakSet()


def _abandon_all() -> None:
    for driver in list(_drivers):
        driver.abandon()


os.register_at_fork(after_in_child=_abandon_all)
