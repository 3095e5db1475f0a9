"""sendto() and flow control of datagram endpoints."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import sys
import threading
from asyncio import AbstractEventLoop
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from datagrams import (
    FAMILIES,
    Datagrams,
    endpoint,
    fill,
    name_of,
    numbered,
    open_peer,
    recv_numbered,
    recv_waiting,
)
from peers import in_thread, turns

each_family = pytest.mark.parametrize("family", FAMILIES)
EMPTY_IS_SENT = sys.version_info >= (3, 13)


# -- sendto() -------------------------------------------------------------------------------


@each_family
async def test_a_datagram_goes_to_the_address_that_is_named(
    family: str, tmp_path: Path, loop: AbstractEventLoop
) -> None:
    with open_peer(family, tmp_path, "a") as one, open_peer(family, tmp_path, "b") as two:
        async with endpoint(family, tmp_path) as protocol:
            for peer in (one, two, one):
                payload = os.urandom(100)
                protocol.transport.sendto(payload, peer.getsockname())
                assert await in_thread(peer.recvfrom, 1000) == (payload, name_of(protocol))


@each_family
async def test_a_connected_endpoint_needs_no_address(
    family: str, tmp_path: Path, loop: AbstractEventLoop
) -> None:
    with open_peer(family, tmp_path) as peer:
        async with endpoint(family, tmp_path, peer) as protocol:
            protocol.transport.sendto(b"1")
            protocol.transport.sendto(b"2", None)
            protocol.transport.sendto(b"3", peer.getsockname())
            for payload in (b"1", b"2", b"3"):
                assert await in_thread(peer.recv, 10) == payload


@pytest.mark.parametrize("make", [bytes, bytearray, memoryview])
async def test_what_is_changed_after_sendto_was_sent_before(
    make: Callable[[bytes], Any], tmp_path: Path, loop: AbstractEventLoop
) -> None:
    """Row 13, also where it has to wait."""
    with open_peer("unix", tmp_path) as peer:
        async with endpoint("unix", tmp_path, peer) as protocol:
            storage = bytearray(b"before")
            protocol.transport.sendto(make(storage))
            storage[:] = b"behind"
            assert await in_thread(peer.recv, 10) == b"before"
            count = fill(protocol)
            storage[:] = b"before"
            protocol.transport.sendto(make(storage))
            storage[:] = b"behind"
            await in_thread(recv_numbered, peer, count)
            assert await in_thread(peer.recv, 10) == b"before"


@each_family
async def test_an_empty_datagram_is_sent_where_asyncio_sends_it(
    family: str, tmp_path: Path, loop: AbstractEventLoop
) -> None:
    with open_peer(family, tmp_path) as peer:
        async with endpoint(family, tmp_path) as protocol:
            for payload in (b"", b"x", bytearray(), b"y"):
                protocol.transport.sendto(payload, peer.getsockname())
            found = [await in_thread(peer.recv, 10) for _ in range(4 if EMPTY_IS_SENT else 2)]
            assert found == ([b"", b"x", b"", b"y"] if EMPTY_IS_SENT else [b"x", b"y"])


@pytest.mark.parametrize("data", ["text", None, 5, [b"x"]], ids=repr)
async def test_data_that_is_not_bytes_is_refused(
    data: Any, tmp_path: Path, loop: AbstractEventLoop
) -> None:
    async with endpoint("udp", tmp_path) as protocol:
        words = f"data argument must be a bytes-like object, not '{type(data).__name__}'"
        with pytest.raises(TypeError, match=words):
            protocol.transport.sendto(data, ("127.0.0.1", 1))
        assert not protocol.transport.is_closing()


@each_family
async def test_another_address_than_the_connected_one_is_refused(
    family: str, tmp_path: Path, loop: AbstractEventLoop
) -> None:
    with open_peer(family, tmp_path) as peer:
        async with endpoint(family, tmp_path, peer) as protocol:
            with pytest.raises(ValueError, match="Invalid address: must be None or"):
                protocol.transport.sendto(b"x", ("127.0.0.2", 5))
            protocol.transport.sendto(b"y")
            assert await in_thread(peer.recv, 10) == b"y"


@pytest.mark.parametrize(("family", "size"), [("udp", 65508), ("udp6", 65528), ("unix", 1 << 20)])
async def test_a_datagram_that_is_too_large_is_told_and_others_go_on(
    family: str, size: int, tmp_path: Path, loop: AbstractEventLoop
) -> None:
    """Row 33."""
    with open_peer(family, tmp_path) as peer:
        async with endpoint(family, tmp_path) as protocol:
            protocol.transport.sendto(bytes(size), peer.getsockname())
            protocol.transport.sendto(b"small", peer.getsockname())
            assert await in_thread(peer.recv, 10) == b"small"
            assert [error.errno for error in protocol.errors] == [errno.EMSGSIZE]
            assert not protocol.transport.is_closing()


@pytest.mark.parametrize(
    ("family", "address", "error"),
    [
        ("udp", None, TypeError),
        ("udp", "127.0.0.1", TypeError),
        ("udp", ("127.0.0.1", "80"), TypeError),
        ("udp", ("127.0.0.1", 80.0), TypeError),
        ("udp", ("127.0.0.1", 70000), OverflowError),
        ("udp", ("127.0.0.1", 80, 0, 0), TypeError),
        ("udp6", ("::1", 80, -1, 0), OverflowError),
        ("unix", None, TypeError),
        ("unix", ("127.0.0.1", 80), TypeError),
    ],
    ids=repr,
)
async def test_an_address_that_is_none_ends_the_endpoint(
    family: str,
    address: Any,
    error: type[Exception],
    tmp_path: Path,
    loop: AbstractEventLoop,
    reported: list[dict[str, Any]],
) -> None:
    """As in asyncio: whatever is not an OSError is fatal."""
    async with endpoint(family, tmp_path) as protocol:
        protocol.transport.sendto(b"x", address)
        assert type(await protocol.lost) is error
        assert protocol.errors == []
        (report,) = reported
        reported.clear()
        assert report["message"] == "Fatal write error on datagram transport"
        assert type(report["exception"]) is error
        assert report["transport"] is protocol.transport
        assert report["protocol"] is protocol


@pytest.mark.parametrize(
    ("address", "number"), [("missing", errno.ENOENT), ("x" * 200, None)], ids=["missing", "long"]
)
async def test_an_address_where_nobody_is_is_told(
    address: str, number: int | None, tmp_path: Path, loop: AbstractEventLoop
) -> None:
    async with endpoint("unix", tmp_path) as protocol:
        protocol.transport.sendto(b"x", str(tmp_path / address))
        assert [error.errno for error in protocol.errors] == [number]
        assert not protocol.transport.is_closing()


async def test_a_host_name_is_looked_up_by_the_socket(
    tmp_path: Path, loop: AbstractEventLoop
) -> None:
    """As in asyncio, which hands the address to socket.sendto()."""
    with open_peer("udp", tmp_path) as peer:
        async with endpoint("udp", tmp_path) as protocol:
            protocol.transport.sendto(b"x", ("localhost", peer.getsockname()[1]))
            assert await in_thread(peer.recv, 10) == b"x"


async def test_what_error_received_raises_comes_out_of_sendto(
    tmp_path: Path, loop: AbstractEventLoop
) -> None:
    class Failing(Datagrams):
        def error_received(self, exc: Exception) -> None:
            raise ZeroDivisionError

    async with endpoint("udp", tmp_path, factory=Failing) as protocol:
        with pytest.raises(ZeroDivisionError):
            protocol.transport.sendto(bytes(70000), ("127.0.0.1", 9))
        assert not protocol.transport.is_closing()


@each_family
async def test_a_datagram_has_left_when_the_program_blocks(
    family: str, tmp_path: Path, loop: AbstractEventLoop
) -> None:
    with open_peer(family, tmp_path) as peer:
        async with endpoint(family, tmp_path, peer) as protocol:
            for number in range(5):
                protocol.transport.sendto(numbered(number))
            recv_numbered(peer, 5)  # blocks this thread, and so the loop


@each_family
@pytest.mark.parametrize("end", ["close", "abort"])
async def test_what_was_sent_before_the_end_arrives(
    end: str, family: str, tmp_path: Path, loop: AbstractEventLoop
) -> None:
    with open_peer(family, tmp_path) as peer:
        async with endpoint(family, tmp_path, peer) as protocol:
            for number in range(5):
                protocol.transport.sendto(numbered(number))
            getattr(protocol.transport, end)()
            assert await protocol.lost is None
            recv_numbered(peer, 5)


# -- a full socket --------------------------------------------------------------------------


async def test_the_protocol_is_paused_above_high_and_resumed_at_low(
    tmp_path: Path, loop: AbstractEventLoop
) -> None:
    sizes: list[tuple[str, int]] = []

    class Sizes(Datagrams):
        def _note(self, call: str) -> None:
            super()._note(call)
            if call in ("pause", "resume"):
                sizes.append((call, self.transport.get_write_buffer_size()))

    with open_peer("unix", tmp_path) as peer:
        async with endpoint("unix", tmp_path, peer, Sizes) as protocol:
            header = 8 if EMPTY_IS_SENT else 0
            protocol.transport.set_write_buffer_limits(high=10 * (1000 + header), low=2000)
            count = fill(protocol)
            assert protocol.transport.get_write_buffer_size() == 1000 + header
            for number in range(count, count + 9):
                protocol.transport.sendto(numbered(number))
            assert protocol.calls == ["made"]
            protocol.transport.sendto(numbered(count + 9))
            protocol.transport.sendto(numbered(count + 10))
            assert protocol.calls == ["made", "pause"]
            assert sizes == [("pause", 11 * (1000 + header))]
            await in_thread(recv_numbered, peer, count + 11)
            if loop.__class__.__module__.startswith("asyncio") and EMPTY_IS_SENT:
                return  # the difference "datagram_header_bytes"
            await protocol.until_called("resume")
            assert [call for call, _ in sizes] == ["pause", "resume"]
            assert sizes[1][1] <= 2000
            await turns(3)
            assert protocol.transport.get_write_buffer_size() == 0


@pytest.mark.difference("datagram_header_bytes")
async def test_a_protocol_is_resumed_again_and_again(
    tmp_path: Path, loop: AbstractEventLoop
) -> None:
    with open_peer("unix", tmp_path) as peer:
        async with endpoint("unix", tmp_path, peer) as protocol:
            protocol.transport.set_write_buffer_limits(high=0)
            for round_number in range(1, 6):
                count = fill(protocol)
                assert protocol.calls.count("pause") == round_number
                await in_thread(recv_numbered, peer, count)
                await protocol.until_called("resume", round_number)
                assert protocol.transport.get_write_buffer_size() == 0


@pytest.mark.difference("datagram_header_bytes")
async def test_ten_thousand_datagrams_reach_a_slow_receiver_in_order(
    tmp_path: Path, loop: AbstractEventLoop
) -> None:
    """The sender heeds flow control; the receiver rests again and again."""
    count = 10_000

    def receive(peer: socket.socket) -> None:
        rest = threading.Event()
        for number in range(count):
            assert peer.recv(2000) == numbered(number, 100), number
            if number % 1000 == 999:
                rest.wait(0.005)

    with open_peer("unix", tmp_path) as peer:
        async with endpoint("unix", tmp_path, peer) as protocol:
            protocol.transport.set_write_buffer_limits(high=4000, low=1000)
            receiving = in_thread(receive, peer)
            for number in range(count):
                protocol.transport.sendto(numbered(number, 100))
                await protocol.until(
                    lambda: protocol.calls.count("pause") == protocol.calls.count("resume")
                )
            await receiving
            assert protocol.calls.count("pause") > 1
            assert protocol.errors == []


async def test_a_full_receiver_of_an_unconnected_socket_is_waited_for(
    tmp_path: Path, loop: AbstractEventLoop
) -> None:
    """poll(2) says that such a socket is writable, whoever is full."""
    with open_peer("unix", tmp_path) as peer:
        async with endpoint("unix", tmp_path) as protocol:
            count = fill(protocol, address=peer.getsockname())
            for number in range(count, count + 20):
                protocol.transport.sendto(numbered(number), peer.getsockname())
            await turns(20)
            await in_thread(recv_numbered, peer, count + 20)


@pytest.mark.difference("full_unix_receiver")
async def test_waiting_for_a_full_receiver_needs_few_turns(tmp_path: Path, loop: Any) -> None:
    with open_peer("unix", tmp_path) as peer:
        async with endpoint("unix", tmp_path) as protocol:
            fill(protocol, address=peer.getsockname())
            before = loop.driver_state().counters["turns"]
            await asyncio.sleep(0.2)
            assert loop.driver_state().counters["turns"] - before < 40


async def test_an_error_of_a_waiting_datagram_is_told_and_the_rest_goes_on(
    tmp_path: Path, loop: AbstractEventLoop
) -> None:
    with open_peer("unix", tmp_path) as peer:
        async with endpoint("unix", tmp_path, peer) as protocol:
            count = fill(protocol)
            protocol.transport.sendto(bytes(1 << 20))
            for number in range(count, count + 3):
                protocol.transport.sendto(numbered(number))
            assert protocol.errors == []
            await in_thread(recv_numbered, peer, count + 3)
            await protocol.until_called("error")
            assert [error.errno for error in protocol.errors] == [errno.EMSGSIZE]


async def test_what_error_received_raises_for_a_waiting_datagram_is_reported(
    tmp_path: Path, loop: AbstractEventLoop, reported: list[dict[str, Any]]
) -> None:
    class Failing(Datagrams):
        def error_received(self, exc: Exception) -> None:
            super().error_received(exc)
            raise ZeroDivisionError

    with open_peer("unix", tmp_path) as peer:
        async with endpoint("unix", tmp_path, peer, Failing) as protocol:
            count = fill(protocol)
            protocol.transport.sendto(bytes(1 << 20))
            protocol.transport.sendto(numbered(count))
            await in_thread(recv_numbered, peer, count + 1)
            await protocol.until_called("error")
    assert [type(context["exception"]) for context in reported] == [ZeroDivisionError]
    reported.clear()


async def test_an_address_that_is_none_ends_the_endpoint_when_its_turn_comes(
    tmp_path: Path, loop: AbstractEventLoop, reported: list[dict[str, Any]]
) -> None:
    with open_peer("unix", tmp_path) as peer:
        async with endpoint("unix", tmp_path) as protocol:
            count = fill(protocol, address=peer.getsockname())
            protocol.transport.sendto(b"x", 5)
            protocol.transport.sendto(b"y", peer.getsockname())
            assert not protocol.transport.is_closing()
            await in_thread(recv_numbered, peer, count)
            assert type(await protocol.lost) is TypeError
            assert recv_waiting(peer) == []
    assert [type(context["exception"]) for context in reported] == [TypeError]
    reported.clear()


async def test_sendto_from_resume_writing_and_error_received_keeps_the_order(
    tmp_path: Path, loop: AbstractEventLoop
) -> None:
    class Continues(Datagrams):
        count = 0

        def resume_writing(self) -> None:
            super().resume_writing()
            for _ in range(3):
                self.transport.sendto(numbered(self.count))
                self.count += 1

        def error_received(self, exc: Exception) -> None:
            super().error_received(exc)
            self.transport.sendto(numbered(self.count))
            self.count += 1

    with open_peer("unix", tmp_path) as peer:
        async with endpoint("unix", tmp_path, peer, Continues) as protocol:
            protocol.transport.set_write_buffer_limits(high=100_000, low=90_000)
            protocol.count = fill(protocol)
            while protocol.calls.count("pause") == 0:
                protocol.transport.sendto(numbered(protocol.count))
                protocol.count += 1
            protocol.transport.sendto(bytes(1 << 20))
            protocol.transport.set_write_buffer_limits(high=2_000_000, low=1_000_000)
            expected = protocol.count + 4
            await in_thread(recv_numbered, peer, expected)
            assert protocol.count == expected
            assert sorted(protocol.calls) == ["error", "made", "pause", "resume"]


async def test_a_failing_pause_writing_is_reported(
    tmp_path: Path, loop: AbstractEventLoop, reported: list[dict[str, Any]]
) -> None:
    class Failing(Datagrams):
        def pause_writing(self) -> None:
            raise ZeroDivisionError

    with open_peer("unix", tmp_path) as peer:
        async with endpoint("unix", tmp_path, peer, Failing) as protocol:
            protocol.transport.set_write_buffer_limits(high=0)
            fill(protocol)
            assert not protocol.transport.is_closing()
    assert [context["message"] for context in reported] == ["protocol.pause_writing() failed"]
    reported.clear()


async def test_limits_are_asyncios(tmp_path: Path, loop: AbstractEventLoop) -> None:
    """Row 38."""
    async with endpoint("udp", tmp_path) as protocol:
        transport = protocol.transport
        assert transport.get_write_buffer_limits() == (16 * 1024, 64 * 1024)
        transport.set_write_buffer_limits(high=1000)
        assert transport.get_write_buffer_limits() == (250, 1000)
        with pytest.raises(ValueError, match=r"high .* must be >= low .* must be >= 0"):
            transport.set_write_buffer_limits(high=10, low=11)


async def test_lower_limits_pause_at_once(tmp_path: Path, loop: AbstractEventLoop) -> None:
    with open_peer("unix", tmp_path) as peer:
        async with endpoint("unix", tmp_path, peer) as protocol:
            fill(protocol)
            assert protocol.calls == ["made"]
            protocol.transport.set_write_buffer_limits(high=500)
            assert protocol.calls == ["made", "pause"]
