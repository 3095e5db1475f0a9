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
    "writelines_pauses": (
        "asyncio up to 3.13.0 does not pause the protocol in writelines() (cpython 127656); "
        "ours does, as later versions do"
    ),
    "failed_factory": (
        "asyncio leaves an accepted or connected socket to the garbage collector, with a "
        "ResourceWarning, when the protocol factory or the set-up of TLS fails; ours closes it "
        "at once"
    ),
    "nodelay_without_proto": (
        "asyncio does not set TCP_NODELAY on a socket that was made with proto=0; ours does"
    ),
    "accept_races_close": (
        "asyncio loses track of a connection when its server is closed in the turn after the "
        "accept (3.12 and up); ours serves or closes it"
    ),
    "start_tls_keeps_buffered": (
        "asyncio's StreamWriter.start_tls() forgets what its reader already holds of the "
        "handshake (cpython 142352); ours feeds it to TLS"
    ),
    "start_tls_while_paused": (
        "asyncio fails an assertion when a transport resumes that was paused before start_tls()"
    ),
    "fork": (
        "asyncio lets a forked child go on with its parent's loop, and both then read from one "
        "epoll instance; ours raises RuntimeError"
    ),
    "cancelled_receive": (
        "asyncio drops what sock_recv() had received when its task is cancelled in the same "
        "turn; ours keeps it for the next receive or returns it"
    ),
    "nan_delay": (
        "asyncio hands a NaN delay to its selector, and the ValueError from there ends "
        "run_forever(); ours keeps running"
    ),
}
