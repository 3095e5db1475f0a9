"""Whose turn it is, who backs off, and when that ends. Time is a number that the test sets."""

from __future__ import annotations

import pytest

from uringloop.proxy.addresses import TcpAddress
from uringloop.proxy.back_off import BackOff
from uringloop.proxy.upstreams import (
    BACK_OFF_FIRST_S,
    BACK_OFF_LONGEST_S,
    Upstream,
    Upstreams,
)


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def upstreams_of(count: int, clock: Clock, balance: str = "round-robin") -> Upstreams:
    return Upstreams([TcpAddress("h", port) for port in range(1, count + 1)], balance, clock)


def chosen(upstreams: Upstreams, *refused: Upstream) -> Upstream:
    upstream = upstreams.choose(refused)
    assert upstream is not None
    return upstream


def fail(upstreams: Upstreams, clock: Clock, index: int) -> None:
    upstreams.all[index].begin()
    upstreams.all[index].failed(clock())


def test_round_robin_goes_in_turn(clock: Clock) -> None:
    upstreams = upstreams_of(3, clock)
    ports = [chosen(upstreams).address.port for _ in range(7)]
    assert ports == [1, 2, 3, 1, 2, 3, 1]


def test_least_connections_takes_who_has_fewest_and_goes_in_turn_among_equals(
    clock: Clock,
) -> None:
    upstreams = upstreams_of(3, clock, "least-connections")
    first, second, third = (chosen(upstreams) for _ in range(3))
    assert [first, second, third] == upstreams.all
    second.connected()
    second.ended()
    assert chosen(upstreams) is second
    assert chosen(upstreams) is third, "all have one again: after the second comes the third"


def test_connections_that_are_being_made_count(clock: Clock) -> None:
    upstreams = upstreams_of(2, clock, "least-connections")
    assert chosen(upstreams) is not chosen(upstreams)


def test_who_failed_is_passed_over_until_its_time_is_over(clock: Clock) -> None:
    upstreams = upstreams_of(2, clock)
    fail(upstreams, clock, 0)
    assert [chosen(upstreams) for _ in range(3)] == [upstreams.all[1]] * 3
    clock.now += BACK_OFF_FIRST_S
    assert upstreams.all[0] in [chosen(upstreams), chosen(upstreams)]


def test_one_client_alone_tries_who_had_failed(clock: Clock) -> None:
    upstreams = upstreams_of(2, clock)
    failed, other = upstreams.all
    fail(upstreams, clock, 0)
    clock.now += BACK_OFF_FIRST_S
    tries = [chosen(upstreams) for _ in range(4)]
    assert tries.count(failed) == 1
    assert failed.connected(), "had been failing before"
    assert failed in [chosen(upstreams), chosen(upstreams)], "and serves everybody again"
    assert not other.connected()


def test_a_failed_trial_doubles_the_time(clock: Clock) -> None:
    upstreams = upstreams_of(2, clock)
    fail(upstreams, clock, 0)
    clock.now += BACK_OFF_FIRST_S
    fail(upstreams, clock, 0)
    clock.now += 1.5 * BACK_OFF_FIRST_S
    assert {chosen(upstreams) for _ in range(2)} == {upstreams.all[1]}
    clock.now += 0.5 * BACK_OFF_FIRST_S
    assert upstreams.all[0] in [chosen(upstreams), chosen(upstreams)]


def test_a_given_up_trial_lets_the_next_client_try(clock: Clock) -> None:
    upstreams = upstreams_of(1, clock)
    fail(upstreams, clock, 0)
    clock.now += BACK_OFF_FIRST_S
    chosen(upstreams).given_up()
    assert upstreams.all[0].is_usable(clock())
    assert upstreams.all[0].open == 0


def test_where_all_back_off_the_one_whose_time_ends_first_is_tried(clock: Clock) -> None:
    upstreams = upstreams_of(3, clock)
    for index in (1, 2, 0):
        fail(upstreams, clock, index)
        clock.now += 0.1
    assert chosen(upstreams) is upstreams.all[1]
    assert chosen(upstreams) is upstreams.all[1], "its time has not changed"


def test_a_client_tries_each_usable_one_once(clock: Clock) -> None:
    upstreams = upstreams_of(3, clock)
    refused: list[Upstream] = []
    while (upstream := upstreams.choose(refused)) is not None:
        upstream.failed(clock())
        refused.append(upstream)
    assert refused == upstreams.all
    assert [each.open for each in refused] == [0, 0, 0]
    assert [each.failures for each in refused] == [1, 1, 1]


def test_many_clients_refused_at_once_are_one_failure(clock: Clock) -> None:
    """Otherwise a burst of connections would send an upstream away for the longest time."""
    upstreams = upstreams_of(1, clock)
    for _ in range(50):
        upstreams.all[0].begin()
    assert [upstreams.all[0].failed(clock()) for _ in range(50)] == [BACK_OFF_FIRST_S] * 50
    assert upstreams.all[0].failures == 50


def test_back_off_doubles_up_to_the_longest_and_begins_anew() -> None:
    back_off = BackOff(1.0, 8.0)
    now = 0.0
    delays = []
    for _ in range(40):
        delays.append(back_off.failed(now))
        now = back_off.until
    assert delays == [1.0, 2.0, 4.0] + [8.0] * 37
    back_off.succeeded()
    assert back_off.is_over(now)
    assert back_off.failed(now) == 1.0


def test_back_off_never_overflows() -> None:
    back_off = BackOff(BACK_OFF_FIRST_S, BACK_OFF_LONGEST_S)
    back_off.failures = 5000
    assert back_off.failed(0.0) == BACK_OFF_LONGEST_S
