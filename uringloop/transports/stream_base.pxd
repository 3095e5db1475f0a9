# Types for the compiled rendering of stream_base.py.
from libc.stdint cimport uint32_t, uint64_t
from uringloop.transports.transport_base cimport TransportBase
from uringloop.stream_state cimport next_state
from uringloop.transports.socket_info cimport SocketInfo, socket_info
from uringloop.write_queue cimport WriteQueue

cdef uint32_t _CANCEL
cdef Py_ssize_t _NO_ZERO_COPY

cdef int _DRAINING
cdef int _CLOSING
cdef int _LOST
cdef int _CLOSE_ASKED
cdef int _QUEUE_EMPTY
cdef int _FAILED
cdef int _LOSS_TOLD
cdef int _ANSWERED

cdef bint _SERVER_TAKES_TRANSPORT

cdef object _attach(object server, object transport)
cdef object _detach(object server, object transport)


cdef class StreamBase(TransportBase):
    cdef object _server
    cdef int _lost_writes
    cdef bint _eof_asked
    cdef bint _read_ended

    cdef uint64_t _send_token
    cdef object _sending
    cdef Py_ssize_t _sending_bytes
    cdef object _sending_file
    cdef Py_ssize_t _zero_copy_bytes
    cdef object _relay
    cdef object _peer_watch
    cdef WriteQueue _queue
    cdef bint _will_flush
    cdef object _drained_waiter
    cdef bint _is_sending_lent
    cdef object _told_to_pause
    cdef bint _buffered
    cdef bint _is_bulk
    cdef int _pieces_against

    cdef str _kind
    cdef uint32_t _io_flags

    cdef object _introduce(self, object extra)
    cpdef get_write_buffer_size(self)
    cpdef _force_close(self, object error)
    cdef object _lose_connection(self)
    cdef object _close_when_answered(self)
    cdef object _close_file(self)
    cdef object _release(self)
