# Types for the compiled rendering of write_queue.py.
cimport cython

cdef Py_ssize_t _VECTOR_PIECES_MAX
cdef Py_ssize_t _JOIN_BYTES_MAX
cdef Py_ssize_t _PIECE_BYTES_MIN

cpdef bytes exact_bytes(object data)


@cython.final
cdef class WriteQueue:
    cdef list _pieces
    cdef public Py_ssize_t queued_bytes

    cpdef append(self, bytes data)
    cpdef clear(self)
    cpdef bint is_single(self, Py_ssize_t size_max)

    @cython.locals(pieces=list, count=Py_ssize_t, taken_bytes=Py_ssize_t, joined=bint)
    cpdef object take(self)

    @cython.locals(taken=list, piece=bytes)
    cdef object _take_vector(self)
