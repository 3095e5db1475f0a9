"""loop.metrics(): each figure moves with what it counts, and with nothing else."""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
import os
import re
import socket
import threading
import time
from asyncio import AbstractEventLoop
from typing import Any

import pytest
from loops import LoopFactory
from peers import (
    Recorder,
    in_thread,
    recv_exactly,
    recv_until_eof,
    turns,
    until_true,
    wire,
)

import uringloop
from uringloop.driver.driver import DriverState, HeldWindow
from uringloop.metrics import RunTimes, lateness_of

pytestmark = pytest.mark.ours

SECOND_NS = 1_000_000_000
WINDOW_NS = 10 * SECOND_NS
PIECE_BYTES = 40_000  # large enough for bulk, and for a socket's buffer
MANY_BYTES = 300_000  # more than the high-water mark: the socket is offered some at once


def metrics_of(loop: Any) -> uringloop.Metrics:
    metrics = loop.metrics()
    assert isinstance(metrics, uringloop.Metrics)
    return metrics


def test_a_record_cannot_be_changed(new_loop: LoopFactory) -> None:
    metrics = metrics_of(new_loop())
    with pytest.raises(dataclasses.FrozenInstanceError):
        metrics.turns = 1  # type: ignore[misc]


def test_the_docstring_tells_of_every_field() -> None:
    told = inspect.getdoc(uringloop.Metrics) or ""
    names = re.findall(r"^(\w+) {2,}", told, re.M)
    assert names == [field.name for field in dataclasses.fields(uringloop.Metrics)]


def test_a_new_loop_has_counted_nothing(new_loop: LoopFactory, loop_kind: str) -> None:
    metrics = metrics_of(new_loop())
    assert metrics.backend == loop_kind
    counted = dataclasses.asdict(metrics)
    assert {name: figure for name, figure in counted.items() if figure} == {"backend": loop_kind}
    assert (metrics.sqes_per_enter, metrics.cqes_per_enter) == (0.0, 0.0)


async def test_turns_are_counted_one_by_one(loop: AbstractEventLoop) -> None:
    before = metrics_of(loop).turns
    await turns(10)
    assert metrics_of(loop).turns == before + 10


async def test_an_echo_counts_enters_requests_answers_and_bytes(loop: AbstractEventLoop) -> None:
    before = metrics_of(loop)
    async with wire() as made:
        made.transport.write(b"a" * 1000)
        assert await in_thread(recv_exactly, made.peer, 1000) == b"a" * 1000
        made.peer.sendall(b"b" * 500)
        await made.protocol.received(500)
        after = metrics_of(loop)
    assert after.bytes_sent - before.bytes_sent == 1000
    assert after.bytes_received - before.bytes_received == 500
    assert after.enters > before.enters
    assert after.sqes > before.sqes
    assert after.cqes > before.cqes
    assert after.sqes_per_enter == after.sqes / after.enters
    assert after.cqes_per_enter == after.cqes / after.enters


async def test_bytes_that_go_around_the_engine_are_counted(loop: AbstractEventLoop) -> None:
    async with wire() as made:
        receiving = in_thread(recv_exactly, made.peer, MANY_BYTES)
        made.transport.write(bytes(MANY_BYTES))
        assert metrics_of(loop).bytes_sent > 0  # no turn has passed
        await receiving
        await until_true(lambda: made.transport.get_write_buffer_size() == 0)
        assert metrics_of(loop).bytes_sent == MANY_BYTES


async def test_bytes_that_are_received_in_bulk_are_counted(loop: AbstractEventLoop) -> None:
    async with wire() as made:
        for number in range(1, 7):  # some such pieces in a row begin it
            await in_thread(made.peer.sendall, bytes(PIECE_BYTES))
            await made.protocol.received(number * PIECE_BYTES)
            assert metrics_of(loop).bytes_received == number * PIECE_BYTES
        assert loop._bytes_received_directly > 0  # type: ignore[attr-defined]


async def test_datagrams_are_counted(loop: AbstractEventLoop) -> None:
    received = loop.create_future()

    class Receiver(asyncio.DatagramProtocol):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            received.set_result(data)

    ours, _ = await loop.create_datagram_endpoint(Receiver, local_addr=("127.0.0.1", 0))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.bind(("127.0.0.1", 0))
        peer.sendto(b"seven..", ours.get_extra_info("sockname"))
        assert await received == b"seven.."
        ours.sendto(b"nine.....", peer.getsockname())
        assert await in_thread(peer.recv, 100) == b"nine....."
    metrics = metrics_of(loop)
    assert (metrics.bytes_received, metrics.bytes_sent) == (7, 9)
    assert metrics.connections_open == 0  # an endpoint is no connection
    ours.abort()
    await turns(3)


