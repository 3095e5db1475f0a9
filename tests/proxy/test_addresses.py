"""Addresses as they are written on the command line."""

from __future__ import annotations

import pytest

from uringloop.proxy.addresses import TcpAddress, UnixAddress, parse_listen, parse_upstream
from uringloop.proxy.errors import AddressError, ExitStatus


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:80", TcpAddress("127.0.0.1", 80)),
        (":8080", TcpAddress("", 8080)),
        ("localhost:0", TcpAddress("localhost", 0)),
        ("[::1]:80", TcpAddress("::1", 80)),
        ("[0:0::1]:80", TcpAddress("::1", 80)),
        ("[::]:65535", TcpAddress("::", 65535)),
        ("[fe80::1%eth0]:80", TcpAddress("fe80::1%eth0", 80)),
        ("app-1.example.com:9000", TcpAddress("app-1.example.com", 9000)),
        ("/run/app.sock", UnixAddress("/run/app.sock")),
        ("./app.sock", UnixAddress("./app.sock")),
        ("unix:app.sock", UnixAddress("app.sock")),
        ("unix:/run/a:b", UnixAddress("/run/a:b")),
    ],
)
def test_an_address_is_understood(text: str, address: object) -> None:
    assert parse_listen(text) == address


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("8080", "has no port: write HOST:PORT"),
        ("", "has no port"),
        ("host", "has no port"),
        ("host:", "the port is a number"),
        ("host:http", "the port is a number"),
        ("host:65536", "from 0 to 65535"),
        ("host:-1", "the port is a number"),
        ("host:+80", "the port is a number"),
        ("host:٨٠", "the port is a number"),
        ("::1:80", "stands in brackets"),
        ("[::1]", "has no port"),
        ("[127.0.0.1]:80", "no IPv6 address in its brackets"),
        ("[]:80", "no IPv6 address in its brackets"),
        ("a host:80", "no usable host"),
        ("a..b:80", "no usable host"),
        ("x" * 64 + ":80", "no usable host"),
        ("unix:", "no usable path"),
        ("unix:a\0b", "no usable path"),
        ("/" + "x" * 107, "107 bytes at most"),
    ],
)
def test_what_is_no_address_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(AddressError, match=reason) as raised:
        parse_listen(text)
    assert raised.value.exit_status is ExitStatus.USAGE
    assert repr(text) in str(raised.value)


@pytest.mark.parametrize(("text", "reason"), [(":80", "has no host"), ("host:0", "has port 0")])
def test_nobody_can_connect_to_what_may_be_listened_on(text: str, reason: str) -> None:
    parse_listen(text)
    with pytest.raises(AddressError, match=reason):
        parse_upstream(text)


@pytest.mark.parametrize("text", ["127.0.0.1:80", "[::1]:80", ":8080", "unix:/run/app.sock"])
def test_an_address_is_shown_as_it_is_written(text: str) -> None:
    assert str(parse_listen(text)) == text


def test_the_longest_path_is_taken() -> None:
    path = "/" + "x" * 106
    assert parse_listen(path) == UnixAddress(path)
