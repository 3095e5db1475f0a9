# cython: language_level=3
"""The command and event rings through C pointers: the compiled rendering of rings.py.

Same classes, same methods, same tests; rings.py says what they mean.
"""

from cpython.buffer cimport (
    PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
)
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uintptr_t
from libc.string cimport memcpy


cdef class Rings:

    def bind(self, engine, shared, turn, grow):
        self._engine = <ul_engine *><uintptr_t>engine
        self._shared = <ul_shared *><uintptr_t>shared
        self._turn = <ul_turn_function><uintptr_t>turn
        self._grow = grow
        self._next = 0
        self._count = 0

    def unbind(self):
        self._engine = NULL
        self._shared = NULL
        self._turn = NULL
        self._grow = None
        self._next = 0
        self._count = 0

    cpdef stage(self, uint32_t opcode, int32_t fd, uint64_t token, uint64_t address,
                uint64_t length, uint64_t argument, uint32_t flags):
        cdef ul_shared *shared = self._shared
        cdef ul_command *command
        if shared == NULL:
            raise RuntimeError("Event loop is closed")
        if shared.command_count == shared.command_capacity:
            self._grow()
        command = &shared.commands[shared.command_count]
        command.token = token
        command.address = address
        command.length = length
        command.argument = argument
        command.fd = fd
        command.flags = flags
        command.opcode = opcode
        command.reserved = 0
        shared.command_count += 1

    cpdef int turn(self, int64_t timeout_ns) except? -1:
        cdef ul_engine *engine = self._engine
        cdef ul_turn_function turn = self._turn
        cdef int count
        if engine == NULL:
            raise RuntimeError("Event loop is closed")
        with nogil:
            count = turn(engine, timeout_ns)
        self._next = 0
        self._count = <uint32_t>count if count > 0 else 0
        return count

    def rest(self):
        if self._shared != NULL:
            self._shared.held.since_ns = 0

    cpdef bint has_events(self):
        return self._next < self._count

    cpdef bint take(self):
        cdef ul_event *event
        if self._next >= self._count:
            return False
        event = &self._shared.events[self._next]
        self._next += 1
        self.token = event.token
        self.address = event.address
        self.result = event.result
        self.opcode = event.opcode
        self.more = (event.flags & 1) != 0
        return True

    cpdef bytes copy_bytes(self):
        return PyBytes_FromStringAndSize(<char *><uintptr_t>self.address, self.result)

    cpdef bytes copy_rest(self, uint64_t offset):
        return PyBytes_FromStringAndSize(
            <char *><uintptr_t>(self.address + offset), self.result - <int64_t>offset)

    cpdef bytes copy_name(self):
        cdef ul_message *header = <ul_message *><uintptr_t>(self.address - UL_MESSAGE_HEADER)
        cdef uint32_t length = header.name_length
        if length > UL_NAME_BYTES:
            length = UL_NAME_BYTES
        return PyBytes_FromStringAndSize(<char *>header.name, length)

    cpdef bytes copy_own_name(self):
        cdef ul_name *name = &(<ul_names *><uintptr_t>self.address).own
        return PyBytes_FromStringAndSize(<char *>name.bytes, name.length)

    cpdef bytes copy_peer_name(self):
        cdef ul_name *name = &(<ul_names *><uintptr_t>self.address).peer
        return PyBytes_FromStringAndSize(<char *>name.bytes, name.length)

    cpdef uint64_t copy_into(self, object target, uint64_t offset) except? 0:
        cdef Py_buffer view
        cdef uint64_t size
        PyObject_GetBuffer(target, &view, PyBUF_WRITABLE)
        size = <uint64_t>self.result - offset
        if <uint64_t>view.len < size:
            size = <uint64_t>view.len
        memcpy(view.buf, <char *><uintptr_t>(self.address + offset), size)
        PyBuffer_Release(&view)
        return size

    cpdef uint64_t address_of(self, bytes data):
        return <uint64_t><uintptr_t>PyBytes_AS_STRING(data)


cdef class RelayState:

    cpdef uint64_t address(self):
        return <uint64_t><uintptr_t>&self._state

    cpdef uint64_t moved_bytes(self):
        return self._state.bytes

    cpdef uint32_t buffers_held(self):
        return self._state.buffers_held

    cpdef int64_t progress_ns(self):
        return self._state.progress_ns

    cpdef uint32_t failed(self):
        return self._state.failed
