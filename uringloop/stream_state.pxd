# Types for the compiled rendering of stream_state.py.

cpdef int next_state(int state, str occurrence) except -1
