# Types for the compiled rendering of socket_info.py.


cdef class SocketInfo:
    cdef object _socket
    cdef object _sockname
    cdef object _peername
    cdef object _others

    cpdef object get(self, object name, object default=*)


cpdef SocketInfo socket_info(object sock, object extra)
cpdef SocketInfo accepted_info(object sock, object shared_sockname)
cpdef object name_of(object method)
