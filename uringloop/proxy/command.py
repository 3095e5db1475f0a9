"""`uringloop proxy`: the options, and what they say wrongly, in one line. Needs click."""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import click

from uringloop.proxy import configuration as defaults
from uringloop.proxy import log, tls
from uringloop.proxy.addresses import UnixAddress, parse_listen, parse_upstream
from uringloop.proxy.configuration import Configuration
from uringloop.proxy.proxy_protocol import VERSIONS
from uringloop.proxy.starting import Settings, start
from uringloop.proxy.upstreams import BALANCES

# Of the process itself: the loop, the log, the listening sockets, a look-up.
_DESCRIPTORS_KEPT = 64

EXAMPLES = """\b
Examples:
  uringloop proxy :8080 127.0.0.1:9000
  uringloop proxy --balance least-connections [::1]:8080 app1:9000 app2:9000
  uringloop proxy --workers 4 --max-connections 20000 :8080 unix:/run/app.sock
  uringloop proxy --tls-cert site.pem --tls-key site.key :443 127.0.0.1:8080
  uringloop proxy --upstream-tls --upstream-ca ca.pem :8080 db.example.com:5433
  uringloop proxy --accept-proxy --send-proxy v2 :8080 127.0.0.1:9000
"""


class _Seconds(click.FloatRange):
    name = "seconds"


_POSITIVE = _Seconds(min=0, min_open=True)
_NOT_NEGATIVE = _Seconds(min=0)
_COUNT = click.IntRange(min=1)
_FILE = click.Path()


def _option(name: str, text: str, **arguments: Any) -> Callable[[Any], Any]:
    return click.option(name, help=text, show_default="default" in arguments, **arguments)


@click.command(
    context_settings={"max_content_width": 100},
    epilog=EXAMPLES,
    short_help="carry TCP and Unix connections to upstreams",
)
@click.argument("listen", type=parse_listen, metavar="LISTEN")
@click.argument(
    "upstreams",
    type=parse_upstream,
    nargs=-1,
    required=True,
    metavar="UPSTREAM [UPSTREAM...]",
)
@_option(
    "--balance",
    "Whom a connection goes to.",
    type=click.Choice(list(BALANCES)),
    default="round-robin",
)
@_option(
    "--connect-timeout",
    "For each attempt to connect, TLS included.",
    type=_POSITIVE,
    default=defaults.CONNECT_TIMEOUT_S,
)
@_option(
    "--handshake-timeout",
    "For a client's PROXY header, and for its TLS handshake.",
    type=_POSITIVE,
    default=defaults.HANDSHAKE_TIMEOUT_S,
)
@_option(
    "--idle-timeout",
    "Without a byte in either direction; 0: never.",
    type=_NOT_NEGATIVE,
    default=defaults.IDLE_TIMEOUT_S,
)
@_option(
    "--drain-timeout",
    "For open connections, after the first signal.",
    type=_NOT_NEGATIVE,
    default=defaults.DRAIN_TIMEOUT_S,
)
@_option(
    "--max-connections",
    "For each worker; above it they wait in the kernel's queue. [default: as many as the limit"
    " of open files allows]",
    type=_COUNT,
)
@_option(
    "--workers", "Processes, each with its own loop and its own listener.", type=_COUNT, default=1
)
@_option("--tls-cert", "Speak TLS with clients: a PEM file with certificate and chain.", type=_FILE)
@_option("--tls-key", "Its private key, if it is not in the same file.", type=_FILE)
@_option("--upstream-tls", "Speak TLS with upstreams, and verify them.", is_flag=True)
@_option("--upstream-ca", "Authorities to trust, a PEM file. [default: the system's]", type=_FILE)
@_option("--upstream-name", "What upstreams must prove to be. [default: the name in UPSTREAM]")
@_option("--accept-proxy", "Clients begin with a PROXY header, v1 or v2.", is_flag=True)
@_option("--send-proxy", "Begin with a PROXY header.", type=click.Choice(list(VERSIONS)))
@_option("--log-level", "What to log.", type=click.Choice(list(log.LEVELS)), default="info")
@_option("--log-format", "Of a line.", type=click.Choice(list(log.FORMATTERS)), default="key-value")
@_option(
    "--status/--no-status", "Live figures on a terminal. [default: if stderr is one]", default=None
)
def proxy(**options: Any) -> int:
    """Carry connections from LISTEN to an UPSTREAM each.

    Addresses are HOST:PORT, [IPv6]:PORT, :PORT (all interfaces), or the path of a Unix socket,
    as unix:PATH or with a slash in it.

    The first SIGTERM or SIGINT stops accepting and waits for the connections, the second cuts
    them. Exit status: 0 all had ended, 1 some were cut, 2 wrong usage, 3 cannot listen, 4 a
    certificate or key is of no use, 5 no event loop can be had.
    """
    return start(_settings(options))


def _settings(options: dict[str, Any]) -> Settings:
    return Settings(
        listen=options["listen"],
        connections=_configuration(options),
        workers=options["workers"],
        drain_timeout_s=options["drain_timeout"],
        log_level=options["log_level"],
        log_format=options["log_format"],
        shows_status=_is_status_wanted(options["status"]),
    )


def _is_status_wanted(asked: bool | None) -> bool:
    """A pipe or a file is no place for figures that are drawn over."""
    if asked is False or not sys.stderr.isatty():
        return False
    has_rich = find_spec("rich") is not None
    if asked and not has_rich:
        raise click.UsageError("--status needs rich: pip install 'uringloop[cli]'")
    return has_rich


def _configuration(options: dict[str, Any]) -> Configuration:
    _check_tls_options(options)
    certificate = options["tls_cert"]
    version = options["send_proxy"]
    return Configuration(
        upstreams=options["upstreams"],
        balance=options["balance"],
        connect_timeout_s=options["connect_timeout"],
        handshake_timeout_s=options["handshake_timeout"],
        idle_timeout_s=options["idle_timeout"] or None,
        connections_max=options["max_connections"] or _connections_that_fit(),
        server_tls=tls.server_context(certificate, options["tls_key"]) if certificate else None,
        upstream_tls=tls.upstream_context(options["upstream_ca"])
        if options["upstream_tls"]
        else None,
        upstream_name=options["upstream_name"],
        accepts_header=options["accept_proxy"],
        header_version=VERSIONS[version] if version else None,
    )


def _check_tls_options(options: dict[str, Any]) -> None:
    if options["tls_key"] and not options["tls_cert"]:
        raise click.UsageError("--tls-key needs --tls-cert")
    if not options["upstream_tls"]:
        for name in ("ca", "name"):
            if options[f"upstream_{name}"]:
                raise click.UsageError(f"--upstream-{name} needs --upstream-tls")
    elif not options["upstream_name"]:
        for address in options["upstreams"]:
            if isinstance(address, UnixAddress):
                raise click.UsageError(f"--upstream-tls to {address} needs --upstream-name")


def _connections_that_fit() -> int:
    """Two descriptors each, of as many as the process may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return max((hard - _DESCRIPTORS_KEPT) // 2, 1)