async def test_connections_are_counted_by_where_they_come_from(loop: AbstractEventLoop) -> None:
    served: list[Recorder] = []

    def factory() -> Recorder:
        served.append(Recorder())
        return served[-1]

    server = await loop.create_server(factory, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    clients = [await loop.create_connection(Recorder, *address) for _ in range(3)]
    await until_true(lambda: len(served) == 3)
    metrics = metrics_of(loop)
    assert metrics.connections_accepted == 3
    assert metrics.connections_made == 3
    assert metrics.connections_open == 6
    for transport, protocol in clients:
        transport.close()
        await protocol.lost
    for protocol in served:
        await protocol.lost
    await until_true(lambda: metrics_of(loop).connections_open == 0)
    assert metrics_of(loop).connections_accepted == 3
    server.close()


async def test_pipes_are_no_connections(loop: AbstractEventLoop) -> None:
    reading, writing = os.pipe()
    transport, _ = await loop.connect_read_pipe(asyncio.Protocol, os.fdopen(reading, "rb", 0))
    metrics = metrics_of(loop)
    assert (metrics.connections_open, metrics.connections_made) == (0, 0)
    os.close(writing)
    transport.close()
    await turns(3)


async def test_timers_and_ready_callbacks_are_counted(loop: AbstractEventLoop) -> None:
    before = metrics_of(loop)
    timers = [loop.call_later(1000, print) for _ in range(5)]
    for _ in range(4):
        loop.call_soon(int)
    during = metrics_of(loop)
    assert during.timers - before.timers == 5
    assert during.ready - before.ready == 4
    timers[0].cancel()
    assert metrics_of(loop).timers - before.timers == 4
    for timer in timers:
        timer.cancel()
    await turns(2)
    assert metrics_of(loop).timers == before.timers
    assert metrics_of(loop).ready == before.ready


async def test_what_waits_for_the_kernel_is_in_flight(
    loop: AbstractEventLoop, pair: tuple[socket.socket, socket.socket]
) -> None:
    ours, peer = pair
    before = metrics_of(loop).in_flight
    receiving = asyncio.ensure_future(loop.sock_recv(ours, 10))
    await turns(3)
    assert metrics_of(loop).in_flight == before + 1
    peer.send(b"data")
    assert await receiving == b"data"
    assert metrics_of(loop).in_flight == before


async def test_what_a_relay_carries_is_told_apart(loop: AbstractEventLoop) -> None:
    async with wire() as left, wire() as right:
        relaying = asyncio.ensure_future(_relay(left.transport, right.transport))
        await turns(5)  # what comes before the relay has begun is the transport's
        left.peer.sendall(b"x" * 5000)
        assert await in_thread(recv_exactly, right.peer, 5000) == b"x" * 5000
        left.peer.shutdown(socket.SHUT_WR)
        right.peer.shutdown(socket.SHUT_WR)
        await relaying
        assert await in_thread(recv_until_eof, right.peer) == b""
    assert metrics_of(loop).bytes_relayed == 5000


async def _relay(left: asyncio.Transport, right: asyncio.Transport) -> None:
    await uringloop.relay(left, right)


# -- time -------------------------------------------------------------------------------


def test_the_time_of_runs_is_busy_or_waiting(new_loop: LoopFactory) -> None:
    """Busy is what the kernel says of this thread; the rest of a run is waiting."""
    loop = new_loop()
    on_cpu_s = time.thread_time()
    began_s = time.monotonic()
    loop.run_until_complete(asyncio.sleep(0.01))
    ran_s = time.monotonic() - began_s
    on_cpu_s = time.thread_time() - on_cpu_s
    metrics = metrics_of(loop)
    assert 0 < metrics.busy_s <= on_cpu_s
    assert 0.009 < metrics.busy_s + metrics.waiting_s <= ran_s
    assert metrics_of(loop).busy_s == metrics.busy_s  # a loop that does not run is not busy


def test_what_passes_between_runs_is_not_lag(new_loop: LoopFactory) -> None:
    """The first callback of a run is behind its first turn, which would have counted it."""
    loop = new_loop()
    loop.run_until_complete(turns(3))
    before = metrics_of(loop)
    time.sleep(0.01)
    loop.call_soon(lambda: seen.append(metrics_of(loop)))
    seen: list[uringloop.Metrics] = []
    loop.run_until_complete(turns(3))
    assert seen[0].turns > before.turns
    assert seen[0].callbacks_s == before.callbacks_s


async def test_a_callback_that_blocks_is_lag(loop: AbstractEventLoop) -> None:
    time.sleep(0.03)  # noqa: ASYNC251 - that is what it is about
    assert metrics_of(loop).lag_max_s >= 0.03  # also while it lasts
    await turns(2)
    metrics = metrics_of(loop)
    assert metrics.lag_max_s >= 0.03
    assert metrics.callbacks_s >= 0.03
    assert 0 < metrics.lag_s < metrics.lag_max_s


async def test_a_loop_that_sleeps_is_not_late(loop: AbstractEventLoop) -> None:
    def until_it_sleeps() -> tuple[float, float]:
        deadline = time.monotonic() + 10
        while loop.driver_state().held_since_ns:  # type: ignore[attr-defined]
            assert time.monotonic() < deadline
        first = metrics_of(loop).lag_max_s
        time.sleep(0.01)
        return first, metrics_of(loop).lag_max_s

    first, later = await in_thread(until_it_sleeps)
    assert first == later


def state_with(window: HeldWindow, before: HeldWindow, since_ns: int = 0) -> DriverState:
    return DriverState(0, 0, (), {}, held_since_ns=since_ns, held_windows=(window, before))


NOW_NS = 1000 * SECOND_NS


def window(age_ns: int, longest_s: float) -> HeldWindow:
    """One that began so long ago, with one stretch."""
    return HeldWindow(NOW_NS - age_ns, int(longest_s * SECOND_NS), longest_s**2 / 2)


NONE = HeldWindow()


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        pytest.param(state_with(NONE, NONE), (0, 0), id="no turn yet"),
        pytest.param(
            state_with(window(5 * SECOND_NS, 1.0), NONE), (0.1, 1.0), id="half a second in five"
        ),
        pytest.param(
            state_with(window(SECOND_NS, 0.0), window(11 * SECOND_NS, 2.0)),
            (2 / 11, 2.0),
            id="the window before counts",
        ),
        pytest.param(
            state_with(window(WINDOW_NS, 0.0), window(2 * WINDOW_NS, 2.0)),
            (0, 0),
            id="but not when the latest is as old",
        ),
        pytest.param(
            state_with(window(2 * WINDOW_NS, 2.0), NONE), (0, 0), id="a loop that slept since"
        ),
        pytest.param(
            state_with(window(4 * SECOND_NS, 0.0), NONE, NOW_NS - 2 * SECOND_NS),
            (0.5, 2.0),
            id="a callback that does not end",
        ),
    ],
)
def test_lag_is_over_the_last_two_windows(
    state: DriverState, expected: tuple[float, float]
) -> None:
    assert lateness_of(state, NOW_NS, is_running=True) == pytest.approx(expected)


