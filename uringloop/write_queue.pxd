# Types for the compiled rendering of write_queue.py.
cimport cython

cdef Py_ssize_t _VECTOR_PIECES_MAX
cdef Py_ssize_t _JOIN_BYTES_MAX
cdef Py_ssize_t _PIECE_BYTES_MIN

cpdef bytes exact_bytes(object data)


@cython.final
cdef class WriteQueue:
    cdef bytes _first
    cdef list _others
    cdef public Py_ssize_t queued_bytes

    cpdef append(self, bytes data)
    cpdef clear(self)

    @cython.locals(first=bytes, pieces=list, piece=bytes, size=Py_ssize_t)
    cpdef object take(self)

    @cython.locals(later=list, piece=bytes, size=Py_ssize_t)
    cpdef put_back(self, object taken, Py_ssize_t sent_bytes)

    cdef list _all(self)
