# Types for the compiled rendering of relay.py.
from uringloop.transports.stream cimport StreamTransport


cdef class _Side:
    cdef object _reader
    cdef object _writer
    cdef object transport

    cdef bint is_engine_able(self)
    cdef bytes take_buffered(self)
    cdef object streams(self, object loop, object limit)


cdef object _between(_Side a, _Side b, object loop, object idle_timeout, object limit)
cdef object _refusal(StreamTransport transport, object loop)
