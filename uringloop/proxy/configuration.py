"""What one proxy is asked to do, checked and in the units that it is used in.

Pure. Made by the command line, or by a program that runs the proxy in its own loop.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass

from uringloop.proxy.addresses import Address

CONNECT_TIMEOUT_S = 5.0
HANDSHAKE_TIMEOUT_S = 10.0
IDLE_TIMEOUT_S = 600.0
DRAIN_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Configuration:
    """How connections are treated.

    connect_timeout_s     for connecting to one upstream, its TLS handshake included
    handshake_timeout_s   for what a client has to say first: PROXY header, TLS handshake
    idle_timeout_s        without a byte in either direction; None: never
    connections_max       accepting pauses at so many
    server_tls            to speak TLS with clients; None: do not
    upstream_tls          to speak TLS with upstreams; None: do not
    upstream_name         what an upstream must prove to be; None: its host's name
    accepts_header        whether every client begins with a PROXY header
    header_version        of the PROXY header that upstreams are sent; None: none
    """

    upstreams: tuple[Address, ...]
    balance: str = "round-robin"
    connect_timeout_s: float = CONNECT_TIMEOUT_S
    handshake_timeout_s: float = HANDSHAKE_TIMEOUT_S
    idle_timeout_s: float | None = IDLE_TIMEOUT_S
    connections_max: int = 10_000
    server_tls: ssl.SSLContext | None = None
    upstream_tls: ssl.SSLContext | None = None
    upstream_name: str | None = None
    accepts_header: bool = False
    header_version: int | None = None
