"""Checks: stream transports, plain and over TLS.

One program per method for both: what is below the protocol makes no difference to it.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import Any

from tests.api.ends import Notes, refusal_of, tls_wire
from tests.api.registry import Check, Subject
from tests.peers import Wire, in_thread, numbered_bytes, recv_exactly, recv_until_eof, turns, wire

Loop = asyncio.AbstractEventLoop
Program = Callable[[Wire], Any]

STREAMS = Subject("Stream transports")
TLS_STREAMS = Subject("Stream transports over TLS")

# More than socket buffers take, so that a writer has to wait.
BULK_BYTES = 16 * 1024 * 1024
PIECE = numbered_bytes(64 * 1024)
LARGE_BYTES = 1024 * 1024


def on_both(method: str, *parameters: str) -> Callable[[Program], Program]:
    """Declares one check of a plain transport and one of a transport over TLS."""

    def declare(program: Program) -> Program:
        _add(STREAMS, "Transport", method, parameters, program, wire)
        _add(TLS_STREAMS, "TLS transport", method, parameters, program, tls_wire)
        return program

    return declare


def _add(
    subject: Subject,
    owner: str,
    method: str,
    parameters: tuple[str, ...],
    program: Program,
    connect: Callable[[], Any],
) -> None:
    async def function(loop: Loop) -> Any:
        async with connect() as link:
            return await program(link)

    functools.update_wrapper(function, program, assigned=("__name__", "__module__"))
    del function.__wrapped__  # type: ignore[attr-defined] - it takes a loop, not a link
    subject.add(Check(f"{owner}.{method}", parameters, function, program.__name__))


@on_both("get_extra_info", "name", "default")
async def extra_info_has_the_socket_and_defaults(link: Wire) -> Any:
    info = link.transport.get_extra_info
    sock = info("socket")
    facts = [info("sockname") == sock.getsockname(), info("peername") == sock.getpeername()]
    facts += [type(sock).__name__, info("nothing"), info("nothing", "default")]
    cipher = info("cipher")
    return facts, cipher if cipher is None else len(cipher)


@on_both("is_closing")
@on_both("close")
async def close_sends_what_was_written_first(link: Wire) -> Any:
    before = link.transport.is_closing()
    link.transport.write(b"last words")
    link.transport.close()
    link.transport.close()
    closing = link.transport.is_closing()
    received = await in_thread(recv_until_eof, link.peer)
    link.peer.close()
    return before, closing, received, await link.protocol.lost, link.protocol.calls


@on_both("close")
async def nothing_arrives_after_close(link: Wire) -> Any:
    link.transport.close()
    await in_thread(_send_if_possible, link.peer)
    link.peer.close()
    await link.protocol.lost
    return bytes(link.protocol.data), link.protocol.calls


def _send_if_possible(peer: Any) -> None:
    try:
        peer.sendall(b"too late")
    except OSError:
        return  # that the transport has gone already is as good


@on_both("get_protocol")
@on_both("set_protocol", "protocol")
async def another_protocol_takes_over(link: Wire) -> Any:
    first, second = link.protocol, Notes()
    was = link.transport.get_protocol() is first
    link.transport.set_protocol(second)
    await in_thread(link.peer.sendall, b"hello")
    received = await second.received(5)
    facts = was, link.transport.get_protocol() is second, received, bytes(first.data)
    link.transport.abort()
    await second.lost
    first._note("lost")  # for the end of the wire, which looks at the protocol it made
    return facts, second.calls, first.calls


@on_both("is_reading")
@on_both("pause_reading")
@on_both("resume_reading")
async def a_paused_transport_delivers_nothing_until_resumed(link: Wire) -> Any:
    states = [link.transport.is_reading()]
    link.transport.pause_reading()
    link.transport.pause_reading()
    states.append(link.transport.is_reading())
    await in_thread(link.peer.sendall, b"hello")
    await turns(5)
    while_paused = bytes(link.protocol.data)
    link.transport.resume_reading()
    link.transport.resume_reading()
    states.append(link.transport.is_reading())
    received = await link.protocol.received(5)
    link.transport.close()
    return while_paused, received, [*states, link.transport.is_reading()]


@on_both("get_write_buffer_limits")
@on_both("set_write_buffer_limits", "high", "low")
async def write_limits_follow_from_each_other(link: Wire) -> Any:
    seen = [link.transport.get_write_buffer_limits()]
    for arguments in ({"high": 1000}, {"low": 100}, {"high": 9, "low": 3}, {"high": 0}, {}):
        link.transport.set_write_buffer_limits(**arguments)
        seen.append(link.transport.get_write_buffer_limits())
    return seen, refusal_of(link.transport.set_write_buffer_limits, high=1, low=2)


def _write_until_paused(link: Wire) -> int:
    """Fills what is on the way to the peer; returns how many bytes that took."""
    link.transport.set_write_buffer_limits(high=1000, low=0)
    for count in range(1, BULK_BYTES // len(PIECE)):
        link.transport.write(PIECE)
        if "pause" in link.protocol.calls:
            return count * len(PIECE)
    raise AssertionError("the protocol was never paused")


@on_both("set_write_buffer_limits", "high", "low")
async def past_the_high_mark_the_protocol_waits_for_the_low_one(link: Wire) -> Any:
    count = _write_until_paused(link)
    received = await in_thread(recv_exactly, link.peer, count)
    await link.protocol.until_called("resume")
    return received == PIECE * (count // len(PIECE)), link.protocol.calls


@on_both("get_write_buffer_size")
async def the_write_buffer_empties(link: Wire) -> Any:
    before = link.transport.get_write_buffer_size()
    count = _write_until_paused(link)
    waiting = link.transport.get_write_buffer_size() > 1000
    await in_thread(recv_exactly, link.peer, count)
    await link.protocol.until_called("resume")
    return before, waiting, link.transport.get_write_buffer_size()


@on_both("write", "data")
async def bytes_like_objects_are_written_in_order(link: Wire) -> Any:
    for data in (b"bytes ", bytearray(b"bytearray "), memoryview(b"memoryview "), b"", b"end"):
        link.transport.write(data)
    received = await in_thread(recv_exactly, link.peer, 30)
    return received, refusal_of(link.transport.write, "text").partition(":")[0]


@on_both("write", "data")
async def large_data_arrives_whole(link: Wire) -> Any:
    payload = numbered_bytes(LARGE_BYTES)
    link.transport.write(payload)
    return await in_thread(recv_exactly, link.peer, LARGE_BYTES) == payload


@on_both("writelines", "list_of_data")
async def pieces_are_written_in_order(link: Wire) -> Any:
    link.transport.writelines([b"one ", bytearray(b"two "), memoryview(b"three")])
    link.transport.writelines(iter([b" four"]))
    return await in_thread(recv_exactly, link.peer, 18)


async def can_write_eof(link: Wire) -> Any:
    return link.transport.can_write_eof()


async def end_of_file_is_sent_after_the_data(link: Wire) -> Any:
    link.transport.write(b"the end")
    link.transport.write_eof()
    link.transport.write_eof()
    refused = refusal_of(link.transport.write, b"more")
    received = await in_thread(recv_until_eof, link.peer)
    await in_thread(link.peer.sendall, b"an answer")
    return received, await link.protocol.received(9), refused


async def end_of_file_cannot_be_sent(link: Wire) -> Any:
    return refusal_of(link.transport.write_eof), link.transport.can_write_eof()


_add(STREAMS, "Transport", "can_write_eof", (), can_write_eof, wire)
_add(STREAMS, "Transport", "write_eof", (), end_of_file_is_sent_after_the_data, wire)
_add(TLS_STREAMS, "TLS transport", "can_write_eof", (), can_write_eof, tls_wire)
_add(TLS_STREAMS, "TLS transport", "write_eof", (), end_of_file_cannot_be_sent, tls_wire)


@on_both("abort")
async def abort_drops_what_is_queued(link: Wire) -> Any:
    link.transport.pause_reading()
    link.transport.set_write_buffer_limits(high=0)
    link.transport.write(bytes(BULK_BYTES))
    link.transport.abort()
    link.transport.abort()
    sizes = link.transport.get_write_buffer_size(), link.transport.is_closing()
    lost = await link.protocol.lost
    return sizes, lost, link.protocol.calls[-1], await in_thread(_all_arrived, link.peer)


def _all_arrived(peer: Any) -> bool:
    try:
        return len(recv_until_eof(peer)) == BULK_BYTES
    except OSError:
        return False
