# Types for the compiled rendering of timer_queue.py.
cimport cython

from uringloop.handles cimport TimerHandle


cpdef push(list heap, TimerHandle timer)

@cython.locals(last=TimerHandle, earliest=TimerHandle)
cpdef TimerHandle pop(list heap)

@cython.locals(position=Py_ssize_t)
cpdef heapify(list heap)

@cython.locals(above=Py_ssize_t, timer=TimerHandle, other=TimerHandle)
cdef object _rise(list heap, Py_ssize_t top, Py_ssize_t position)

@cython.locals(end=Py_ssize_t, position=Py_ssize_t, below=Py_ssize_t,
               timer=TimerHandle, child=TimerHandle, sibling=TimerHandle)
cdef object _sink(list heap, Py_ssize_t top)
