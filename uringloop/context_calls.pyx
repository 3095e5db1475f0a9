# cython: language_level=3
"""Calling users' code in its context: the compiled rendering of context_calls.py."""

from cpython.object cimport PyObject_Call


cdef extern from "Python.h":
    int PyContext_Enter(object context) except -1
    int PyContext_Exit(object context) except -1
    object PyContext_CopyCurrent()
    object PyObject_CallMethodOneArg(object receiver, object name, object argument)


cpdef object current_context():
    return PyContext_CopyCurrent()


cpdef object call_method(object context, object receiver, str name, object argument):
    PyContext_Enter(context)
    try:
        return PyObject_CallMethodOneArg(receiver, name, argument)
    finally:
        PyContext_Exit(context)


cpdef object call_with(object context, object callback, tuple arguments):
    if arguments is None:
        raise TypeError("arguments must be a tuple, not None")
    PyContext_Enter(context)
    try:
        return PyObject_Call(callback, arguments, <dict>NULL)
    finally:
        PyContext_Exit(context)
