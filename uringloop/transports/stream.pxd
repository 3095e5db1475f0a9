# Types for the compiled rendering of stream.py.
cimport cython

from libc.stdint cimport int64_t, uint32_t, uint64_t
from uringloop.core cimport LoopCore
from uringloop.driver.in_flight cimport InFlight, Operation
from uringloop.driver.rings cimport Rings
from uringloop.write_queue cimport WriteQueue, exact_bytes

cdef uint32_t _RECV
cdef uint32_t _SEND
cdef uint32_t _CANCEL
cdef uint32_t _VECTORED
cdef uint32_t _LAZY
cdef int64_t _CANCELED

cdef int _OPEN
cdef int _FINISHING
cdef int _HALF_CLOSED
cdef int _DRAINING
cdef int _CLOSING
cdef int _CLOSED

cdef Py_ssize_t _DIRECT_BYTES_MAX
cdef int _SILENT_WRITES


cdef class StreamTransport(Operation):
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

    cdef uint64_t _recv_token
    cdef bint _recv_cancelled
    cdef bint _read_wanted
    cdef bint _read_ended
    cdef list _backlog

    cdef uint64_t _send_token
    cdef object _sending
    cdef Py_ssize_t _sending_bytes
    cdef WriteQueue _queue
    cdef bint _will_flush
    cdef object _drained_waiter
    cdef public bint _protocol_paused
    cdef Py_ssize_t _high_bytes
    cdef Py_ssize_t _low_bytes

    cdef object _protocol
    cdef bint _buffered

    cdef object _start_receiving(self)
    cdef object _stop_receiving(self)
    cpdef completed(self, Rings rings, uint32_t opcode, int64_t result, bint more)
    cdef object _recv_completed(self, Rings rings, int64_t result)
    cdef object _keep(self, bytes data)
    cdef object _deliver(self, Rings rings, int64_t size)
    cdef object _deliver_bytes(self, bytes data)
    cdef object _protocol_failed(self, object error)

    cpdef get_write_buffer_size(self)
    @cython.locals(size=Py_ssize_t)
    cpdef write(self, object data)
    cdef object _may_write(self)
    @cython.locals(queue=WriteQueue)
    cdef object _send_directly(self)
    @cython.locals(flags=uint32_t, address=uint64_t, length=uint64_t)
    cpdef flush(self)
    cdef bint _nobody_waits(self)
    @cython.locals(rings=Rings, piece=bytes, size=Py_ssize_t)
    cdef object _start_vector(self, list pieces)
    cdef object _send_completed(self, int64_t result)
    cdef object _queue_emptied(self)
    cdef object _pause_protocol_if_full(self)

    cdef object _fatal_error(self, object error, str message)
    cpdef _force_close(self, object error)
    cdef object _close_when_answered(self)
    cdef object _release(self)
