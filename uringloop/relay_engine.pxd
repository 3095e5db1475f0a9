# Types for the compiled rendering of relay_engine.py.
cimport cython

from libc.stdint cimport int64_t, uint32_t, uint64_t
from uringloop.core cimport LoopCore
from uringloop.driver.in_flight cimport Operation
from uringloop.driver.rings cimport RelayState, Rings
from uringloop.relay_base cimport Relay
from uringloop.transports.stream cimport StreamTransport

cdef uint32_t _RELAY
cdef uint32_t _POLL
cdef uint32_t _FAILED_RECEIVE
cdef int64_t _POLLERR
cdef double _NS_PER_S

cdef class _Direction(Operation)


cdef class EngineRelay(Relay):
    cdef _Direction _there
    cdef _Direction _back

    @cython.locals(there=_Direction, back=_Direction)
    cpdef _begin(self)
    @cython.locals(direction=_Direction)
    cpdef _moved_bytes(self, int side)
    cpdef receive_stopped(self)
    cpdef transport_lost(self, object transport, object error)
    @cython.locals(side=int)
    cdef object direction_over(self, _Direction direction, int64_t result)
    cdef object side_failed(self, int side, object error)
    cdef object abandoned(self)
    @cython.locals(there=_Direction, back=_Direction)
    cpdef _end(self, object verdict)
    @cython.locals(there=_Direction, back=_Direction)
    cdef object answer_when_quiet(self)


cdef class _Direction(Operation):
    cdef int side
    cdef bint is_over
    cdef bint _is_prepared
    cdef StreamTransport source
    cdef StreamTransport _destination
    cdef EngineRelay _relay
    cdef RelayState state
    cdef bytes _received
    cdef uint64_t token
    cdef uint64_t first_bytes
    cdef uint64_t _limit

    @cython.locals(relay=EngineRelay, destination=StreamTransport)
    cdef object prepare(self)
    @cython.locals(core=LoopCore, fd=int, to_fd=int)
    cdef object _give_command(self)
    @cython.locals(core=LoopCore)
    cdef object watch(self)
    cpdef completed(self, Rings rings, uint32_t opcode, int64_t result, bint more)
    @cython.locals(relay=EngineRelay)
    cdef object _watch_over(self, int64_t result)
    cpdef abandoned(self)
    cdef object _give_back(self)
    cdef object let_go(self)
    cdef object reset_source(self, object verdict)