def test_a_stretch_of_a_loop_that_does_not_run_is_nobodys() -> None:
    state = state_with(window(4 * SECOND_NS, 0.0), NONE, NOW_NS - 2 * SECOND_NS)
    assert lateness_of(state, NOW_NS, is_running=False) == (0, 0)


def test_times_of_a_thread_that_is_gone_are_those_of_the_runs_before() -> None:
    """As in the child of a fork: the run that it came out of is the parent's."""
    times = RunTimes(time.monotonic)
    thread = threading.Thread(target=times.begin)
    thread.start()
    thread.join()
    # The kernel forgets a thread a moment after it was joined.
    while os.path.exists(f"/proc/self/task/{thread.native_id}"):
        pass
    assert times.read() == (0.0, 0.0)


# -- other threads, closed loops -----------------------------------------------------------


async def test_another_thread_may_ask_while_the_loop_runs(loop: AbstractEventLoop) -> None:
    def ask() -> tuple[uringloop.Metrics, uringloop.Metrics]:
        first = metrics_of(loop)
        for _ in range(1000):
            metrics_of(loop)
        return first, metrics_of(loop)

    asking = in_thread(ask)
    while not asking.done():  # noqa: ASYNC110 - the loop is to work meanwhile
        await asyncio.sleep(0)
    first, last = asking.result()
    assert last.turns > first.turns
    assert last.busy_s > first.busy_s


def test_another_thread_may_ask_while_loops_are_closed(new_loop: LoopFactory) -> None:
    """The engine's memory is given back under the reader's hands; ASan knows of it."""
    loop = new_loop()
    loop.run_until_complete(turns(20))
    counted = metrics_of(loop).turns
    lowest: list[int] = []
    ready = threading.Event()

    def ask() -> None:
        lowest.append(metrics_of(loop).turns)
        ready.set()
        for _ in range(300):
            lowest.append(metrics_of(loop).turns)

    thread = threading.Thread(target=ask)
    thread.start()
    ready.wait(10)
    loop.close()
    thread.join()
    assert min(lowest) == max(lowest) == counted


def test_a_closed_loop_tells_its_last_counts(new_loop: LoopFactory) -> None:
    loop = new_loop()
    loop.call_later(1000, print)
    loop.run_until_complete(turns(3))
    loop.call_soon(print)
    before = metrics_of(loop)
    assert before.timers == 1 and before.ready == 1
    loop.close()
    now = dict.fromkeys(("timers", "ready", "in_flight", "lag_s", "lag_max_s"), 0)
    assert metrics_of(loop) == dataclasses.replace(before, **now)


def test_counts_go_on_where_a_loop_moves_to_another_thread(new_loop: LoopFactory) -> None:
    """On io_uring it gets a fresh ring there."""
    loop = new_loop()
    loop.run_until_complete(turns(20))
    before = metrics_of(loop)
    thread = threading.Thread(target=lambda: loop.run_until_complete(turns(20)))
    thread.start()
    thread.join()
    after = metrics_of(loop)
    assert after.turns >= before.turns + 20
    assert after.busy_s > before.busy_s
    assert after.callbacks_s > before.callbacks_s
