# Types for the compiled rendering of receiving.py.
cimport cython

from libc.stdint cimport int64_t, uint32_t, uint64_t
from uringloop.context_calls cimport call_method
from uringloop.driver.rings cimport Rings
from uringloop.transports.stream_base cimport StreamBase

cdef uint32_t _RECV
cdef uint32_t _READABLE
cdef int64_t _CANCELED

cdef int _DRAINING

cdef int _PIECES_IN_A_ROW
cdef int64_t _LARGE_BYTES
cdef int64_t _SMALL_BYTES
cdef int64_t _SHARE_BYTES


cdef class ReceivingStream(StreamBase):
    @cython.locals(flags=uint32_t)
    cdef object _start_receiving(self)
    cdef object _recv_completed(self, Rings rings, int64_t result)
    cdef object _recv_paused(self, Rings rings, int64_t result)
    cdef object _keep(self, object item)
    cdef object _deliver(self, Rings rings, int64_t size)
    cdef object _weigh(self, int64_t size)
    cdef object _receive_share(self, int64_t size)
    cdef object _receive(self, object target, int64_t size)
    cdef object _deliver_bytes(self, bytes data)
    cdef object _protocol_failed(self, object error)
