"""The PROXY protocol's headers, read from pieces of any size, and composed."""

from __future__ import annotations

import ipaddress
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uringloop.proxy.proxy_protocol import (
    V1_BYTES_MAX,
    V2_BLOCK_BYTES_MAX,
    Header,
    HeaderError,
    HeaderReader,
    Name,
    compose,
)

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
V4 = Header(("192.168.0.1", 56324), ("192.168.0.11", 443))
V6 = Header(("2001:db8::1", 1), ("2001:db8::2", 65535))
V4_BLOCK = bytes([192, 168, 0, 1, 192, 168, 0, 11]) + struct.pack("!HH", 56324, 443)


def v2(command: int, family: int, block: bytes, size: int | None = None) -> bytes:
    size = len(block) if size is None else size
    return SIGNATURE + bytes([command, family]) + struct.pack("!H", size) + block


LONGEST_V6 = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"
HEADERS: list[Any] = [
    pytest.param(b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n", V4, id="v1 TCP4"),
    pytest.param(b"PROXY TCP6 2001:db8::1 2001:db8::2 1 65535\r\n", V6, id="v1 TCP6"),
    pytest.param(
        f"PROXY TCP6 {LONGEST_V6} {LONGEST_V6} 65535 65535\r\n".encode(),
        Header((LONGEST_V6, 65535), (LONGEST_V6, 65535)),
        id="v1 longest TCP6",
    ),
    pytest.param(b"PROXY TCP4 0.0.0.0 255.255.255.255 0 0\r\n", None, id="v1 port 0"),
    pytest.param(b"PROXY UNKNOWN\r\n", Header(), id="v1 UNKNOWN"),
    pytest.param(
        f"PROXY UNKNOWN {LONGEST_V6} {LONGEST_V6} 65535 65535\r\n".encode(),
        Header(),
        id="v1 UNKNOWN, of 107 bytes",
    ),
    pytest.param(v2(0x21, 0x11, V4_BLOCK), V4, id="v2 TCP4"),
    pytest.param(v2(0x21, 0x12, V4_BLOCK), V4, id="v2 UDP4"),
    pytest.param(
        v2(
            0x21,
            0x21,
            ipaddress.ip_address("2001:db8::1").packed
            + ipaddress.ip_address("2001:db8::2").packed
            + struct.pack("!HH", 1, 65535),
        ),
        V6,
        id="v2 TCP6",
    ),
    pytest.param(
        v2(0x21, 0x31, b"/a".ljust(108, b"\0") + b"x" * 108),
        Header("/a", "x" * 108),
        id="v2 Unix",
    ),
    pytest.param(
        v2(0x21, 0x11, V4_BLOCK + b"\x01\x00\x02h2" + b"\x04\x00\x07padding"), V4, id="v2 TLVs"
    ),
    pytest.param(v2(0x21, 0x11, V4_BLOCK.ljust(V2_BLOCK_BYTES_MAX, b"\0")), V4, id="v2 longest"),
    pytest.param(v2(0x20, 0x00, b""), Header(), id="v2 LOCAL"),
    pytest.param(v2(0x20, 0x11, V4_BLOCK), Header(), id="v2 LOCAL with addresses to ignore"),
    pytest.param(v2(0x20, 0x21, b"short"), Header(), id="v2 LOCAL with anything"),
    pytest.param(v2(0x21, 0x00, b"anything"), Header(), id="v2 UNSPEC"),
    pytest.param(v2(0x21, 0x10, V4_BLOCK), Header(), id="v2 UNSPEC protocol"),
]


@pytest.mark.parametrize(("data", "header"), HEADERS)
@pytest.mark.parametrize("rest", [b"", b"GET / HTTP/1.1\r\n\r\n", b"\r\n"])
def test_a_header_is_read_whole_and_what_follows_is_left(
    data: bytes, header: Header | None, rest: bytes
) -> None:
    reader = HeaderReader()
    found = reader.feed(data + rest)
    assert found is not None
    assert header is None or found == header
    assert reader.rest == rest


@pytest.mark.parametrize(("data", "header"), HEADERS)
def test_a_header_is_read_byte_by_byte(data: bytes, header: Header | None) -> None:
    reader = HeaderReader()
    for position in range(len(data) - 1):
        assert reader.feed(data[position : position + 1]) is None
    found = reader.feed(data[-1:])
    assert found is not None
    assert header is None or found == header
    assert reader.rest == b""


BAD_HEADERS: list[Any] = [
    pytest.param(b"GET / HTTP/1.1\r\n", "neither signature", id="HTTP"),
    pytest.param(b"\x16\x03\x01", "neither signature", id="TLS"),
    pytest.param(b"PROXY\tTCP4", "neither signature", id="a tab"),
    pytest.param(b"proxy TCP4", "neither signature", id="small letters"),
    pytest.param(b"\r\n\r\n\x00\r\nQUIT\r", "neither signature", id="last byte of the signature"),
    pytest.param(b"PROXY TCP5 1.2.3.4 1.2.3.4 1 1\r\n", "neither TCP4", id="v1 family"),
    pytest.param(b"PROXY \r\n", "neither TCP4", id="v1 nothing"),
    pytest.param(b"PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n", "not two addresses", id="v1 too few"),
    pytest.param(b"PROXY TCP4 1.2.3.4 1.2.3.4 1 1 1\r\n", "not two addresses", id="v1 too many"),
    pytest.param(b"PROXY TCP4  1.2.3.4 1.2.3.4 1 1\r\n", "not two addresses", id="v1 two spaces"),
    pytest.param(b"PROXY TCP4 1.2.3 1.2.3.4 1 1\r\n", "is no TCP4", id="v1 short address"),
    pytest.param(b"PROXY TCP4 01.2.3.4 1.2.3.4 1 1\r\n", "is no TCP4", id="v1 leading zero"),
    pytest.param(b"PROXY TCP4 ::1 ::1 1 1\r\n", "is no TCP4", id="v1 other family"),
    pytest.param(b"PROXY TCP6 1.2.3.4 ::1 1 1\r\n", "is no TCP6", id="v1 other family 6"),
    pytest.param(b"PROXY TCP6 fe80::1%e ::1 1 1\r\n", "no zone", id="v1 zone"),
    pytest.param(b"PROXY TCP6 \xff::1 ::1 1 1\r\n", "is no TCP6", id="v1 not ASCII"),
    pytest.param(b"PROXY TCP4 1.2.3.4 1.2.3.4 +80 1\r\n", "is no port", id="v1 sign"),
    pytest.param(b"PROXY TCP4 1.2.3.4 1.2.3.4 080 1\r\n", "is no port", id="v1 zero in front"),
    pytest.param(b"PROXY TCP4 1.2.3.4 1.2.3.4 65536 1\r\n", "is no port", id="v1 large port"),
    pytest.param(b"PROXY TCP4 1.2.3.4 1.2.3.4 1 1\n\r\n", "is no port", id="v1 bare LF"),
    pytest.param(b"PROXY UNKNOWN".ljust(V1_BYTES_MAX), "no end of line", id="v1 too long"),
    pytest.param(b"PROXY UNKNOWN".ljust(106) + b"\r\n", "no end of line", id="v1 108 bytes"),
    pytest.param(v2(0x11, 0x11, V4_BLOCK), "its number is 1", id="v2 of version 1"),
    pytest.param(v2(0x31, 0x11, V4_BLOCK), "its number is 3", id="v2 of version 3"),
    pytest.param(v2(0x22, 0x11, V4_BLOCK), "unknown command 2", id="v2 command"),
    pytest.param(v2(0x21, 0x41, V4_BLOCK), "unknown family", id="v2 family"),
    pytest.param(v2(0x21, 0x13, V4_BLOCK), "unknown family or protocol", id="v2 protocol"),
    pytest.param(v2(0x21, 0x11, V4_BLOCK[:-1]), "11 bytes of addresses, 12", id="v2 short TCP4"),
    pytest.param(v2(0x21, 0x21, V4_BLOCK), "12 bytes of addresses, 36", id="v2 short TCP6"),
    pytest.param(v2(0x21, 0x31, b"x" * 215), "215 bytes of addresses, 216", id="v2 short Unix"),
    pytest.param(
        v2(0x21, 0x11, b"", V2_BLOCK_BYTES_MAX + 1), "more than 4096", id="v2 too long, at once"
    ),
]


@pytest.mark.parametrize(("data", "reason"), BAD_HEADERS)
def test_what_is_no_header_is_refused_with_the_reason(data: bytes, reason: str) -> None:
    with pytest.raises(HeaderError, match=reason):
        HeaderReader().feed(data)


@pytest.mark.parametrize(("data", "reason"), BAD_HEADERS)
def test_what_is_no_header_is_refused_byte_by_byte(data: bytes, reason: str) -> None:
    """And not after more bytes than a header has: the sender decides how many those are."""
    reader = HeaderReader()
    with pytest.raises(HeaderError, match=reason):
        for position in range(len(data)):
            assert reader.feed(data[position : position + 1]) is None


@given(st.binary(max_size=300))
def test_no_bytes_at_all_lead_to_another_error(data: bytes) -> None:
    for start in (b"", b"PROXY ", b"PROXY TCP4 ", SIGNATURE, SIGNATURE + b"\x21\x11"):
        try:
            HeaderReader().feed(start + data)
        except HeaderError as error:
            assert str(error)


def names(kind: Any) -> st.SearchStrategy[tuple[str, int]]:
    return st.tuples(kind.map(str), st.integers(0, 65535))


internet = st.one_of(
    st.tuples(names(st.ip_addresses(v=4)), names(st.ip_addresses(v=4))),
    st.tuples(names(st.ip_addresses(v=6)), names(st.ip_addresses(v=6))),
)
paths = st.text(st.characters(codec="ascii", exclude_characters="\0"), max_size=107)


@given(internet, st.sampled_from([1, 2]), st.binary(max_size=20), st.data())
def test_what_is_composed_is_read_again_in_any_pieces(
    ends: tuple[Name, Name], version: int, rest: bytes, data: st.DataObject
) -> None:
    sent = compose(version, *ends) + rest
    assert version == 2 or len(sent) - len(rest) <= V1_BYTES_MAX
    reader = HeaderReader()
    header = None
    position = 0
    while header is None:
        size = data.draw(st.integers(1, len(sent) - position))
        header = reader.feed(sent[position : position + size])
        position += size
    assert _plain(header.source, header.destination) == _plain(*ends)
    assert reader.rest + sent[position:] == rest


def _plain(*ends: Name) -> list[Any]:
    """Two IPv4 addresses in IPv6 clothes are sent as what they are."""
    found = [(ipaddress.ip_address(host), port) for host, port in ends]  # type: ignore[misc]
    mapped = [getattr(ip, "ipv4_mapped", None) for ip, _ in found]
    if all(mapped):
        return [(ip, port) for ip, (_, port) in zip(mapped, found, strict=True)]
    return found


@given(paths, paths)
def test_paths_are_told_by_version_2(source: str, destination: str) -> None:
    assert HeaderReader().feed(compose(2, source, destination)) == Header(source, destination)
    assert compose(1, source, destination) == b"PROXY UNKNOWN\r\n"


@pytest.mark.parametrize(
    "ends",
    [(None, None), (("1.2.3.4", 1), None), (("1.2.3.4", 1), ("::1", 1)), ("/a", ("1.2.3.4", 1))],
)
def test_ends_without_words_are_unknown(ends: tuple[Name, Name]) -> None:
    assert compose(1, *ends) == b"PROXY UNKNOWN\r\n"
    assert compose(2, *ends) == SIGNATURE + b"\x21\x00\x00\x00"


def test_ipv4_in_ipv6_clothes_and_zones_are_taken_off() -> None:
    ends = (("::ffff:192.0.2.1", 1), ("::ffff:192.0.2.2", 2))
    assert compose(1, *ends) == b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n"
    half = (("::ffff:192.0.2.1", 1), ("192.0.2.2", 2))
    assert compose(1, *half) == b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n"
    other_half = (("::ffff:192.0.2.1", 1), ("::1", 2))
    assert compose(1, *other_half) == b"PROXY TCP6 ::ffff:c000:201 ::1 1 2\r\n"
    zoned = (("fe80::1%eth0", 1), ("fe80::2%eth0", 2))
    assert compose(1, *zoned) == b"PROXY TCP6 fe80::1 fe80::2 1 2\r\n"
