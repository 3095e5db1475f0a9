# Types for the compiled rendering of socket_operations.py.
cimport cython

from libc.stdint cimport int64_t, uint32_t, uint64_t
from uringloop.core cimport LoopCore
from uringloop.driver.rings cimport Rings
from uringloop.lanes cimport Lane, LaneOperation

cdef uint32_t _ACCEPT
cdef uint32_t _RECV
cdef uint32_t _RECVMSG
cdef uint32_t _SEND
cdef uint32_t _SENDMSG
cdef uint32_t _SENDFILE
cdef uint32_t _ONCE
cdef int64_t _CANCELED
cdef object _ffi
cdef object _Future


cdef class Receive(LaneOperation):
    cdef bint _is_stream
    cdef Py_ssize_t _limit
    cdef uint32_t _opcode
    cdef public object name
    cdef public int64_t result

    cdef object _ask_for(self, bint is_stream, Py_ssize_t limit, bint with_name)
    @cython.locals(core=LoopCore, length=uint64_t)
    cpdef start(self)
    @cython.locals(lane=Lane)
    cpdef completed(self, Rings rings, uint32_t opcode, int64_t result, bint more)
    cdef object _worth_keeping(self, object data, object name, int64_t result)


cdef class Accept(LaneOperation):
    cdef object _sock
    cdef object _name
    cdef public int64_t result

    cdef object _ask_for(self, object sock)
    @cython.locals(core=LoopCore)
    cpdef start(self)
    @cython.locals(lane=Lane)
    cpdef completed(self, Rings rings, uint32_t opcode, int64_t result, bint more)
    cdef object _answer(self, object answer)
    cdef object _came_too_late(self, object answer)
    cdef object _connection(self, int fd)
    cdef object _address(self)


cdef class Send(LaneOperation):
    cdef object _data
    cdef public int64_t result

    cdef object _ask_for(self, object data)
    @cython.locals(core=LoopCore, where=uint64_t)
    cpdef start(self)
    @cython.locals(lane=Lane)
    cpdef completed(self, Rings rings, uint32_t opcode, int64_t result, bint more)


cdef class SendMessage(Send):
    cdef object _name

    cdef object _ask_for_message(self, object data, object name)


cdef class SendFile(LaneOperation):
    cdef int _file_fd
    cdef uint64_t _offset
    cdef uint64_t _length
    cdef object _transport
    cdef public int64_t result
    cdef public uint64_t sent_bytes

    cdef object _ask_for(self, int file_fd, uint64_t offset, uint64_t length, object transport)
    @cython.locals(core=LoopCore)
    cpdef start(self)
    cpdef bint is_with_kernel(self)
    @cython.locals(lane=Lane)
    cpdef completed(self, Rings rings, uint32_t opcode, int64_t result, bint more)


@cython.locals(receive=Receive)
cpdef Receive new_receive(LoopCore core, Lane lane, int fd, bint is_stream, Py_ssize_t limit,
                         bint with_name)

@cython.locals(accept=Accept)
cpdef Accept new_accept(LoopCore core, Lane lane, int fd, object sock)

@cython.locals(send=Send)
cpdef Send new_send(LoopCore core, Lane lane, int fd, object data)

@cython.locals(send=SendMessage)
cpdef SendMessage new_send_message(LoopCore core, Lane lane, int fd, object data, object name)

@cython.locals(send=SendFile)
cpdef SendFile new_send_file(LoopCore core, Lane lane, int fd, int file_fd, uint64_t offset,
                             uint64_t length, object transport)
