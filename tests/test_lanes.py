"""Lanes: calls of one direction of a socket take turns, and what came for somebody who had
given up goes to the next. No loop and no engine: the test is the kernel and the callers."""

from __future__ import annotations

import gc
import random
from concurrent.futures import Future
from typing import Any

import pytest

from uringloop.lanes import Channel, Lane, LaneOperation

ROUNDS_MAX = 3000  # of the random test, which needs far fewer


class Call(LaneOperation):
    """A receive of at most `wants` bytes. As the operations of socket_operations.py; those
    cannot do without an engine."""

    def __init__(self, lane: Lane, wants: int = 100) -> None:
        self.lane = lane
        self.wants = wants
        self.future: Future[bytes] = Future()
        self.starts = 0
        self.is_with_kernel = False
        self.is_stopped = False
        self.has_given_up = False

    def start(self) -> None:
        self.starts += 1
        self.is_with_kernel = True

    def take(self, kept: list[Any]) -> None:
        data = kept.pop(0)
        if len(data) > self.wants:
            kept.insert(0, data[self.wants :])
        self.future.set_result(data[: self.wants])

    def untaken(self) -> bytes:
        return self.future.result()

    def is_awaited(self) -> bool:
        return not self.has_given_up and not self.future.done()

    def stop(self) -> None:
        self.is_stopped = self.is_with_kernel

    def give_up(self) -> None:
        self.has_given_up = True
        self.stop()
        if self.future.done():
            self.lane.put_back(self, self.untaken())

    def answer(self, data: bytes | None) -> None:
        """The kernel's final answer; None: it was stopped in time."""
        assert self.is_with_kernel
        self.is_with_kernel = False
        self.lane.active = None
        if self.is_awaited():
            assert data is not None
            self.future.set_result(data)
        else:
            self.lane.keep(data)
        self.lane.leave()

    def go_on(self) -> bytes:
        """The caller runs on with its answer."""
        assert not self.has_given_up
        self.lane.went_on(self)
        return self.future.result()


def entered(lane: Lane, count: int, wants: int = 100) -> list[Call]:
    calls = [Call(lane, wants) for _ in range(count)]
    for call in calls:
        lane.enter(call)
    return calls


def test_calls_are_with_the_kernel_one_at_a_time_in_their_order() -> None:
    calls = entered(Lane(), 4)
    for index, call in enumerate(calls):
        assert [each.starts for each in calls] == [1] * (index + 1) + [0] * (3 - index)
        call.answer(b"%d" % index)
        assert call.go_on() == b"%d" % index


def test_a_call_that_gave_up_while_it_waited_never_starts() -> None:
    first, second, third = entered(Lane(), 3)
    second.give_up()
    first.answer(b"first")
    assert (second.starts, third.starts) == (0, 1)


def test_a_call_that_gives_up_is_stopped_and_the_next_starts_after_its_answer() -> None:
    first, second = entered(Lane(), 2)
    first.give_up()
    assert first.is_stopped
    assert second.starts == 0
    first.answer(None)
    assert second.starts == 1


def test_what_came_for_a_call_that_had_given_up_goes_to_the_next_without_the_kernel() -> None:
    lane = Lane()
    first, second = entered(lane, 2)
    first.give_up()
    first.answer(b"too late")
    assert second.go_on() == b"too late"
    assert second.starts == 0
    assert lane.kept is None


def test_what_came_for_nobody_waits_for_the_next_call() -> None:
    lane = Lane()
    (first,) = entered(lane, 1)
    first.give_up()
    first.answer(b"too late")
    (second,) = entered(lane, 1)
    assert second.go_on() == b"too late"
    (third,) = entered(lane, 1)
    assert (second.starts, third.starts) == (0, 1)


def test_a_small_call_leaves_the_rest_to_the_next_once_it_has_gone_on() -> None:
    """One at a time: should it give up, what it has belongs before the rest."""
    lane = Lane()
    (first,) = entered(lane, 1)
    first.give_up()
    first.answer(b"abcdef")
    calls = entered(lane, 3, wants=2)
    for index, call in enumerate(calls):
        assert [each.future.done() for each in calls] == [True] * (index + 1) + [False] * (
            2 - index
        )
        assert call.go_on() == b"abcdef"[2 * index : 2 * index + 2]
    assert [each.starts for each in calls] == [0, 0, 0]


def test_a_call_that_gives_up_its_share_puts_it_before_the_rest() -> None:
    lane = Lane()
    (first,) = entered(lane, 1)
    first.give_up()
    first.answer(b"abcdef")
    second, third, fourth = entered(lane, 3, wants=2)
    second.give_up()
    assert third.go_on() == b"ab"
    assert fourth.go_on() == b"cd"
    assert lane.take_all() == [b"ef"]


