# Types for the compiled rendering of relay_base.py.


cdef class Relay:
    cdef object __weakref__

    cdef public object _loop  # any: the streams' way goes on every loop
    cdef public object _idle_timeout_s
    cdef public object _verdict
    cdef public bint _is_over
    cdef public double _begun_s
    cdef public object _given
    cdef object _timer
    cdef object _ended

    cpdef _begin(self)
    cpdef _moved_bytes(self, int side)
    cpdef _end(self, object verdict)
    cpdef _start(self)
    cpdef _answer(self)
    cdef object _look_after(self, double delay_s)
    cdef object _result(self)
