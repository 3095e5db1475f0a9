# Types for the compiled rendering of transport_base.py.
from libc.stdint cimport uint32_t, uint64_t
from uringloop.core cimport LoopCore
from uringloop.driver.in_flight cimport Operation
from uringloop.driver.rings cimport Rings

cdef uint32_t _CANCEL

cdef Py_ssize_t _HIGH_BYTES
cdef Py_ssize_t _LOW_BYTES

cdef int _OPEN
cdef int _DRAINING


cdef class TransportBase(Operation):
    cdef LoopCore _core
    cdef Rings _rings
    cdef public object _sock
    cdef public int _sock_fd
    cdef object _context
    cdef object _extra  # a dict, or a SocketInfo
    cdef object _protocol
    cdef int _state
    cdef object _loss

    cdef uint64_t _recv_token
    cdef bint _recv_cancelled
    cdef bint _read_wanted
    cdef list _backlog

    cdef public bint _protocol_paused
    cdef Py_ssize_t _high_bytes
    cdef Py_ssize_t _low_bytes

    cdef object _own(self, object core, object sock, object context)
    cdef object _stop_receiving(self)
    cdef object _tell_handler(self, str message, object error)
    cdef object _fatal_error(self, object error, str message)
    cpdef _force_close(self, object error)
    cdef object _lose_connection(self)
