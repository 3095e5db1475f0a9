# Types for the compiled rendering of datagram_receiving.py.
cimport cython

from libc.stdint cimport int64_t, uint32_t, uint64_t
from uringloop.driver.rings cimport Rings
from uringloop.stream_state cimport next_state
from uringloop.transports.transport_base cimport TransportBase

cdef uint32_t _RECVMSG
cdef uint32_t _CANCEL
cdef int64_t _CANCELED

cdef int _DRAINING
cdef int _CLOSING
cdef int _LOST

cdef Py_ssize_t _ADDRESSES_MAX


cdef class ReceivingDatagrams(TransportBase):
    cdef object _address
    cdef bint _is_connected
    cdef int _lost_sends
    cdef dict _addresses

    cdef object _queue
    cdef Py_ssize_t _queued_bytes
    cdef uint64_t _poll_token
    cdef object _look_again
    cdef double _look_again_s

    cdef object _start_receiving(self)
    cdef object _recv_completed(self, Rings rings, int64_t result)
    cdef object _recv_paused(self, Rings rings, int64_t result)
    @cython.locals(name=bytes)
    cdef object _sender(self, Rings rings)
    cdef object _deliver(self, bytes data, object address)
    cdef object _report(self, object error)
    cdef object _callback_failed(self, str method, object error)

    cpdef _force_close(self, object error)
    cdef object _queue_emptied(self)
    cdef object _close_when_answered(self)
