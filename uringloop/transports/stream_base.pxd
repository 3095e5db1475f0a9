# Types for the compiled rendering of stream_base.py.
cimport cython

from libc.stdint cimport int64_t, uint32_t, uint64_t
from uringloop.core cimport LoopCore
from uringloop.driver.in_flight cimport InFlight, Operation
from uringloop.driver.rings cimport Rings
from uringloop.write_queue cimport WriteQueue

cdef uint32_t _CANCEL

cdef int _OPEN
cdef int _DRAINING
cdef int _CLOSING
cdef int _LOST


cdef class StreamBase(Operation):
    cdef LoopCore _core
    cdef Rings _rings
    cdef public object _sock
    cdef public int _sock_fd
    cdef object _context
    cdef dict _extra
    cdef object _server
    cdef int _state
    cdef object _loss
    cdef int _lost_writes
    cdef bint _eof_asked

    cdef uint64_t _recv_token
    cdef bint _recv_cancelled
    cdef bint _read_wanted
    cdef bint _read_ended
    cdef list _backlog

    cdef uint64_t _send_token
    cdef object _sending
    cdef Py_ssize_t _sending_bytes
    cdef object _sending_file
    cdef WriteQueue _queue
    cdef bint _will_flush
    cdef object _drained_waiter
    cdef public bint _protocol_paused
    cdef object _told_to_pause
    cdef Py_ssize_t _high_bytes
    cdef Py_ssize_t _low_bytes

    cdef object _protocol
    cdef bint _buffered

    cdef str _kind
    cdef uint32_t _io_flags

    cdef object _introduce(self, object extra)
    cdef object _stop_receiving(self)
    cpdef get_write_buffer_size(self)
    cdef object _fatal_error(self, object error, str message)
    cpdef _force_close(self, object error)
    cdef object _lose_connection(self)
    cdef object _close_when_answered(self)
    cdef object _close_file(self)
    cdef object _release(self)