def test_an_answer_that_is_given_up_overtakes_what_the_kernel_has_for_the_next() -> None:
    """The next call is with the kernel by then: it is stopped, and what it takes all the same
    comes after."""
    lane = Lane()
    first, second, third = entered(lane, 3)
    first.answer(b"first")
    assert second.starts == 1
    first.give_up()
    assert second.is_stopped
    assert second.go_on() == b"first"
    assert third.starts == 0
    second.answer(b"second")
    assert third.go_on() == b"second"
    assert third.starts == 0


def test_an_answer_of_no_worth_is_not_kept() -> None:
    lane = Lane()
    first, second = entered(lane, 2)
    first.give_up()
    first.answer(None)
    assert lane.kept is None
    assert second.starts == 1


def test_who_takes_the_socket_over_gets_what_was_kept_and_all_that_comes_late() -> None:
    lane = Lane()
    (first,) = entered(lane, 1)
    first.give_up()
    first.answer(b"kept")
    (second,) = entered(lane, 1)
    second.give_up()
    (third,) = entered(lane, 1)
    heard: list[bytes] = []
    lane.heir = heard.append
    third.give_up()
    assert lane.take_all() == []
    assert heard == [b"kept"]


def test_an_heir_hears_answers_in_the_order_of_the_kernel() -> None:
    lane = Lane()
    (first,) = entered(lane, 1)
    first.give_up()
    heard: list[bytes] = []
    lane.heir = heard.append
    first.answer(b"late")
    assert heard == [b"late"]
    assert lane.take_all() == []


@pytest.mark.parametrize("seed", range(20))
def test_whoever_gives_up_the_stream_arrives_whole_and_in_order(seed: int) -> None:
    """The kernel answers with the next bytes of a stream; callers come, and go on or give up
    at random, but as in a loop: those who were answered do one of both before the kernel
    answers again."""
    choice = random.Random(seed)
    lane = Lane()
    stream = bytes(range(256)) * 8
    taken = 0
    arrived = b""
    calls: list[Call] = []
    for _ in range(ROUNDS_MAX):
        if taken == len(stream):
            break
        calls += entered(lane, choice.randrange(4), wants=choice.randrange(1, 9))
        if choice.random() < 0.4 and calls:
            calls.pop(choice.randrange(len(calls))).give_up()
        active = lane.active
        if isinstance(active, Call):
            size = 0 if active.is_stopped and choice.random() < 0.5 else choice.randrange(1, 9)
            size = min(size, active.wants, len(stream) - taken)
            active.answer(stream[taken : taken + size] or None)
            taken += size
        while answered := [call for call in calls if call.future.done()]:
            calls.remove(answered[0])
            if choice.random() < 0.3:
                answered[0].give_up()
            else:
                arrived += answered[0].go_on()
    assert arrived + b"".join(lane.take_all()) == stream


class Socket:
    """Something to be known weakly."""


class Connection:
    def __init__(self) -> None:
        self.is_closed = False

    def close(self) -> None:
        self.is_closed = True


def new_channel(sock: Any) -> tuple[Channel, list[Channel]]:
    closed: list[Channel] = []
    return Channel(sock, 7, True, closed.append), closed


def test_a_channel_says_when_the_kernel_holds_what_nobody_waits_for() -> None:
    sock = Socket()
    channel, _ = new_channel(sock)
    assert not channel.is_stopping()
    (call,) = entered(channel.sends, 1)
    assert not channel.is_stopping()
    call.give_up()
    assert channel.is_stopping()
    call.answer(None)
    assert not channel.is_stopping()


def test_stopping_a_channel_stops_each_lane() -> None:
    sock = Socket()
    channel, _ = new_channel(sock)
    calls = [entered(lane, 1)[0] for lane in channel.lanes()]
    channel.stop()
    assert [call.is_stopped for call in calls] == [True] * 3


def test_a_closed_channel_drops_bytes_and_closes_connections_now_and_later() -> None:
    sock = Socket()
    channel, closed = new_channel(sock)
    kept, late = Connection(), Connection()
    channel.accepts.keep((kept, None))
    channel.receives.keep(b"kept")
    channel.close()
    assert kept.is_closed
    channel.accepts.keep((late, None))
    channel.receives.keep(b"late")
    assert late.is_closed
    assert channel.receives.take_all() == []
    assert closed == [channel]
    channel.close()
    assert closed == [channel]


def test_a_channel_closes_with_its_socket() -> None:
    sock = Socket()
    channel, closed = new_channel(sock)
    del sock
    gc.collect()
    assert closed == [channel]
