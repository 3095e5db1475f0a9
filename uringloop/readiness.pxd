# Types for the compiled rendering of readiness.py.
cimport cython

from libc.stdint cimport int64_t, uint32_t, uint64_t
from uringloop.core cimport LoopCore
from uringloop.driver.in_flight cimport Operation
from uringloop.driver.rings cimport Rings
from uringloop.transports.socket_info cimport told_info

cdef uint32_t _CANCEL
cdef uint32_t _CONNECT
cdef uint32_t _POLL
cdef uint32_t _NAMES


cdef class Wait(Operation):
    cdef LoopCore _core
    cdef uint64_t _token
    cdef public object future

    cdef object _wait_on(self, LoopCore core)
    cpdef start(self, object sock)
    cpdef cancel(self)
    cpdef error(self, int64_t result)
    cpdef completed(self, Rings rings, uint32_t opcode, int64_t result, bint more)
    cpdef abandoned(self)


cdef class Connect(Wait):
    cdef object _address
    cdef bytes _sockaddr
    cdef int _info_family
    cdef object _sock
    cdef public object info

    @cython.locals(core=LoopCore, fd=int, flags=uint32_t)
    cpdef start(self, object sock)
    cpdef completed(self, Rings rings, uint32_t opcode, int64_t result, bint more)
    cpdef error(self, int64_t result)


cdef class Readiness(Wait):
    cdef uint64_t _mask

    @cython.locals(fd=int)
    cpdef start(self, object sock)
    cpdef error(self, int64_t result)
