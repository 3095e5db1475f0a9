# Types for the compiled rendering of stream.py.
cimport cython

from libc.stdint cimport int64_t, uint32_t, uint64_t
from uringloop.driver.rings cimport Rings
from uringloop.stream_state cimport next_state
from uringloop.transports.receiving cimport ReceivingStream
from uringloop.write_queue cimport WriteQueue, exact_bytes

cdef uint32_t _SEND
cdef uint32_t _VECTORED
cdef uint32_t _LAZY
cdef uint32_t _ZERO_COPY
cdef Py_ssize_t _NO_ZERO_COPY

cdef int _OPEN
cdef int _FINISHING
cdef int _DRAINING
cdef int _CLOSING
cdef int _LOST
cdef int _EOF_ASKED
cdef int _QUEUE_EMPTY

cdef Py_ssize_t _DIRECT_BYTES_MAX
cdef int _SILENT_WRITES


cdef class StreamTransport(ReceivingStream):
    cpdef completed(self, Rings rings, uint32_t opcode, int64_t result, bint more)

    @cython.locals(size=Py_ssize_t)
    cpdef write(self, object data)
    cdef object _may_write(self)
    @cython.locals(queue=WriteQueue)
    cdef object _send_directly(self)
    cdef object _offer(self, object data)
    @cython.locals(flags=uint32_t, address=uint64_t, length=uint64_t)
    cpdef flush(self)
    cdef bint _nobody_waits(self)
    @cython.locals(rings=Rings, piece=bytes, size=Py_ssize_t)
    cdef object _start_vector(self, list pieces)
    cdef object _send_completed(self, int64_t result)
    cdef object _queue_emptied(self)
    cdef object _pause_unless_sent(self)
    cdef object _pause_protocol_if_full(self)

    cpdef relay_refusal(self)
    cpdef begin_relay(self, object relay)
    cpdef end_relay(self)
    cpdef bint is_receive_in_flight(self)
    cpdef list take_received(self)
    cpdef lend_sending(self)
    cpdef lend_receive(self, uint64_t token)
    cpdef lend_send(self, uint64_t token)
    cpdef drop(self)
