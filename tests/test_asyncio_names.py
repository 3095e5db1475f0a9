"""The private names of asyncio that uringloop relies on, each with what for.

Checked on CPython 3.10 to 3.13. One that is missing in the running Python fails here first,
by name, and not somewhere in a program (row 41).
"""

from __future__ import annotations

import asyncio
from asyncio import (
    base_events,
    base_subprocess,
    format_helpers,
    selector_events,
    sslproto,
)

import pytest

BASE_LOOP = {
    "_check_callback": "debug mode refuses coroutines as callbacks",
    "_check_closed": "the error after close()",
    "_check_running": "the error of a second run_forever()",
    "_check_thread": "debug mode's thread check",
    "_create_connection_transport": "from a connected socket to transport and protocol",
    "_ensure_resolved": "sock_connect takes host names",
    "_make_datagram_transport": "overridden, as all that make transports",
    "_make_read_pipe_transport": "overridden",
    "_make_socket_transport": "overridden: the stream transport is ours",
    "_make_ssl_transport": "overridden: TLS runs over our stream transport",
    "_make_subprocess_transport": "overridden",
    "_make_write_pipe_transport": "overridden",
    "_run_once": "overridden: the turn is ours",
    "_check_sendfile_params": "sendfile checks its arguments as asyncio does",
    "_sendfile_native": "overridden: the engine sends files",
    "_sock_sendfile_native": "overridden: the engine sends files",
    "_timer_handle_cancelled": "overridden: timers are ours",
    "_write_to_self": "overridden: the engine has its own way to be woken",
}

FUNCTIONS = {
    (base_events, "_check_ssl_socket"): "sock_connect refuses SSL sockets",
    (base_events, "_format_handle"): "debug mode names a slow callback",
    (base_events, "Server"): "ours derives from it",
    (base_events.Server, "_detach"): "a limit of connections hears of ends",
    (base_events.Server, "_start_serving"): "create_server and create_unix_server",
    (format_helpers, "_format_callback_source"): "handles describe their callback",
    (format_helpers, "extract_stack"): "debug mode tells where a handle was made",
    (sslproto, "SSLProtocol"): "TLS",
    (asyncio.transports, "_FlowControlMixin"): "loop.sendfile wants its instances",
    (asyncio.constants, "ACCEPT_RETRY_DELAY"): "the pause after EMFILE",
    (selector_events, "_SelectorDatagramTransport"): "datagrams of rare families, over add_reader",
    (base_subprocess, "BaseSubprocessTransport"): "subprocesses",
    (base_subprocess, "ReadSubprocessPipeProto"): "a child's stdout and stderr",
    (base_subprocess, "WriteSubprocessPipeProto"): "a child's stdin",
}


@pytest.mark.parametrize("name", BASE_LOOP)
def test_asyncio_loops_have_the_private_method(name: str) -> None:
    assert callable(getattr(asyncio.BaseEventLoop, name, None)), BASE_LOOP[name]


@pytest.mark.parametrize(("module", "name"), FUNCTIONS, ids=lambda part: str(part))
def test_asyncio_modules_have_the_private_name(module: object, name: str) -> None:
    assert hasattr(module, name), FUNCTIONS[module, name]


def test_asyncio_loops_keep_their_state_under_the_names_that_the_core_takes_over() -> None:
    loop = asyncio.BaseEventLoop()
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
        ):
            assert name in names, name
    finally:
        loop.close()


def test_stream_readers_keep_what_a_relay_takes_over_under_these_names() -> None:
    loop = asyncio.new_event_loop()
    try:
        names = vars(asyncio.StreamReader(loop=loop))
        for name in ("_buffer", "_transport", "_paused"):
            assert name in names, name
    finally:
        loop.close()
