# Types for the compiled rendering of socket_info.py.
from uringloop.driver.rings cimport Rings

cdef tuple _PACKED_FAMILIES


cdef class SocketInfo:
    cdef object _socket
    cdef object _sockname
    cdef object _peername
    cdef object _others
    cdef bint _is_packed

    cpdef object get(self, object name, object default=*)
    cdef object _unpack(self)


cpdef SocketInfo socket_info(object sock, object extra)
cpdef SocketInfo told_info(object sock, Rings rings, int family)
cpdef object name_of(object method)
