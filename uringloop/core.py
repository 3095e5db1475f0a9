"""The turn: what the loop does over and over, and the queues that it works on.

`LoopCore` is the hot half of the event loop, below `asyncio.BaseEventLoop` in nothing but
name: EventLoop derives from both, and this one's methods come first. It holds the ready
queue, the timers and the streams with something to send, and knows the kernel only as
commands staged and events taken.

A turn: hand over what streams want to send, one engine turn (submit, wait, gather), dispatch the
events, make due timers ready, run what was ready. The order of callbacks is asyncio's,
but for one thing: protocols are called while events are dispatched, before callbacks that
were already waiting.

Compiled by Cython together with core.pxd; the same file runs interpreted.
"""

from __future__ import annotations

import asyncio
import sys
from asyncio import base_events, format_helpers, futures, tasks
from collections import deque
from collections.abc import Callable
from contextvars import Context
from typing import Any

from uringloop import timer_queue
from uringloop.handles import Handle, TimerHandle, new_handle, new_threadsafe_handle, new_timer
from uringloop.signatures import signature_of

# asyncio's own limits: above so many timers, of which so large a part is cancelled, the
# heap is built anew without them.
_PURGE_TIMERS_MIN = 100
_PURGE_FRACTION = 0.5

# Longer waits are cut here: epoll and timespec have room, a float's nanoseconds have not.
_WAIT_MAX_S = 24 * 3600.0


