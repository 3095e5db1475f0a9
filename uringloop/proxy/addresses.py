"""Addresses as they are written on the command line: HOST:PORT, [IPv6]:PORT, :PORT, a path.

Pure: nothing is resolved here. What contains a slash, or begins with "unix:", is the path of
a Unix socket; an IPv6 address stands in brackets, as in a URL.
"""

from __future__ import annotations

import ipaddress
import os
import re
from dataclasses import dataclass

from uringloop.proxy.errors import AddressError

# sun_path has 108 bytes, the last one of which is the end of the string.
UNIX_PATH_BYTES_MAX = 107

_UNIX_PREFIX = "unix:"
_NAME = re.compile(r"[^\s\[\]:/]+")
_PORT = re.compile(r"[0-9]{1,5}")


@dataclass(frozen=True)
class TcpAddress:
    """A host's name or number, "" for all interfaces, and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True)
class UnixAddress:
    """The path of a Unix socket."""

    path: str

    def __str__(self) -> str:
        return f"{_UNIX_PREFIX}{self.path}"


Address = TcpAddress | UnixAddress


def parse_listen(text: str) -> Address:
    """Where to listen. Port 0 lets the kernel choose.

    raises    AddressError
    """
    return _parse(text)


def parse_upstream(text: str) -> Address:
    """Where to connect to: a host and a port are needed.

    raises    AddressError
    """
    address = _parse(text)
    if isinstance(address, TcpAddress):
        if not address.host:
            raise AddressError(f"upstream {text!r} has no host: write for example 127.0.0.1{text}")
        if address.port == 0:
            raise AddressError(f"upstream {text!r} has port 0, which nobody can connect to")
    return address


def _parse(text: str) -> Address:
    if text.startswith(_UNIX_PREFIX):
        return _unix(text, text[len(_UNIX_PREFIX) :])
    if "/" in text:
        return _unix(text, text)
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        raise AddressError(f"address {text!r} has no port: write HOST:PORT, :PORT or unix:PATH")
    return TcpAddress(_host(text, host), _port(text, port))


def _unix(text: str, path: str) -> UnixAddress:
    if not path or "\0" in path:
        raise AddressError(f"address {text!r} has no usable path: write unix:PATH")
    if len(os.fsencode(path)) > UNIX_PATH_BYTES_MAX:
        raise AddressError(
            f"address {text!r}: the path of a Unix socket has {UNIX_PATH_BYTES_MAX} bytes at most"
        )
    return UnixAddress(path)


def _host(text: str, host: str) -> str:
    if host.startswith("[") and host.endswith("]"):
        try:
            return str(ipaddress.IPv6Address(host[1:-1]))
        except ValueError:
            raise AddressError(f"address {text!r} has no IPv6 address in its brackets") from None
    if ":" in host:
        raise AddressError(f"address {text!r}: an IPv6 address stands in brackets, as in [::1]:80")
    if host and not (_NAME.fullmatch(host) and _can_be_looked_up(host)):
        raise AddressError(f"address {text!r} has no usable host: write HOST:PORT")
    return host


def _can_be_looked_up(host: str) -> bool:
    try:
        host.encode("idna")  # as getaddrinfo does, which would fail with another error
    except UnicodeError:
        return False
    return True


def _port(text: str, port: str) -> int:
    if not _PORT.fullmatch(port) or int(port) > 65535:
        raise AddressError(f"address {text!r}: the port is a number from 0 to 65535")
    return int(port)
