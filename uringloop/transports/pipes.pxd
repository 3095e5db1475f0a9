# Types for the compiled rendering of pipes.py.
from libc.stdint cimport int64_t, uint32_t, uint64_t
from uringloop.driver.rings cimport Rings
from uringloop.transports.receiving cimport ReceivingStream
from uringloop.transports.stream cimport StreamTransport

cdef uint32_t _POLL
cdef int64_t _CANCELED

cdef int _DRAINING
cdef int _CLOSING
cdef int _LOST


# With a __dict__: users, and CPython's tests, put methods of their own in place.
cdef class ReadPipeTransport(ReceivingStream):
    cdef dict __dict__

    cpdef completed(self, Rings rings, uint32_t opcode, int64_t result, bint more)
    cdef object _introduce(self, object extra)
    cdef object _weigh(self, int64_t size)
    cdef object _protocol_failed(self, object error)
    cdef object _fatal_error(self, object error, str message)
    cdef object _close_file(self)


cdef class WritePipeTransport(StreamTransport):
    cdef dict __dict__
    cdef bint _reader_gone

    cdef object _introduce(self, object extra)
    cpdef write(self, object data)
    cdef bint _is_idle(self)
    cdef object _may_write(self)
    cdef object _offer(self, object data)
    cdef object _start_receiving(self)
    cdef object _recv_completed(self, Rings rings, int64_t result)
    cdef object _send_completed(self, int64_t result)
    cdef object _lose_reader(self)
    cdef object _fatal_error(self, object error, str message)
    cdef object _close_file(self)
