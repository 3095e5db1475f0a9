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
        on_this_python=(3, 13) <= VERSION < (3, 14),
    ),
    "abort_after_lost": Difference(
        "asyncio's abort() before 3.14 raises AttributeError when close() had to flush first and "
        "connection_lost() has been called; ours does nothing",
        on_this_python=VERSION < (3, 14),
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
        "asyncio 3.12 and 3.13 fail in writelines() when all pieces are empty",
        on_this_python=(3, 12) <= VERSION < (3, 14),
    ),
    "writelines_pauses": Difference(
        "asyncio from 3.12 to 3.13.0 does not pause the protocol in writelines() (cpython "
        "127656); ours does",
        on_this_python=(3, 12) <= VERSION < (3, 14),
    ),
    "pause_in_connection_made": Difference(
        "asyncio 3.10 reads on after pause_reading() in connection_made(); ours does not",
        on_this_python=VERSION < (3, 11),
    ),
    "failed_factory": Difference(
        "asyncio leaves an accepted socket to the garbage collector, with a ResourceWarning, when "
        "the protocol factory fails; ours closes it at once"
    ),
    "failed_client_factory": Difference(
        "asyncio before 3.14 does so with a connected socket, also when the set-up of TLS fails",
        on_this_python=VERSION < (3, 14),
    ),
    "nodelay_without_proto": Difference(
        "asyncio does not set TCP_NODELAY on a socket that was made with proto=0; ours does"
    ),
    "accept_races_close": Difference(
        "asyncio loses track of a connection when its server is closed in the turn after the "
        "accept; ours serves or closes it"
    ),
    "server_closed_while_it_rests": Difference(
        "asyncio accepts again, a second after descriptors ran out, also on a server that was "
        "closed meanwhile, and reports a ValueError; ours does not"
    ),
    "start_tls_keeps_buffered": Difference(
        "asyncio's StreamWriter.start_tls() before 3.14 forgets what its reader already holds of "
        "the handshake (cpython 142352); ours feeds it to TLS",
        on_this_python=VERSION < (3, 14),
    ),
    "start_tls_while_paused": Difference(
        "asyncio since 3.11 never resumes a protocol that was paused before start_tls(); ours does",
        on_this_python=VERSION >= (3, 11),
    ),
    "reused_number": Difference(
        "asyncio's add_reader() raises FileNotFoundError, or watches nothing, for a number that "
        "was watched, closed without remove_reader(), and given to another file; ours watches "
        "the new file"
    ),
    "full_wakeup_pipe": Difference(
        "asyncio loses signals, with a warning on stderr, when more than some hundreds come in one "
        "turn: its socket pair is full; ours has a pipe, which takes 65536"
    ),
    "wakeup_descriptor": Difference(
        "asyncio forgets the descriptor that was set by signal.set_wakeup_fd() before "
        "add_signal_handler(); ours passes signals on to it, and sets it again in the end"
    ),
    "fork": Difference(
        "asyncio lets a forked child go on with its parent's loop, and both then read from one "
        "epoll instance; ours raises RuntimeError"
    ),
    "fork_that_leaves": Difference(
        "the same from 3.14 on, where a child that ends takes the parent's connections out of that "
        "epoll instance as it goes, and the parent waits for ever",
        on_this_python=VERSION >= (3, 14),
    ),
    "pipe_that_does_not_close": Difference(
        "asyncio takes a pipe transport for unclosed when its file's close() failed"
    ),
    "pipe_is_reading": Difference(
        "asyncio 3.10 has no is_reading() for pipes", on_this_python=VERSION < (3, 11)
    ),
    "pipe_closed_in_connection_made": Difference(
        "asyncio 3.10 reads on after close() in connection_made() of a pipe; ours does not",
        on_this_python=VERSION < (3, 11),
    ),
    "pipe_abort_after_close": Difference(
        "asyncio calls connection_lost() twice when a write pipe is aborted after its end began"
    ),
    "pipe_hears_its_socket": Difference(
        "asyncio takes what the peer of a socket sends for its end, and what a FIFO that is open "
        "for both holds; ours closes when the other end does"
    ),
    "cancelled_start": Difference(
        "asyncio waits for ever, or for the grandchildren, when the start of a child is cancelled "
        "before all its pipes are connected (cpython 103847, 125502); ours closes them"
    ),
    "reaped_elsewhere": Difference(
        "asyncio before 3.12 reaps in a thread of its own, so that nobody else can be first",
        on_this_python=VERSION < (3, 12),
    ),
    "reaped_by_popen": Difference(
        "asyncio reports 255 and a warning also when the child's own Popen object has the return "
        "code; ours takes it from there"
    ),
    "close_after_loop": Difference(
        "asyncio before 3.13.2 cannot close a subprocess transport whose loop is closed "
        "(cpython 114177): RuntimeError, and the child lives on; since then the child stays a "
        "zombie, and its pidfd open; ours kills it and reaps it"
    ),
    "exit_context": Difference(
        "asyncio before 3.12 calls process_exited() from a thread's empty context; ours calls it "
        "in the context that the child was started in",
        on_this_python=VERSION < (3, 12),
    ),
    "cancelled_receive": Difference(
        "asyncio drops what sock_recv() or sock_accept() has taken when its task is cancelled "
        "before it runs again; ours keeps it for the next call or returns it"
    ),
    "overlapping_calls": Difference(
        "asyncio forgets the first of two sock_recv(), sock_sendall() or sock_accept() that wait "
        "on one socket: it never ends. Ours take turns, in the order of the calls"
    ),
    "datagram_calls": Difference(
        "asyncio has sock_recvfrom(), sock_recvfrom_into() and sock_sendto() since 3.11; ours "
        "has them on 3.10 too",
        on_this_python=VERSION < (3, 11),
    ),
    "sendfile_while_closing": Difference(
        "asyncio's sendfile() never ends when its own transport is closed meanwhile, or cancelled "
        "while it waits for what was written before; ours raises ConnectionError, and gives the "
        "transport back"
    ),
    "cancelled_sendfile": Difference(
        "asyncio leaves a file's position where it was when sendfile() is cancelled; ours sets it "
        "to what was sent, as after any other end"
    ),
    "huge_write": Difference(
        "asyncio before 3.12 copies what is left of a write and moves it at every short send: "
        "two gibibytes take longer than any limit of a test; ours sends from where they are",
        on_this_python=VERSION < (3, 12),
    ),
    "pause_datagrams": Difference(
        "asyncio 3.10 cannot pause a datagram transport; ours can",
        on_this_python=VERSION < (3, 11),
    ),
    "two_transports_for_a_socket": Difference(
        "asyncio up to 3.11 makes a second datagram transport for a socket that has one, and "
        "the first hears no more; ours refuses, as asyncio later",
        on_this_python=VERSION < (3, 12),
    ),
    "datagram_header_bytes": Difference(
        "asyncio 3.13.0 counts 8 bytes more for a waiting datagram, and never takes them back, "
        "so that the protocol is resumed too late or never (cpython 135444); ours takes them back",
        on_this_python=(3, 13) <= VERSION < (3, 14),
    ),
    "refused_while_paused": Difference(
        "the kernel empties the receive queue of a connected Unix socket when a send finds the "
        "peer gone, so that asyncio loses what came while it was paused; ours may have received "
        "it by then, and delivers it"
    ),
    "sendto_after_lost": Difference(
        "asyncio's sendto() raises AttributeError after connection_lost() of an unconnected "
        "endpoint; ours drops the datagram, as both do for a connected one"
    ),
    "full_unix_receiver": Difference(
        "asyncio turns without rest while the receiver of an unconnected Unix socket is full, "
        "for which poll(2) has no sign; ours looks again from time to time"
    ),
    "nan_delay": Difference(
        "asyncio hands a NaN delay to its selector, and the ValueError from there ends "
        "run_forever(); ours keeps running"
    ),
    "one_context": Difference(
        "asyncio before 3.15 calls a protocol in the context that happens to be current; ours "
        "has one for each connection, as asyncio since",
        on_this_python=VERSION < (3, 15),
    ),
}
