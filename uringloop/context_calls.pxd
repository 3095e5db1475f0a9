# What the compiled rendering of context_calls offers to other compiled modules.
cpdef object current_context()
cpdef object call_method(object context, object receiver, str name, object argument)
cpdef object call_with(object context, object callback, tuple arguments)
