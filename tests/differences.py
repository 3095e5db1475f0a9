"""Where uringloop means to differ from stdlib asyncio, each with its reason.

A test marked `difference("name")` runs on our loops alone. Everything else runs on
asyncio too, and must pass there.
"""

DIFFERENCES: dict[str, str] = {
    "refused_run_forever": (
        "CPython 3.13.0's run_forever() forgets that the loop is running when it refuses to "
        "run it again; ours changes nothing, as the other versions do"
    ),
    "abort_after_lost": (
        "asyncio's abort() raises AttributeError when close() had to flush first and "
        "connection_lost() has been called; ours does nothing"
    ),
    "wide_memoryview": (
        "asyncio counts a memoryview in items but advances it in bytes, so that one of wider "
        "items arrives mutilated after a short send; ours sends its bytes"
    ),
    "strided_memoryview": (
        "asyncio loses the connection to BufferError when a memoryview has gaps; ours sends "
        "its content"
    ),
    "write_is_a_snapshot": (
        "asyncio may send what a bytearray holds later (3.12 and up); ours sends what it held "
        "when write() was called, as the older versions do"
    ),
    "writelines_empty_piece": (
        "asyncio 3.12 and up drop out of writelines() with an empty piece left in the queue"
    ),
    "nan_delay": (
        "asyncio hands a NaN delay to its selector, and the ValueError from there ends "
        "run_forever(); ours keeps running"
    ),
}
