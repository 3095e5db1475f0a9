"""When a worker's place is filled again, without processes: the times are the test's."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import pytest

from tests.proxy.proxying import logged
from uringloop.proxy.counters import Counters, SharedRows, UpstreamCounters, added, from_numbers
from uringloop.proxy.errors import ExitStatus
from uringloop.proxy.listening import Listeners
from uringloop.proxy.shared_status import SharedStatus
from uringloop.proxy.supervisor import (
    RESTART_FIRST_S,
    RESTART_FORGIVEN_S,
    RESTART_LONGEST_S,
    Supervisor,
    Worker,
)


@pytest.fixture
def worker() -> Iterator[Worker]:
    worker = Worker(0, [])
    yield worker
    if worker.orders_fd >= 0:
        os.close(worker.orders_fd)


def live_and_die(worker: Worker, begin: float, lived_s: float) -> float:
    reading, writing = os.pipe()
    worker.started_as(1234, writing, begin)
    os.close(reading)
    return worker.ended(begin + lived_s)


def test_the_first_worker_is_due_at_once(worker: Worker) -> None:
    assert worker.is_due(0.0)


def test_a_place_that_is_taken_is_not_due(worker: Worker) -> None:
    reading, writing = os.pipe()
    worker.started_as(1234, writing, 0.0)
    assert not worker.is_due(1e9)
    os.close(reading)


def test_workers_that_die_young_are_replaced_later_and_later(worker: Worker) -> None:
    now, delays = 0.0, []
    for _ in range(12):
        delays.append(live_and_die(worker, now, 0.1))
        assert not worker.is_due(now + 0.1)
        now = worker.back_off.until
        assert worker.is_due(now)
    assert delays[:3] == [RESTART_FIRST_S, 2 * RESTART_FIRST_S, 4 * RESTART_FIRST_S]
    assert delays[-1] == RESTART_LONGEST_S


def test_a_worker_that_has_lived_is_forgiven(worker: Worker) -> None:
    for now in (0.0, 100.0, 200.0):
        live_and_die(worker, now, 0.0)
    assert live_and_die(worker, 300.0, RESTART_FORGIVEN_S) == RESTART_FIRST_S


def test_an_order_to_a_worker_that_has_just_died_is_lost_silently(worker: Worker) -> None:
    reading, writing = os.pipe()
    worker.started_as(1234, writing, 0.0)
    os.close(reading)
    worker.order(b"d")


# -- what is shown of them ----------------------------------------------------------------

ONE = Counters(2, 10, 1, 1000, 2000, (UpstreamCounters(1, 4, 0), UpstreamCounters(1, 0, 1)))
OTHER = Counters(1, 5, 0, 10, 20, (UpstreamCounters(0, 1, 1), UpstreamCounters(1, 0, 1)))


class Shown:
    """A terminal that remembers."""

    def __init__(self) -> None:
        self.counters: list[Counters] = []
        self.lines: list[str] = []

    def show(self, counters: Counters) -> None:
        self.counters.append(counters)

    def print_line(self, line: str) -> None:
        self.lines.append(line)


def test_counters_survive_as_numbers_and_are_added() -> None:
    assert from_numbers(ONE.numbers()) == ONE
    assert added([ONE.numbers(), OTHER.numbers()]) == Counters(
        3, 15, 1, 1010, 2020, (UpstreamCounters(1, 5, 1), UpstreamCounters(2, 0, 2))
    )


# The threads that os.fork() warns of are those of the test runner.
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_child_writes_rows_that_its_parent_reads() -> None:
    rows = SharedRows(2, 2)
    pid = os.fork()
    if pid == 0:
        rows.publish(1, ONE)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert rows.row(1) == ONE.numbers()
    assert rows.row(0) == [0] * len(ONE.numbers())
    rows.close()


def test_what_a_worker_had_counted_stays_when_it_ends_but_for_what_was_open() -> None:
    shown = Shown()
    status = SharedStatus(shown, 2, 2)
    status._rows.publish(0, ONE)
    status._rows.publish(1, OTHER)
    status.show()
    status.worker_ended(0)
    status.show()
    status._rows.publish(0, ONE)
    status.show()
    status.close()
    assert [each.open for each in shown.counters] == [3, 1, 3]
    assert [each.accepted for each in shown.counters] == [15, 15, 25]
    assert [each.upstreams[0].failures for each in shown.counters] == [5, 5, 9]
    assert [each.upstreams[1].backing_off for each in shown.counters] == [2, 1, 2]


def test_lines_of_workers_are_shown_whole_however_they_arrive() -> None:
    shown = Shown()
    status = SharedStatus(shown, 1, 1)
    for piece in (b"one\ntw", b"o\n", b"\xff\nrest"):
        os.write(status._writing_fd, piece)
        status.print_lines()
    status.close()
    assert shown.lines == ["one", "two", "\\xff"]


def test_the_last_words_of_workers_are_shown() -> None:
    shown = Shown()
    status = SharedStatus(shown, 1, 1)
    os.write(status._writing_fd, b"one\ntwo\n")
    status.print_rest()
    status.print_rest()
    status.close()
    assert shown.lines == ["one", "two"]


def test_a_worker_that_cannot_be_forked_is_tried_again_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """fork() fails twice, as where there are too many processes; then the parent is stopped."""
    forks: list[float] = []

    def fork() -> int:
        forks.append(time.monotonic())
        if len(forks) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr("uringloop.proxy.supervisor.RESTART_FIRST_S", 0.01)
    monkeypatch.setattr(os, "fork", fork)
    listeners = Listeners([[]], [], None)
    supervisor = Supervisor(listeners, lambda *_: 0, 1.0, lambda: None)
    with logged() as events:
        assert supervisor.run() == ExitStatus.DRAINED
    assert len(forks) == 2
    assert [fields["worker"] for fields in events.of("worker_failed")] == [0, 0]
