# Types for the compiled rendering of stream_state.py.
cimport cython

cdef int _OCCURRENCES
cdef int _IMPOSSIBLE
cdef list _TABLE


@cython.locals(following=int)
cpdef int next_state(int state, int occurrence) except -1
