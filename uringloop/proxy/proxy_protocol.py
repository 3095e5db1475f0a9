"""The PROXY protocol, versions 1 and 2: who the client really is, said before its first byte.

A header is read from bytes as they come (HeaderReader) and composed (compose). Pure: bytes
in, bytes out. The specification is HAProxy's proxy-protocol.txt.

Why not the library on PyPI: `proxy-protocol` 0.11 wants the header to end where its buffer
ends, so that it must be read byte by byte or line by line from a stream; it does not hold a
line of version 1 to its 107 bytes, takes ports like "+80", and answers an address block
that is too short with struct.error. All of it comes from the network's other end.
"""

from __future__ import annotations

import ipaddress
import os
import re
import struct
from dataclasses import dataclass

# As sockets name themselves: (host, port), the path of a Unix socket, None for nothing.
Name = tuple[str, int] | str | None

VERSIONS = {"v1": 1, "v2": 2}

V1_BYTES_MAX = 107  # with CRLF, as the specification reckons
# The specification allows 65535. A header that carries a client's certificate has some
# thousand bytes; who sends more wants memory, not to be known.
V2_BLOCK_BYTES_MAX = 4096

_V1_SIGNATURE = b"PROXY "
_V2_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_V2_HEAD = struct.Struct("!12sBBH")
_V2_VERSION = 0x20
_LOCAL, _PROXY = 0, 1
_UNSPEC, _INET, _INET6, _UNIX = range(4)
_STREAM, _DATAGRAM = 1, 2
_ADDRESSES = {
    _INET: struct.Struct("!4s4sHH"),
    _INET6: struct.Struct("!16s16sHH"),
    _UNIX: struct.Struct("!108s108s"),
}
_PORT = re.compile(rb"0|[1-9][0-9]{0,4}")  # "no leading zeros"


class HeaderError(Exception):
    """What came is no PROXY header; the text says why."""


@dataclass(frozen=True)
class Header:
    """The two ends of the connection as its first proxy saw them.

    Both None: the sender speaks for itself (LOCAL: its own health checks) or does not know;
    then the names of the connection that the header came on are the right ones.
    """

    source: Name = None
    destination: Name = None


class HeaderReader:
    """Reads one header, of either version, from pieces of any size."""

    def __init__(self) -> None:
        self._received = bytearray()
        self.rest = b""  # what came behind the header

    def feed(self, data: bytes) -> Header | None:
        """The header once it is whole, None as long as more is needed.

        raises    HeaderError as soon as it can no longer become a header
        """
        self._received += data
        if _begins_like(self._received, _V2_SIGNATURE):
            return self._read_v2()
        if _begins_like(self._received, _V1_SIGNATURE):
            return self._read_v1()
        raise HeaderError("neither signature of the PROXY protocol")

    def _read_v1(self) -> Header | None:
        end = self._received.find(b"\r\n", 0, V1_BYTES_MAX)
        if end < 0:
            if len(self._received) >= V1_BYTES_MAX:
                raise HeaderError(f"version 1: no end of line within {V1_BYTES_MAX} bytes")
            return None
        header = _parse_v1(bytes(self._received[:end]))
        self.rest = bytes(self._received[end + 2 :])
        return header

    def _read_v2(self) -> Header | None:
        if len(self._received) < _V2_HEAD.size:
            return None
        _, command, family, size = _V2_HEAD.unpack_from(self._received)
        _check_v2(command, family, size)
        end = _V2_HEAD.size + size
        if len(self._received) < end:
            return None
        header = _parse_v2(command & 0xF, family, bytes(self._received[_V2_HEAD.size : end]))
        self.rest = bytes(self._received[end:])
        return header


def _begins_like(received: bytearray, signature: bytes) -> bool:
    return received[: len(signature)] == signature[: len(received)]


def _parse_v1(line: bytes) -> Header:
    words = line.split(b" ")
    if words[1] == b"UNKNOWN":
        return Header()  # "must ignore anything presented before the CRLF"
    if words[1] not in (b"TCP4", b"TCP6"):
        raise HeaderError("version 1: neither TCP4 nor TCP6 nor UNKNOWN")
    if len(words) != 6:
        raise HeaderError("version 1: not two addresses and two ports")
    hosts = [_v1_host(words[1], word) for word in words[2:4]]
    ports = [_v1_port(word) for word in words[4:6]]
    return Header((hosts[0], ports[0]), (hosts[1], ports[1]))


def _v1_host(family: bytes, word: bytes) -> str:
    kind = ipaddress.IPv4Address if family == b"TCP4" else ipaddress.IPv6Address
    try:
        text = word.decode("ascii")
        address = kind(text)
    except ValueError:
        raise HeaderError(f"version 1: {word!r} is no {family.decode()} address") from None
    if "%" in text:
        raise HeaderError("version 1: an address has no zone")
    return str(address)


