# Types for the compiled rendering of datagram_receiving.py.
cimport cython

from libc.stdint cimport int64_t, uint32_t, uint64_t
from uringloop.core cimport LoopCore
from uringloop.driver.in_flight cimport InFlight, Operation
from uringloop.driver.rings cimport Rings

cdef uint32_t _RECVMSG
cdef uint32_t _CANCEL
cdef int64_t _CANCELED

cdef int _OPEN
cdef int _DRAINING
cdef int _CLOSING
cdef int _LOST

cdef Py_ssize_t _ADDRESSES_MAX


cdef class ReceivingDatagrams(Operation):
    cdef LoopCore _core
    cdef Rings _rings
    cdef public object _sock
    cdef public int _sock_fd
    cdef object _context
    cdef dict _extra
    cdef object _address
    cdef bint _is_connected
    cdef object _protocol
    cdef int _state
    cdef object _loss
    cdef int _lost_sends

    cdef uint64_t _recv_token
    cdef bint _recv_cancelled
    cdef bint _read_wanted
    cdef list _backlog
    cdef dict _addresses

    cdef object _queue
    cdef Py_ssize_t _queued_bytes
    cdef uint64_t _poll_token
    cdef object _look_again
    cdef double _look_again_s
    cdef public bint _protocol_paused
    cdef Py_ssize_t _high_bytes
    cdef Py_ssize_t _low_bytes

    cdef object _start_receiving(self)
    cdef object _stop_receiving(self)
    cdef object _recv_completed(self, Rings rings, int64_t result)
    cdef object _recv_paused(self, Rings rings, int64_t result)
    @cython.locals(name=bytes)
    cdef object _sender(self, Rings rings)
    cdef object _deliver(self, bytes data, object address)
    cdef object _report(self, object error)
    cdef object _callback_failed(self, str method, object error)

    cdef object _fatal_error(self, object error, str message)
    cpdef _force_close(self, object error)
    cdef object _queue_emptied(self)
    cdef object _lose_connection(self)
    cdef object _close_when_answered(self)
