# Types for the compiled rendering of sockets.py.
from libc.stdint cimport int64_t, uint32_t, uint64_t
from uringloop.core cimport LoopCore
from uringloop.lanes cimport Channel, Lane
from uringloop.socket_operations cimport (
    Accept, Receive, Send, SendMessage, new_accept, new_receive, new_send, new_send_message
)

cdef object _ffi
cdef object _Socket
cdef object _kind_of
cdef int _SOCK_STREAM


cdef class SocketCalls(LoopCore):
    cdef public dict _channels
    cdef public dict _transports
    cdef bint _looking_for_closed

    cpdef Channel _channel_of(self, object sock)
    cdef Channel _new_channel(self, object sock, int fd)
    cpdef _forget_channel(self, int fd)


cdef Py_ssize_t _room_in(object buffer) except? -2
