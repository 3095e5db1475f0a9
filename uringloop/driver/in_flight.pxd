# Types for the compiled rendering of in_flight.py.
cimport cython

from libc.stdint cimport int64_t, uint32_t, uint64_t
from uringloop.driver.rings cimport Rings

cdef uint64_t _INDEX_MASK
cdef uint64_t _NO_SLOT
cdef uint64_t _FIRST_GENERATION
cdef uint64_t _LAST_GENERATION
cdef Py_ssize_t _SLOTS_MIN


cdef class Operation:
    cdef object __weakref__

    cpdef completed(self, Rings rings, uint32_t opcode, int64_t result, bint more)
    cpdef flush(self)
    cpdef abandoned(self)


@cython.final
cdef class InFlight:
    cdef list _operations
    cdef uint64_t[::1] _links
    cdef uint64_t _first_free
    cdef Py_ssize_t _count

    cdef object _add_slots(self)

    @cython.locals(index=uint64_t, link=uint64_t, token=uint64_t)
    cpdef uint64_t add(self, Operation operation)

    cpdef object find(self, uint64_t token)

    @cython.locals(index=uint64_t, generation=uint64_t)
    cpdef release(self, uint64_t token)
