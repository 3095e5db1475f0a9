# Types for the compiled rendering of lanes.py.
from libc.stdint cimport int64_t, uint32_t, uint64_t
from uringloop.core cimport LoopCore
from uringloop.driver.in_flight cimport Operation

cdef uint32_t _CANCEL


cdef class LaneOperation(Operation):
    cdef LoopCore _core
    cdef Lane _lane
    cdef int _fd
    cdef uint64_t _token
    cdef bint _given_up
    cdef public object future

    cdef object _set(self, LoopCore core, Lane lane, int fd, object future)
    cpdef start(self)
    cpdef take(self, list kept)
    cpdef untaken(self)
    cpdef bint is_awaited(self)
    cpdef stop(self)
    cpdef give_up(self)


cdef class Lane:
    cdef public LaneOperation active
    cdef public list waiting
    cdef public list kept
    cdef public LaneOperation served
    cdef public object heir

    cpdef enter(self, LaneOperation operation)
    cpdef leave(self)
    cpdef keep(self, object answer)
    cpdef put_back(self, LaneOperation operation, object answer)
    cpdef went_on(self, LaneOperation operation)
    cdef object _serve(self)
    cdef object _answer(self, LaneOperation operation)


cdef class Channel:
    cdef public int fd
    cdef public bint is_stream
    cdef public Lane receives
    cdef public Lane sends
    cdef public Lane accepts
    cdef public object sock_ref
    cdef object _on_close
    cdef object __weakref__
