# Types for the compiled rendering of servers.py.
from libc.stdint cimport int64_t, uint32_t, uint64_t
from uringloop.core cimport LoopCore
from uringloop.driver.in_flight cimport Operation
from uringloop.driver.rings cimport Rings
from uringloop.transports.socket_info cimport SocketInfo, socket_info, told_info

cdef int64_t _CANCELED


cdef class Acceptor(Operation):
    cdef LoopCore _loop
    cdef object _sock
    cdef uint32_t _flags
    cdef tuple _kind
    cdef object _factory
    cdef object _sslcontext
    cdef object _server
    cdef dict _tls_timeouts
    cdef object _context
    cdef uint64_t _token
    cdef bint _stopped
    cdef object _own_server
    cdef bint _paused
    cdef list _held
    cdef bint _exhausted

    cpdef completed(self, Rings rings, uint32_t opcode, int64_t result, bint more)
    cdef object _failed(self, int64_t result)
    cdef object _accepted(self, int fd, Rings rings)
    cdef object _accept_plain(self, object conn, SocketInfo info)
