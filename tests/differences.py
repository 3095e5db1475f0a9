"""Where uringloop means to differ from stdlib asyncio, each with its reason.

A test marked `difference("name")` runs on our loops alone where asyncio differs on this
version of Python, and on asyncio too where it does not. Everything else runs on asyncio
always, and must pass there.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

VERSION = sys.version_info[:3]


@dataclass(frozen=True)
class Difference:
    reason: str
    on_this_python: bool = True


DIFFERENCES = {
    "refused_run_forever": Difference(
        "run_forever() of CPython 3.13.0 forgets that the loop is running when it refuses to "
        "run it again; ours changes nothing",
        on_this_python=VERSION >= (3, 13),
    ),
    "abort_after_lost": Difference(
        "asyncio's abort() raises AttributeError when close() had to flush first and "
        "connection_lost() has been called; ours does nothing"
    ),
    "wide_memoryview": Difference(
        "asyncio counts a memoryview in items but advances it in bytes, so that one of wider "
        "items arrives mutilated after a short send; ours sends its bytes"
    ),
    "strided_memoryview": Difference(
        "asyncio loses the connection to BufferError when a memoryview has gaps; ours sends "
        "its content"
    ),
    "write_is_a_snapshot": Difference(
        "asyncio since 3.12 may send what a bytearray holds later; ours sends what it held when "
        "write() was called",
        on_this_python=VERSION >= (3, 12),
    ),
    "writelines_empty_piece": Difference(
        "asyncio since 3.12 fails in writelines() when all pieces are empty",
        on_this_python=VERSION >= (3, 12),
    ),
    "writelines_pauses": Difference(
        "asyncio from 3.12 to 3.13.0 does not pause the protocol in writelines() (cpython "
        "127656); ours does",
        on_this_python=VERSION >= (3, 12),
    ),
    "pause_in_connection_made": Difference(
        "asyncio 3.10 reads on after pause_reading() in connection_made(); ours does not",
        on_this_python=VERSION < (3, 11),
    ),
    "failed_factory": Difference(
        "asyncio leaves an accepted or connected socket to the garbage collector, with a "
        "ResourceWarning, when the protocol factory or the set-up of TLS fails; ours closes it "
        "at once"
    ),
    "nodelay_without_proto": Difference(
        "asyncio does not set TCP_NODELAY on a socket that was made with proto=0; ours does"
    ),
    "accept_races_close": Difference(
        "asyncio loses track of a connection when its server is closed in the turn after the "
        "accept; ours serves or closes it"
    ),
    "start_tls_keeps_buffered": Difference(
        "asyncio's StreamWriter.start_tls() forgets what its reader already holds of the "
        "handshake (cpython 142352); ours feeds it to TLS"
    ),
    "start_tls_while_paused": Difference(
        "asyncio since 3.11 never resumes a protocol that was paused before start_tls(); ours does",
        on_this_python=VERSION >= (3, 11),
    ),
    "fork": Difference(
        "asyncio lets a forked child go on with its parent's loop, and both then read from one "
        "epoll instance; ours raises RuntimeError"
    ),
    "cancelled_receive": Difference(
        "asyncio drops what sock_recv() or sock_accept() has taken when its task is cancelled "
        "before it runs again; ours keeps it for the next call or returns it"
    ),
    "huge_write": Difference(
        "asyncio copies what is left of a write and moves it at every short send (up to 3.11): "
        "two gibibytes take longer than any limit of a test; ours sends from where they are"
    ),
    "nan_delay": Difference(
        "asyncio hands a NaN delay to its selector, and the ValueError from there ends "
        "run_forever(); ours keeps running"
    ),
}
