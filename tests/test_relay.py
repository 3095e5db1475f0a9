"""relay(): what both peers see, and what the one who awaits it is told.

On asyncio's own loop the relay goes by streams, on ours by the engine: the same tests.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import random
import socket
import time

import pytest
from peers import in_thread, recv_exactly, recv_until_eof, reset, turns, until_true, wire
from relays import KINDS, StreamRecorder, drink, ends, filled, over, pour, until_gone

import uringloop
from uringloop import RelayEnd, RelayResult
from uringloop.relay import _CLOCK_MONOTONIC_COARSE

FAMILIES = ("tcp", "unix")


@pytest.mark.parametrize("family", ["tcp", "tcp6", "unix"])
@pytest.mark.parametrize("kind", KINDS)
async def test_bytes_go_both_ways_and_then_each_end(loop, kind, family):
    async with ends(kind, family) as each:
        relay = each.relay()
        await in_thread(each.peer_a.sendall, b"question")
        assert await in_thread(recv_exactly, each.peer_b, 8) == b"question"
        await in_thread(each.peer_b.sendall, b"an answer")
        assert await in_thread(recv_exactly, each.peer_a, 9) == b"an answer"
        each.peer_a.shutdown(socket.SHUT_WR)
        assert await in_thread(recv_until_eof, each.peer_b) == b""
        await in_thread(each.peer_b.sendall, b", and more")
        each.peer_b.shutdown(socket.SHUT_WR)
        assert await in_thread(recv_until_eof, each.peer_a) == b", and more"
        result = await relay
        assert result == RelayResult(8, 19, RelayEnd.EOF, None, None)
        assert result.reason == "eof"
        assert [protocol.lost.result() for protocol in each.protocols] == [None, None]
        assert (relay.bytes_a_to_b, relay.bytes_b_to_a) == (8, 19)
        assert relay.buffers_held == 0


async def test_a_pair_is_kept_that_nobody_else_keeps(loop):
    """A StreamWriter that is forgotten closes its transport."""
    async with wire(StreamRecorder) as one, wire(StreamRecorder) as other:
        relay = uringloop.relay(
            one.protocol.pair(one.transport), other.protocol.pair(other.transport)
        )
        gc.collect()
        await in_thread(one.peer.sendall, b"kept")
        assert await in_thread(recv_exactly, other.peer, 4) == b"kept"
        for peer in (one.peer, other.peer):
            peer.shutdown(socket.SHUT_WR)
        assert (await relay).reason is RelayEnd.EOF


@pytest.mark.parametrize("first", ["a", "b"])
async def test_either_side_may_end_first(loop, first):
    async with ends() as each:
        relay = each.relay()
        early, late = each.peer_a, each.peer_b
        if first == "b":
            early, late = late, early
        early.shutdown(socket.SHUT_WR)
        assert await in_thread(recv_until_eof, late) == b""
        await in_thread(late.sendall, b"x" * 100_000)
        late.shutdown(socket.SHUT_WR)
        assert len(await in_thread(recv_until_eof, early)) == 100_000
        assert (await relay).reason is RelayEnd.EOF


@pytest.mark.parametrize("buffer_bytes", [None, 4096])
@pytest.mark.parametrize("seed", range(3))
async def test_two_relays_in_a_chain_keep_every_byte_in_order(loop, seed, buffer_bytes):
    """client - relay - relay - server, all sizes of pieces in both directions."""
    total_bytes = 2_000_000 if buffer_bytes is None else 200_000
    async with ends("transports", "unix", buffer_bytes) as near, ends("streams", "unix") as far:
        middle = await joined(near.peer_b, far.peer_a)
        relays = [near.relay(), far.relay(limit=1000 + seed), middle]
        jobs = [
            in_thread(pour, near.peer_a, seed, total_bytes),
            in_thread(pour, far.peer_b, seed + 1, total_bytes),
            in_thread(drink, far.peer_b, seed),
            in_thread(drink, near.peer_a, seed),
        ]
        there, back, arrived_there, arrived_back = await asyncio.gather(*jobs)
        assert arrived_there == (there, total_bytes)
        assert arrived_back == (back, total_bytes)
        for relay in relays:
            assert await relay == RelayResult(total_bytes, total_bytes, RelayEnd.EOF, None, None)


async def joined(*peers: socket.socket) -> uringloop.Relay:
    """A relay between sockets that were the far ends of others."""
    loop = asyncio.get_running_loop()
    transports = []
    for peer in peers:
        peer.setblocking(False)
        sock = socket.socket(fileno=peer.detach())
        transport, _ = await loop.create_unix_connection(asyncio.Protocol, sock=sock)
        transports.append(transport)
    return uringloop.relay(*transports)


async def test_what_the_reader_had_goes_first_then_what_the_transport_had(loop):
    """Written before, in the StreamReader, in the paused transport, on the way: in that order."""
    async with ends("streams") as each:
        reader, writer = each.a
        await in_thread(each.peer_a.sendall, b"peeked and the rest;")
        assert await reader.readexactly(7) == b"peeked "
        assert await peeked(reader, b"and the rest;")
        writer.transport.pause_reading()
        await in_thread(each.peer_a.sendall, b"came while paused;")
        await turns(5)
        each.b[1].write(b"written before;")
        relay = each.relay()
        await in_thread(each.peer_a.sendall, b"and after.")
        each.peer_a.shutdown(socket.SHUT_WR)
        expected = b"written before;and the rest;came while paused;and after."
        assert await in_thread(recv_until_eof, each.peer_b) == expected
        each.peer_b.shutdown(socket.SHUT_WR)
        result = await relay
        assert result.bytes_a_to_b == len(expected) - len(b"written before;")


async def peeked(reader: asyncio.StreamReader, data: bytes) -> bool:
    await until_true(lambda: data == bytes(reader._buffer))
    return True


async def test_what_a_bare_transport_had_goes_first(loop):
    async with ends() as each:
        each.transports[0].pause_reading()
        await in_thread(each.peer_a.sendall, b"early, ")
        await turns(5)
        relay = each.relay()
        await in_thread(each.peer_a.sendall, b"late")
        assert await in_thread(recv_exactly, each.peer_b, 11) == b"early, late"
        assert each.protocols[0].calls == ["made"]
        relay.cancel()
        with pytest.raises(asyncio.CancelledError):
            await relay


@pytest.mark.parametrize("buffered_bytes", [1, 3_000_000])
async def test_more_than_the_sockets_take_may_be_written_before(loop, buffered_bytes):
    async with ends() as each:
        data = random.Random(1).randbytes(buffered_bytes)
        each.transports[1].write(data)
        relay = each.relay()
        each.peer_a.sendall(b"behind it")
        each.peer_a.shutdown(socket.SHUT_WR)
        assert await in_thread(recv_until_eof, each.peer_b) == data + b"behind it"
        each.peer_b.shutdown(socket.SHUT_WR)
        assert (await relay).bytes_a_to_b == 9


async def test_an_end_that_came_before_is_carried(loop):
    async with ends("streams") as each:
        each.peer_a.sendall(b"all there is")
        each.peer_a.shutdown(socket.SHUT_WR)
        await until_true(lambda: each.a[0]._eof)
        relay = each.relay()
        assert await in_thread(recv_until_eof, each.peer_b) == b"all there is"
        each.peer_b.shutdown(socket.SHUT_WR)
        assert (await relay).reason is RelayEnd.EOF


# -- failures ---------------------------------------------------------------------------


async def assert_reset(peer: socket.socket) -> None:
    with pytest.raises(ConnectionResetError):
        await in_thread(recv_until_eof, peer)


@pytest.mark.parametrize("side", ["a", "b"])
async def test_a_reset_is_carried_as_a_reset(loop, side):
    async with ends() as each:
        relay = each.relay()
        await in_thread(each.peer_a.sendall, b"x")
        await in_thread(recv_exactly, each.peer_b, 1)
        died, left = each.peer_a, each.peer_b
        if side == "b":
            died, left = left, died
        reset(died)
        result = await relay
        assert (result.reason, result.failed_side) == (RelayEnd.RESET, side)
        assert isinstance(result.error, ConnectionResetError)
        await assert_reset(left)
        losses = {name: p.lost.result() for name, p in zip("ab", each.protocols, strict=True)}
        assert isinstance(losses[side], ConnectionResetError)


@pytest.mark.parametrize("after_bytes", [0, 1, 1023, 100_000, 1_000_000])
@pytest.mark.parametrize("how", ["reset", "end"])
async def test_the_upstream_may_die_at_any_byte(loop, how, after_bytes):
    """It sends so much and is gone, while the client goes on sending."""
    async with ends() as each:
        relay = each.relay()

        def upstream() -> None:
            each.peer_b.sendall(bytes(after_bytes))
            if how == "reset":
                reset(each.peer_b)
            else:
                each.peer_b.close()

        def client() -> None:
            with contextlib.suppress(ConnectionError):
                for _ in range(1000):
                    each.peer_a.sendall(bytes(10_000))

        def reader() -> int:
            size = 0
            with contextlib.suppress(ConnectionError):
                while piece := each.peer_a.recv(65_536):
                    size += len(piece)
            return size

        _, _, read = await asyncio.gather(*map(in_thread, (upstream, client, reader)))
        result = await relay
        assert (result.reason, result.failed_side) == (RelayEnd.RESET, "b")
        assert result.error is not None
        assert result.error.errno in (errno.ECONNRESET, errno.EPIPE, None)
        assert read <= result.bytes_b_to_a <= after_bytes


async def test_an_upstream_that_answers_and_closes_costs_the_client_nothing(loop):
    async with ends() as each:
        relay = each.relay()
        await in_thread(each.peer_a.sendall, b"GET")
        await in_thread(recv_exactly, each.peer_b, 3)
        await in_thread(each.peer_b.sendall, b"y" * 500_000)
        each.peer_b.close()
        assert len(await in_thread(recv_until_eof, each.peer_a)) == 500_000
        each.peer_a.close()
        assert await relay == RelayResult(3, 500_000, RelayEnd.EOF, None, None)


@pytest.mark.ours
async def test_a_reset_of_a_side_that_had_ended_is_noticed_without_traffic(loop):
    """b has ended, a is silent: only a poll can tell that b is gone."""
    async with ends() as each:
        relay = each.relay()
        each.peer_b.shutdown(socket.SHUT_WR)
        assert await in_thread(recv_until_eof, each.peer_a) == b""
        reset(each.peer_b)
        result = await relay
        assert (result.reason, result.failed_side) == (RelayEnd.RESET, "b")
        with pytest.raises(BrokenPipeError):  # a socket that has read the end tells it so
            each.peer_a.send(b"x")


async def test_a_side_that_was_reset_before_ends_it_at_once(loop):
    async with ends() as each:
        each.transports[0].pause_reading()
        reset(each.peer_a)
        await turns(5)
        result = await each.relay()
        assert (result.reason, result.failed_side) == (RelayEnd.RESET, "a")


# -- idle -------------------------------------------------------------------------------


async def test_silence_ends_it(loop):
    async with ends() as each:
        began_s = loop.time()
        relay = each.relay(idle_timeout=0.1)
        result = await relay
        assert loop.time() - began_s >= 0.1
        assert result == RelayResult(0, 0, RelayEnd.IDLE_TIMEOUT, None, None)
        for peer in (each.peer_a, each.peer_b):
            await assert_reset(peer)


async def test_bytes_in_either_direction_keep_it_alive(loop):
    async with ends() as each:
        relay = each.relay(idle_timeout=3600)
        for sender, receiver in [(each.peer_a, each.peer_b), (each.peer_b, each.peer_a)] * 3:
            before_s = time.clock_gettime(_CLOCK_MONOTONIC_COARSE)  # the engine's own clock
            await in_thread(sender.sendall, b"x")
            await in_thread(recv_exactly, receiver, 1)
            idle_s = relay.idle_s
            assert idle_s <= time.monotonic() - before_s
        relay._look_whether_idle()
        assert not relay.done()
        relay._idle_timeout_s = -1  # as if the hour were over
        relay._look_whether_idle()
        result = await relay
        assert result.reason is RelayEnd.IDLE_TIMEOUT
        assert (result.bytes_a_to_b, result.bytes_b_to_a) == (3, 3)


# -- cancel -----------------------------------------------------------------------------


@pytest.mark.parametrize("after_turns", range(1, 9))
@pytest.mark.parametrize("kind", KINDS)
async def test_cancelling_the_task_resets_both_and_gives_all_back(loop, kind, after_turns):
    async with ends(kind) as each:
        each.transports[1].write(b"before")
        each.peer_a.sendall(b"x" * 100)
        task = asyncio.create_task(over(each.relay()))
        await turns(after_turns)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        for protocol in each.protocols:
            assert protocol.lost.result() is None
        for peer in (each.peer_a, each.peer_b):
            await assert_reset(peer)


async def test_a_cancel_while_a_destination_is_full(loop):
    async with ends(buffer_bytes=4096) as each:
        relay = each.relay(limit=10_000)
        each.peer_a.setblocking(False)
        await filled(relay, each.peer_a)
        assert relay.buffers_held > 0
        relay.cancel()
        with pytest.raises(asyncio.CancelledError):
            await relay
        assert relay.buffers_held == 0
        await assert_reset(each.peer_b)


async def test_a_second_cancel_changes_nothing(loop):
    async with ends() as each:
        relay = each.relay()
        relay.cancel()
        relay.cancel()
        with pytest.raises(asyncio.CancelledError):
            await relay
        relay.cancel()


async def test_closing_a_transport_ends_it(loop):
    async with ends() as each:
        relay = each.relay()
        await turns(3)
        each.transports[0].close()
        result = await relay
        assert (result.reason, result.error, result.failed_side) == (RelayEnd.CLOSED, None, None)
        await in_thread(until_gone, each.peer_b)


async def test_a_transport_that_was_closed_before_ends_it_at_once(loop):
    async with ends() as each:
        each.transports[0].close()
        result = await each.relay()
        assert result.reason is RelayEnd.CLOSED
        await in_thread(until_gone, each.peer_b)


# -- limits -----------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1000, 50_000])
async def test_a_reader_that_sleeps_holds_up_its_sender(loop, limit):
    async with ends(buffer_bytes=4096) as each:
        relay = each.relay(limit=limit)
        each.peer_a.setblocking(False)
        taken = await filled(relay, each.peer_a)
        assert taken < 2_000_000
        assert 1 <= relay.buffers_held <= 8
        each.peer_a.settimeout(10)
        each.peer_a.shutdown(socket.SHUT_WR)
        assert len(await in_thread(recv_until_eof, each.peer_b)) == taken
        each.peer_b.shutdown(socket.SHUT_WR)
        assert await relay == RelayResult(taken, 0, RelayEnd.EOF, None, None)


# -- refusals ---------------------------------------------------------------------------


async def test_what_cannot_be_relayed_is_refused_with_a_reason(loop):
    async with ends() as each:
        for wrong in (None, "a", (each.a,), (each.a, each.b, 1), each.protocols[0]):
            with pytest.raises(TypeError, match=r"^b must be a stream transport or a pair"):
                uringloop.relay(each.a, wrong)
        with pytest.raises(ValueError, match="same transport"):
            uringloop.relay(each.a, each.a)
        with pytest.raises(ValueError, match="limit must be"):
            each.relay(limit=0)
        with pytest.raises(ValueError, match="idle_timeout must be"):
            each.relay(idle_timeout=-1)


@pytest.mark.ours
async def test_what_is_in_another_use_is_refused(loop):
    async with ends() as each, ends() as others:
        relay = each.relay()
        with pytest.raises(ValueError, match="a is relayed already"):
            uringloop.relay(each.a, others.a)
        others.transports[0].write_eof()
        with pytest.raises(ValueError, match=r"a has its sending side shut"):
            uringloop.relay(others.a, others.b)
        relay.cancel()


@pytest.mark.ours
async def test_a_transport_of_another_loop_is_refused(loop, new_loop):
    async with ends() as each:
        other = new_loop()

        async def elsewhere() -> None:
            with pytest.raises(ValueError, match="a belongs to another event loop"):
                each.relay()

        await in_thread(other.run_until_complete, elsewhere())


def test_without_a_running_loop_it_is_refused():
    with pytest.raises(RuntimeError, match="no running event loop"):
        uringloop.relay(None, None)


@pytest.mark.ours
async def test_nothing_can_be_written_beside_it(loop):
    async with ends() as each:
        relay = each.relay()
        await turns(3)
        with pytest.raises(RuntimeError, match="the transport is relayed"):
            each.transports[0].write(b"x")
        relay.cancel()


# -- while it runs ---------------------------------------------------------------------


async def test_its_counters_tell_while_it_runs(loop):
    async with ends() as each:
        relay = each.relay()
        assert (relay.bytes_a_to_b, relay.bytes_b_to_a, relay.done()) == (0, 0, False)
        await in_thread(each.peer_a.sendall, b"x" * 1000)
        await in_thread(recv_exactly, each.peer_b, 1000)
        assert relay.bytes_a_to_b == 1000
        assert 0 <= relay.idle_s < 5
        assert "a->b 1000 bytes" in repr(relay)
        relay.cancel()


async def test_a_relay_that_nobody_awaits_runs_to_its_end(loop):
    async with ends() as each, wire() as other:
        each.relay()
        each.peer_a.sendall(b"x")
        each.peer_a.shutdown(socket.SHUT_WR)
        assert await in_thread(recv_until_eof, each.peer_b) == b"x"
        each.peer_b.shutdown(socket.SHUT_WR)
        for protocol in each.protocols:
            await protocol.lost
        assert not other.transport.is_closing()
