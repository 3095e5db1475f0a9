# The rings reached through C pointers. The layout is engine.h's.
cimport cython

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t


cdef extern from "engine.h":
    ctypedef struct ul_command "struct ul_command":
        uint64_t token
        uint64_t address
        uint64_t length
        uint64_t argument
        int32_t fd
        uint32_t flags
        uint32_t opcode
        uint32_t reserved

    ctypedef struct ul_event "struct ul_event":
        uint64_t token
        uint64_t address
        int64_t result
        uint32_t flags
        uint32_t opcode

    enum:
        UL_NAME_BYTES
        UL_MESSAGE_HEADER

    ctypedef struct ul_message "struct ul_message":
        uint32_t name_length
        uint8_t name[128]

    ctypedef struct ul_name "struct ul_name":
        uint32_t length
        uint8_t bytes[128]

    ctypedef struct ul_names "struct ul_names":
        ul_name own
        ul_name peer

    ctypedef struct ul_relay_state "struct ul_relay_state":
        uint64_t bytes
        uint64_t bytes_held
        int64_t progress_ns
        uint32_t buffers_held
        uint32_t failed

    ctypedef struct ul_held "struct ul_held":
        int64_t since_ns

    ctypedef struct ul_shared "struct ul_shared":
        ul_command *commands
        ul_event *events
        uint32_t command_capacity
        uint32_t command_count
        uint32_t event_count
        uint32_t in_flight
        uint32_t buffers_held
        uint32_t features
        ul_held held

    ctypedef struct ul_engine "struct ul_engine":
        pass


ctypedef int (*ul_turn_function)(ul_engine *engine, int64_t timeout_ns) noexcept nogil


@cython.final
cdef class Rings:
    cdef ul_engine *_engine
    cdef ul_shared *_shared
    cdef ul_turn_function _turn
    cdef object _grow
    cdef uint32_t _next
    cdef uint32_t _count
    cdef public uint64_t token
    cdef public uint64_t address
    cdef public int64_t result
    cdef public uint32_t opcode
    cdef public bint more

    cpdef stage(self, uint32_t opcode, int32_t fd, uint64_t token, uint64_t address,
                uint64_t length, uint64_t argument, uint32_t flags)
    cpdef bint take(self)
    cpdef bint has_events(self)
    cpdef int turn(self, int64_t timeout_ns) except? -1
    cpdef bytes copy_bytes(self)
    cpdef bytes copy_name(self)
    cpdef bytes copy_own_name(self)
    cpdef bytes copy_peer_name(self)
    cpdef uint64_t copy_into(self, object target, uint64_t offset) except? 0
    cpdef bytes copy_rest(self, uint64_t offset)
    cpdef uint64_t address_of(self, bytes data)


@cython.final
cdef class RelayState:
    cdef ul_relay_state _state

    cpdef uint64_t address(self)
    cpdef uint64_t moved_bytes(self)
    cpdef uint32_t buffers_held(self)
    cpdef int64_t progress_ns(self)
    cpdef uint32_t failed(self)
