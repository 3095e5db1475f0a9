# Types for the compiled rendering of handles.py.
cimport cython

from uringloop.context_calls cimport call_with, current_context


cdef class Handle:
    cdef public object _callback
    cdef public object _args
    cdef public object _loop
    cdef public object _context
    cdef public object _repr
    cdef public object _source_traceback
    cdef public bint _cancelled
    cdef object __weakref__

    cdef object _set(self, object callback, object args, object loop, object context)
    cpdef object _run(self)


cdef class ThreadSafeHandle(Handle):
    cdef object _lock

    cdef object _set_lock(self)
    cpdef object _run(self)


cdef class TimerHandle(Handle):
    cdef public double _when
    cdef public bint _scheduled

    cdef object _set_time(self, double when)


@cython.locals(handle=Handle)
cpdef Handle new_handle(object callback, object args, object loop, object context)

@cython.locals(handle=ThreadSafeHandle)
cpdef Handle new_threadsafe_handle(object callback, object args, object loop, object context)

@cython.locals(timer=TimerHandle)
cpdef TimerHandle new_timer(double when, object callback, object args, object loop, object context)
