# Types for the compiled rendering of datagram.py.
cimport cython

from libc.stdint cimport int64_t, uint32_t, uint64_t
from uringloop.driver.rings cimport Rings
from uringloop.transports.datagram_receiving cimport ReceivingDatagrams

cdef uint32_t _RECVMSG
cdef uint32_t _POLL
cdef int64_t _CANCELED
cdef uint64_t _WRITABLE

cdef int _DRAINING
cdef int _CLOSING
cdef int _LOST

cdef bint _EMPTY_IS_SENT
cdef Py_ssize_t _HEADER_BYTES
cdef int _SILENT_SENDS


cdef class DatagramTransport(ReceivingDatagrams):
    cpdef completed(self, Rings rings, uint32_t opcode, int64_t result, bint more)

    cpdef sendto(self, object data, object addr=*)
    cpdef bint _offer(self, object data, object address) except -1
    cdef object _send_late(self, object data, object address)
    cdef object _enqueue(self, bytes data, object address)
    cdef object _wait_for_room(self)
    cdef object _poll_completed(self, int64_t result)
    @cython.locals(found_room=bint, data=bytes)
    cdef object _send_queued(self)
    cdef bint _offer_queued(self, bytes data, object address) except -1
    cdef object _look_later(self)
    cdef object _pause_protocol_if_full(self)