def _v1_port(word: bytes) -> int:
    if not _PORT.fullmatch(word) or int(word) > 65535:
        raise HeaderError(f"version 1: {word!r} is no port")
    return int(word)


def _check_v2(command: int, family: int, size: int) -> None:
    if command & 0xF0 != _V2_VERSION:
        raise HeaderError(f"version 2: its number is {command >> 4}")
    if command & 0xF > _PROXY:
        raise HeaderError(f"version 2: unknown command {command & 0xF}")
    if family >> 4 > _UNIX or family & 0xF > _DATAGRAM:
        raise HeaderError(f"version 2: unknown family or protocol {family:#04x}")
    if size > V2_BLOCK_BYTES_MAX:
        raise HeaderError(f"version 2: {size} bytes, more than {V2_BLOCK_BYTES_MAX}")


def _parse_v2(command: int, family: int, block: bytes) -> Header:
    """What follows the addresses in the block (TLVs) is passed over."""
    layout = _ADDRESSES.get(family >> 4)
    if command == _LOCAL or layout is None or family & 0xF == _UNSPEC:
        return Header()
    if len(block) < layout.size:
        raise HeaderError(f"version 2: {len(block)} bytes of addresses, {layout.size} needed")
    if family >> 4 == _UNIX:
        source, destination = layout.unpack_from(block)
        return Header(_path_of(source), _path_of(destination))
    source, destination, source_port, destination_port = layout.unpack_from(block)
    return Header(
        (str(ipaddress.ip_address(source)), source_port),
        (str(ipaddress.ip_address(destination)), destination_port),
    )


def _path_of(field: bytes) -> str:
    return os.fsdecode(field.partition(b"\0")[0])


def compose(version: int, source: Name, destination: Name) -> bytes:
    """The header of a connection; of names that it has no words for it says so.

    version   1 or 2
    """
    return _compose_v1(source, destination) if version == 1 else _compose_v2(source, destination)


def _compose_v1(source: Name, destination: Name) -> bytes:
    ends = _internet_ends(source, destination)
    if ends is None:
        return b"PROXY UNKNOWN\r\n"
    (source_ip, source_port), (destination_ip, destination_port) = ends
    family = f"TCP{source_ip.version}"
    hosts = f"{_v1_text(source_ip)} {_v1_text(destination_ip)}"
    return f"PROXY {family} {hosts} {source_port} {destination_port}\r\n".encode()


def _v1_text(ip: _Ip) -> str:
    """In hexadecimal all through; Python 3.13 shows a mapped address with dots."""
    mapped = _mapped(ip)
    if mapped is None:
        return str(ip)
    high, low = divmod(int(mapped), 1 << 16)
    return f"::ffff:{high:x}:{low:x}"


def _compose_v2(source: Name, destination: Name) -> bytes:
    ends = _internet_ends(source, destination)
    if ends is not None:
        (source_ip, source_port), (destination_ip, destination_port) = ends
        family = _INET if source_ip.version == 4 else _INET6
        block = _ADDRESSES[family].pack(
            source_ip.packed, destination_ip.packed, source_port, destination_port
        )
    elif isinstance(source, str) and isinstance(destination, str):
        family = _UNIX
        block = _ADDRESSES[family].pack(os.fsencode(source), os.fsencode(destination))
    else:
        return _V2_HEAD.pack(_V2_SIGNATURE, _V2_VERSION | _PROXY, _UNSPEC, 0)
    kind = family << 4 | _STREAM
    return _V2_HEAD.pack(_V2_SIGNATURE, _V2_VERSION | _PROXY, kind, len(block)) + block


_Ip = ipaddress.IPv4Address | ipaddress.IPv6Address


def _internet_ends(
    source: Name, destination: Name
) -> tuple[tuple[_Ip, int], tuple[_Ip, int]] | None:
    """Both ends as numbers of one family; None where they are not."""
    if not isinstance(source, tuple) or not isinstance(destination, tuple):
        return None
    ips = [_ip_of(source[0]), _ip_of(destination[0])]
    if ips[0].version != ips[1].version or all(map(_mapped, ips)):
        ips = [_mapped(ip) or ip for ip in ips]
    if ips[0].version != ips[1].version:
        return None
    return (ips[0], source[1]), (ips[1], destination[1])


def _ip_of(host: str) -> _Ip:
    """Without a zone, which means nothing to another machine."""
    return ipaddress.ip_address(host.partition("%")[0])


def _mapped(ip: _Ip) -> ipaddress.IPv4Address | None:
    """The IPv4 address that a socket for both families shows as ::ffff:192.0.2.1."""
    return ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
