"""The scenarios of set_zero_copy(): both ways are measured, the bytes are right, and a loop without
it is missing in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from loops import io_uring_refusal

from bench.children import Cores
from bench.errors import MissingError
from bench.scenario import Sample
from bench.scenarios import uncopied
from bench.scenarios.sendfile import KIB, MIB, FileOnDisk
from bench.scenarios.uncopied import Uncopied
from bench.scenarios.uncopied_server import PiecesProtocol, pieces_of
from uringloop.driver.features import FEATURE_BITS, try_kernel

ANYWHERE = Cores(None, None)


def zero_copy_refusal() -> str:
    """Why nothing is sent without a copy here; empty where it is."""
    if not try_kernel(0).features & FEATURE_BITS["zero_copy"]:
        return io_uring_refusal() or "the kernel has no zero_copy (6.1)"
    return ""


needs_zero_copy = pytest.mark.skipif(bool(zero_copy_refusal()), reason=zero_copy_refusal())


class Transport:
    """Notes what is asked of it, and asks for a pause after each `pause_after` writes."""

    def __init__(self, protocol: PiecesProtocol, pause_after: int) -> None:
        self.written: list[bytes] = []
        self.thresholds: list[int] = []
        self._protocol = protocol
        self._pause_after = pause_after

    def set_zero_copy(self, threshold_bytes: int) -> bool:
        self.thresholds.append(threshold_bytes)
        return True

    def write(self, data: bytes) -> None:
        self.written.append(data)
        if len(self.written) % self._pause_after == 0:
            self._protocol.pause_writing()


def connected(threshold_bytes: int | None, pause_after: int) -> tuple[PiecesProtocol, Transport]:
    protocol = PiecesProtocol([b"a", b"b", b"c"], threshold_bytes)
    transport: Any = Transport(protocol, pause_after)
    protocol.connection_made(transport)
    return protocol, transport


@needs_zero_copy
@pytest.mark.parametrize("write_bytes", [100_000, MIB])
def test_both_ways_are_measured_with_the_same_bytes(write_bytes: int) -> None:
    """The client has compared the first answer of each; 4 MiB are asked for at a time."""
    sample = Uncopied(write_bytes, 0.01, 0.05).run_round("uringloop", ANYWHERE)
    assert sample.operations > 0 and sample.operations % 4 == 0
    copied, ratio = sample.extra["CPU µs/MiB copied"], sample.extra["ratio to copied"]
    assert sample.cpu_us_per_operation == pytest.approx(ratio * copied)
    assert copied > 0 and ratio > 0


def test_the_ratio_is_that_of_the_cpu_time_of_a_mib(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {
        "copied": Sample(operations=10, seconds=1.0, measured_cpu_s=0.2),
        "uncopied": Sample(operations=5, seconds=1.0, measured_cpu_s=0.3),
    }
    scenario = Uncopied(MIB, 0.0, 0.0)
    monkeypatch.setattr(scenario, "_measured", lambda loop, way, cores: answers[way])
    sample = scenario.run_round("uringloop", ANYWHERE)
    assert sample.operations == 20
    assert sample.cpu_us_per_operation == pytest.approx(15_000)
    assert sample.extra == {
        "CPU µs/MiB copied": pytest.approx(5000),
        "ratio to copied": pytest.approx(3),
    }


def test_a_loop_without_it_is_missing_in_its_own_words() -> None:
    words = "asyncio: transport.set_zero_copy: AttributeError: .*no attribute 'set_zero_copy'"
    with pytest.raises(MissingError, match=words):
        Uncopied(MIB, 0.0, 0.0).run_round("asyncio", ANYWHERE)


def test_where_it_has_no_effect_it_is_missing() -> None:
    with pytest.raises(MissingError, match=r"uringloop-epoll: set_zero_copy\(\) has no effect"):
        Uncopied(MIB, 0.0, 0.0).run_round("uringloop-epoll", ANYWHERE)


def test_only_loops_that_may_have_it_are_asked() -> None:
    (*_, scenario) = uncopied.scenarios("full")
    assert scenario.runs_on("uringloop") and scenario.runs_on("uringloop-auto")
    assert not any(map(scenario.runs_on, ("uringloop-epoll", "uvloop", "asyncio", "c-io_uring")))


def test_the_sizes_are_tables_of_the_full_matrix() -> None:
    assert [each.title for each in uncopied.scenarios("full")] == [
        "set_zero_copy, TCP, one way, writes of 64 KiB",
        "set_zero_copy, TCP, one way, writes of 256 KiB",
        "set_zero_copy, TCP, one way, writes of 1 MiB",
    ]
    assert uncopied.scenarios("quick") == []


def test_a_file_is_written_in_pieces_of_that_size() -> None:
    file = FileOnDisk(150 * KIB)
    pieces = pieces_of(file.path, 64 * KIB)
    assert [len(piece) for piece in pieces] == [64 * KIB, 64 * KIB, 22 * KIB]
    assert b"".join(pieces) == Path(file.path).read_bytes()


@pytest.mark.parametrize(("threshold_bytes", "asked"), [(7, [7]), (None, [])])
def test_a_transport_is_asked_only_where_nothing_is_to_be_copied(
    threshold_bytes: int | None, asked: list[int]
) -> None:
    _, transport = connected(threshold_bytes, pause_after=9)
    assert transport.thresholds == asked


@pytest.mark.parametrize("pause_after", [1, 2, 3, 9])
def test_each_request_is_answered_with_all_pieces_whatever_the_pauses(pause_after: int) -> None:
    protocol, transport = connected(None, pause_after)
    for _ in range(2):
        protocol.data_received(b"?")
        for _ in range(3):
            protocol.resume_writing()
    assert b"".join(transport.written) == b"abcabc"


def test_nothing_is_written_during_a_pause() -> None:
    protocol, transport = connected(None, pause_after=2)
    protocol.data_received(b"?")
    assert transport.written == [b"a", b"b"]
    protocol.resume_writing()
    assert transport.written == [b"a", b"b", b"c"]
