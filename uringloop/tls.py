"""TLS over our stream transport, by asyncio's own protocol."""

from __future__ import annotations

import ssl
from asyncio import sslproto
from contextvars import Context
from typing import Any

from uringloop.transports.stream import StreamTransport


def make_transport(
    loop: Any,
    sock: Any,
    protocol: Any,
    sslcontext: ssl.SSLContext,
    waiter: Any,
    server_side: bool,
    server_hostname: str | None,
    extra: dict[str, Any] | None,
    server: Any,
    context: Context | None,
    timeouts: dict[str, Any],
) -> Any:
    """The transport that encrypts: `protocol` is above it, a stream transport below.

    waiter     a Future that is answered when the handshake is done
    context    what the protocol is called in; None is a copy of the caller's
    timeouts   as the running asyncio's SSLProtocol names them
    """
    loop._ensure_fd_no_transport(sock)
    tls = sslproto.SSLProtocol(
        loop, protocol, sslcontext, waiter, server_side, server_hostname, **timeouts
    )
    loop._make_socket_transport(sock, tls, extra=extra, server=server, context=context)
    return tls._app_transport


def return_buffered(transport: Any, protocol: Any, sslcontext: Any) -> None:
    """Before start_tls: what the StreamReader has of the handshake goes back.

    Bytes behind the last plain one are TLS already: they belong to the new protocol.
    """
    reader = getattr(protocol, "_stream_reader", None)
    usable = isinstance(transport, StreamTransport) and isinstance(sslcontext, ssl.SSLContext)
    if usable and reader is not None and reader._buffer:
        transport.pause_reading()
        transport.unread(bytes(reader._buffer))
        reader._buffer.clear()
