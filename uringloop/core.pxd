# Types for the compiled rendering of core.py.
cimport cython

from libc.stdint cimport int64_t, uint64_t
from uringloop.driver.in_flight cimport InFlight, Operation
from uringloop.driver.rings cimport Rings
from uringloop cimport timer_queue
from uringloop.handles cimport Handle, TimerHandle, new_handle, new_threadsafe_handle, new_timer

cdef double _WAIT_MAX_S
cdef Py_ssize_t _PURGE_TIMERS_MIN
cdef double _PURGE_FRACTION


cdef class LoopCore:
    # BaseEventLoop's own attributes, here as fields: its methods and these see the same.
    cdef public bint _closed
    cdef public bint _stopping
    cdef public bint _debug
    cdef public object _ready
    cdef public list _scheduled
    cdef public Py_ssize_t _timer_cancelled_count
    cdef public double _clock_resolution
    cdef public object _current_handle
    cdef public object _task_factory

    cdef public object _driver
    cdef object _monotonic
    cdef public Rings _rings
    cdef public InFlight _in_flight
    cdef list _batch
    cdef list _spare
    cdef list _due
    cdef list _polled
    cdef bint _dispatching
    cdef Py_ssize_t _batch_position
    cdef object _incoming
    cdef bint _wake_sent
    cdef list _flushing
    cdef Py_ssize_t _flushing_count
    cdef public Py_ssize_t _streams_open
    cdef public Py_ssize_t _streams_accepted
    cdef public Py_ssize_t _streams_made
    cdef public uint64_t _bytes_sent_directly
    cdef public uint64_t _bytes_received_directly

    cpdef _start_core(self, object driver)

    @cython.locals(timer=TimerHandle)
    cdef TimerHandle _call_at(self, object when, object callback, object args, object context,
                              str method)

    cpdef _drop_queues(self)
    cdef object _run_turn(self)
    cpdef _engine_turn(self, int64_t timeout_ns)

    @cython.locals(timer=TimerHandle, wait_s=double)
    cdef int64_t _wait_ns(self) except? -2

    @cython.locals(rings=Rings, in_flight=InFlight, token=uint64_t, operation=Operation)
    cdef object _dispatch_events(self)

    cpdef _turn_now(self)
    cdef object _take_ready(self)
    cdef object _collect_ready(self)
    cdef object _put_in_order(self, object earlier)
    cdef object _take_collected(self)
    cdef object _collect_incoming(self)

    @cython.locals(timer=TimerHandle, scheduled=list, end=double)
    cdef object _collect_timers(self)

    @cython.locals(timer=TimerHandle, scheduled=list, count=Py_ssize_t)
    cdef object _drop_cancelled_timers(self)

    cdef object _rebuild_timers(self)

    @cython.locals(handle=Handle, batch=list, position=Py_ssize_t)
    cdef object _run_batch(self)

    @cython.locals(handle=Handle, batch=list, position=Py_ssize_t)
    cdef object _run_batch_timed(self)

    @cython.locals(position=Py_ssize_t)
    cpdef _flush_later(self, Operation stream)
    @cython.locals(flushing=list, position=Py_ssize_t, stream=Operation)
    cpdef _flush_streams(self)
