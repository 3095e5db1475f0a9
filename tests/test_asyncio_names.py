"""The private names of asyncio that uringloop relies on, each with what for.

Checked on CPython 3.10 to 3.13. One that is missing in the running Python fails here first,
by name, and not somewhere in a program.
"""

from __future__ import annotations

import asyncio
from asyncio import base_events, format_helpers, selector_events, sslproto, unix_events

import pytest

BASE_LOOP = {
    "_accept_connection2": "the task that sees an accepted TLS handshake through",
    "_check_callback": "debug mode refuses coroutines as callbacks",
    "_check_closed": "the error after close()",
    "_check_running": "the error of a second run_forever()",
    "_check_thread": "debug mode's thread check",
    "_ensure_fd_no_transport": "add_reader refuses a transport's descriptor",
    "_ensure_resolved": "sock_connect takes host names",
    "_read_from_self": "reads signal numbers off the signal pipe",
    "_add_reader": "overridden: readiness is ours",
    "_add_writer": "overridden: readiness is ours",
    "_close_self_pipe": "overridden: the signal pipe is made when needed",
    "_make_datagram_transport": "overridden: the datagram transport is ours",
    "_make_socket_transport": "overridden: the stream transport is ours",
    "_make_ssl_transport": "overridden: TLS runs over our stream transport",
    "_remove_reader": "overridden: readiness is ours",
    "_remove_writer": "overridden: readiness is ours",
    "_run_once": "overridden: the turn is ours",
    "_start_serving": "overridden: accepting is ours",
    "_stop_serving": "overridden: accepting is ours",
    "_write_to_self": "overridden: the engine has its own way to be woken",
}

FUNCTIONS = {
    (base_events, "_check_ssl_socket"): "sock_connect refuses SSL sockets",
    (base_events, "_format_handle"): "debug mode names a slow callback",
    (format_helpers, "_format_callback_source"): "handles describe their callback",
    (format_helpers, "extract_stack"): "debug mode tells where a handle was made",
    (sslproto, "SSLProtocol"): "TLS",
    (asyncio.transports, "_FlowControlMixin"): "loop.sendfile wants its instances",
    (asyncio.constants, "ACCEPT_RETRY_DELAY"): "the pause after EMFILE",
    (selector_events, "_SelectorDatagramTransport"): "datagrams of rare families, over add_reader",
    (unix_events, "_UnixReadPipeTransport"): "pipes, over add_reader",
    (unix_events, "_UnixSubprocessTransport"): "subprocesses",
}


@pytest.mark.parametrize("name", BASE_LOOP)
def test_asyncio_loops_have_the_private_method(name: str) -> None:
    assert callable(getattr(asyncio.SelectorEventLoop, name, None)), BASE_LOOP[name]


@pytest.mark.parametrize(("module", "name"), FUNCTIONS, ids=lambda part: str(part))
def test_asyncio_modules_have_the_private_name(module: object, name: str) -> None:
    assert hasattr(module, name), FUNCTIONS[module, name]


def test_asyncio_loops_keep_their_state_under_the_names_that_the_core_takes_over() -> None:
    loop = asyncio.SelectorEventLoop()
    try:
        names = vars(loop)
        for name in (
            "_closed",
            "_stopping",
            "_debug",
            "_ready",
            "_scheduled",
            "_timer_cancelled_count",
            "_clock_resolution",
            "_current_handle",
            "_thread_id",
            "_selector",
            "_transports",
            "_signal_handlers",
        ):
            assert name in names, name
    finally:
        loop.close()