class LoopCore:
    """Ready queue, timers and the turn of an event loop."""

    def _start_core(self, driver: Any) -> None:
        """Sets the core up on an open driver; call before BaseEventLoop.__init__."""
        self._driver = driver
        self._monotonic = driver.monotonic
        self._rings = driver.rings
        self._in_flight = driver.in_flight
        # The callbacks that run now; what they add is in _ready. An exception that stops the
        # loop in the middle leaves the rest here, and the next run goes on with it.
        self._batch: list[Any] = []
        self._batch_position = 0
        # The third list: always empty, used again and again.
        self._spare: list[Any] = []
        self._dispatching = False
        # Callbacks of watched descriptors that are ready: they run in the turn that found it.
        self._polled: list[Any] = []
        # Timers that were due when the turn began: they run after its events.
        self._due: list[Any] = []
        # What other threads added: moved to the ready queue once a turn.
        self._incoming: deque[Any] = deque()
        self._wake_sent = False
        # The streams with something to send: so many entries, the rest are None.
        self._flushing: list[Any] = []
        self._flushing_count = 0
        # Counted for metrics(): stream transports of sockets, and what they gave to a socket
        # without the engine.
        self._streams_open = 0
        self._streams_accepted = 0
        self._streams_made = 0
        self._bytes_sent_directly = 0
        self._bytes_received_directly = 0

    def _queued(self) -> tuple[int, int]:
        """How many callbacks wait to run, and how many timers are set; from any thread."""
        ready = len(self._batch) - self._batch_position + len(self._ready)
        ready += len(self._incoming) + len(self._polled) + len(self._due)
        timers = len(self._scheduled) - self._timer_cancelled_count
        # Between two turns the one that counts may be ahead of the other.
        return max(ready, 0), max(timers, 0)

    # -- asyncio's scheduling -------------------------------------------------------

    def time(self) -> float:
        """Seconds of the driver's clock: CLOCK_MONOTONIC, but for a simulated kernel's."""
        return self._monotonic()

    def call_soon(
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        if self._closed:
            self._check_closed()
        handle = new_handle(callback, args, self, context)
        if self._debug:
            self._check_thread()
            self._check_callback(callback, "call_soon")
            self._remember_origin(handle)
        if self._incoming:
            self._collect_incoming()  # they came first
        self._ready.append(handle)
        return handle

    def call_soon_threadsafe(
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        if self._closed:
            self._check_closed()
        handle = new_threadsafe_handle(callback, args, self, context)
        if self._debug:
            self._check_callback(callback, "call_soon_threadsafe")
            self._remember_origin(handle)
        self._incoming.append(handle)
        self._write_to_self()
        return handle

    def call_later(
        self,
        delay: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        if delay is None:
            raise TypeError("delay must not be None")
        # asyncio calls call_at() by its name, and so do its messages.
        return self._call_at(self._monotonic() + delay, callback, args, context, "call_at")

    def call_at(
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        if when is None:
            raise TypeError("when cannot be None")
        return self._call_at(when, callback, args, context, "call_at")

    def _call_at(
        self,
        when: float,
        callback: Callable[..., object],
        args: Any,
        context: Context | None,
        method: str,
    ) -> asyncio.TimerHandle:
        if self._closed:
            self._check_closed()
        if when != when:
            when = self._monotonic()  # not a number: due at once, where it cannot upset the heap
        timer = new_timer(when, callback, args, self, context)
        if self._debug:
            self._check_thread()
            self._check_callback(callback, method)
            self._remember_origin(timer)
        timer_queue.push(self._scheduled, timer)
        timer._scheduled = True
        return timer

    # -- asyncio's tasks and small questions ------------------------------------------

    def create_task(self, coro: Any, **kwargs: Any) -> asyncio.Task[Any]:
        if kwargs or self._closed or self._debug or self._task_factory is not None:
            return super().create_task(coro, **kwargs)  # type: ignore[misc]
        # Looked up for each: there are programs that replace asyncio's class.
        return tasks.Task(coro, loop=self)  # type: ignore[arg-type]

    def create_future(self) -> asyncio.Future[Any]:
        return futures.Future(loop=self)  # type: ignore[arg-type]

    def get_debug(self) -> bool:
        return self._debug

    def is_closed(self) -> bool:
        return self._closed

    def _timer_handle_cancelled(self, handle: TimerHandle) -> None:
        if handle._scheduled:
            self._timer_cancelled_count += 1

    def _add_callback(self, handle: Handle) -> None:
        if handle._cancelled:
            return
        if self._dispatching:
            self._polled.append(handle)
        else:
            self._ready.append(handle)

    def _remember_origin(self, handle: Handle) -> None:
        """Debug mode: where the handle was asked for, without our own frames."""
        frame: Any = sys._getframe()
        while frame is not None and frame.f_globals.get("__name__") == __name__:
            frame = frame.f_back
        handle._source_traceback = format_helpers.extract_stack(frame)

    def _write_to_self(self) -> None:
        """Wakes the loop from any thread; writes only once until it has woken."""
        if not self._wake_sent:
            self._wake_sent = True
            self._driver.wake_from_any_thread()

    # -- the turn -------------------------------------------------------------------

    def _run_once(self) -> None:
        """Turns until stop(): BaseEventLoop.run_forever calls this, then looks at _stopping."""
        while True:
            self._run_turn()
            if self._stopping:
                break

    def _run_turn(self) -> None:
        self._drop_cancelled_timers()
        # After an exception in the middle of a turn, its events and callbacks come first.
        if not self._rings.has_events() and self._batch_position >= len(self._batch):
            self._flush_streams()
            self._engine_turn(self._wait_ns())
            if self._incoming:
                self._collect_incoming()
            # Before callbacks run: a timer that they make due waits for the next turn.
            if self._scheduled:
                self._collect_timers()
            if self._ready:
                self._take_ready()
        self._run_batch()
        if self._rings.has_events() or self._due or self._polled:
            self._collect_ready()
            self._run_batch()

    def _turn_now(self) -> None:
        """Gives the kernel what is staged at once, if this moment allows it.

        It does not while events are dispatched: their memory is good until the next turn.
        The answers are dispatched in the turn that follows.
        """
        if self._dispatching or self._rings.has_events() or self._driver.belongs_elsewhere():
            return
        self._flush_streams()
        self._engine_turn(0)

    def _engine_turn(self, timeout_ns: int) -> None:
        answer = self._rings.turn(timeout_ns)
        if answer < 0:
            self._driver.explain(answer)
        # First the flag, then the queue: a thread that still sees the flag set has its
        # callback in the queue already.
        self._wake_sent = False

    def _wait_ns(self) -> int:
        """How long the engine may wait: nanoseconds, 0 for not at all, -1 for ever."""
        if self._ready or self._due or self._polled or self._incoming or self._stopping:
            return 0
        if not self._scheduled:
            return -1
        timer = self._scheduled[0]
        wait_s = timer._when - self._monotonic()
        if wait_s <= 0.0:
            return 0
        if wait_s > _WAIT_MAX_S:
            wait_s = _WAIT_MAX_S
        # Rounded up, so that no timer is looked at too early.
        return int(wait_s * 1e9) + 1

    def _take_ready(self) -> None:
        """Makes the ready queue the batch to run; the batch before must be finished."""
        finished = self._batch
        finished.clear()
        self._batch = self._ready
        self._batch_position = 0
        self._ready = finished

    def _collect_ready(self) -> None:
        """Makes what events and timers bring the next batch.

        What this turn's callbacks have added stays in the ready queue for the next turn:
        after stop(), asyncio would not run it either. Where there is such, what the events
        add comes after it: callbacks run in the order in which they were registered.
        """
        earlier = self._ready
        self._ready = self._spare
        self._spare = earlier
        self._dispatching = True
        complete = False
        try:
            self._dispatch_events()
            complete = True
        finally:
            self._dispatching = False
            if earlier or self._polled or not complete:
                self._put_in_order(earlier)
            if not complete:
                self._spare = self._ready
                self._ready = earlier
        self._take_collected()

    def _put_in_order(self, earlier: list[Any]) -> None:
        """What the events added goes behind what was there before, if anything was."""
        if earlier:
            earlier.extend(self._ready)
        else:
            self._polled.extend(self._ready)
        self._ready.clear()

    def _take_collected(self) -> None:
        """Makes a batch of what is to run in this turn; the ready queue is what was added."""
        earlier = self._spare
        if self._polled:
            self._ready.extend(self._polled)
            self._polled.clear()
        if self._due:
            self._ready.extend(self._due)
            self._due.clear()
        self._take_ready()
        self._spare = self._ready
        self._ready = earlier

    def _collect_incoming(self) -> None:
        incoming = self._incoming
        while incoming:
            self._ready.append(incoming.popleft())

    def _dispatch_events(self) -> None:
        rings = self._rings
        in_flight = self._in_flight
        while rings.take():
            token = rings.token
            operation = in_flight.find(token)
            if not rings.more:
                in_flight.release(token)
            operation.completed(rings, rings.opcode, rings.result, rings.more)

    def _collect_timers(self) -> None:
        scheduled = self._scheduled
        end = self._monotonic() + self._clock_resolution
        while scheduled:
            timer = scheduled[0]
            if timer._when >= end:
                break
            timer_queue.pop(scheduled)
            timer._scheduled = False
            self._due.append(timer)

    def _drop_cancelled_timers(self) -> None:
        """Frees cancelled timers: all when they are many, else those in front."""
        if self._timer_cancelled_count == 0:
            return
        scheduled = self._scheduled
        count = len(scheduled)
        if count > _PURGE_TIMERS_MIN and self._timer_cancelled_count > count * _PURGE_FRACTION:
            self._rebuild_timers()
            return
        while scheduled:
            timer = scheduled[0]
            if not timer._cancelled:
                break
            timer_queue.pop(scheduled)
            timer._scheduled = False
            self._timer_cancelled_count -= 1

    def _rebuild_timers(self) -> None:
        kept = []
        for timer in self._scheduled:
            if timer._cancelled:
                timer._scheduled = False
            else:
                kept.append(timer)
        timer_queue.heapify(kept)
        self._scheduled = kept
        self._timer_cancelled_count = 0

    def _run_batch(self) -> None:
        """Runs the rest of the batch. What is added meanwhile goes into the ready queue."""
        if self._debug:
            self._run_batch_timed()
            return
        batch = self._batch
        while self._batch_position < len(batch):
            position = self._batch_position
            handle = batch[position]
            batch[position] = None
            self._batch_position = position + 1
            if not handle._cancelled:
                handle._run()

    def _run_batch_timed(self) -> None:
        """Debug mode's way: slow callbacks are logged."""
        batch = self._batch
        while self._batch_position < len(batch):
            position = self._batch_position
            handle = batch[position]
            batch[position] = None
            self._batch_position = position + 1
            if handle._cancelled:
                continue
            self._current_handle = handle
            started = self.time()
            try:
                handle._run()
            finally:
                self._current_handle = None
            took_s = self.time() - started
            if took_s >= self.slow_callback_duration:
                described = base_events._format_handle(handle)
                base_events.logger.warning("Executing %s took %.3f seconds", described, took_s)

    def _drop_queues(self) -> None:
        """The loop is closed: nothing that was waiting will run."""
        self._batch.clear()
        self._batch_position = 0
        self._due.clear()
        self._polled.clear()
        self._incoming.clear()
        self._flushing.clear()
        self._flushing_count = 0
        self._streams_open = 0

    # -- streams with something to send -------------------------------------------------

    def _flush_later(self, stream: Any) -> None:
        """Has stream.flush() called before the next engine turn. The stream asks once."""
        position = self._flushing_count
        if position < len(self._flushing):
            self._flushing[position] = stream
        else:
            self._flushing.append(stream)
        self._flushing_count = position + 1

    def _flush_streams(self) -> None:
        flushing = self._flushing
        position = 0
        while position < self._flushing_count:
            stream = flushing[position]
            if stream is not None:  # it has flushed: an exception ended the loop in the middle
                stream.flush()
            flushing[position] = None
            position += 1
        self._flushing_count = 0


# Its parameters are asyncio's of the running version, which they are handed on to.
signature_of(asyncio.BaseEventLoop.create_task)(LoopCore.create_task)
