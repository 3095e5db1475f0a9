"""What a feature costs: that both sides are measured, and that what is missing is told."""

from __future__ import annotations

import re

import pytest
from loops import io_uring_refusal

from bench import feature_cost
from uringloop.driver.features import Trial

needs_io_uring = pytest.mark.skipif(io_uring_refusal() is not None, reason=str(io_uring_refusal()))


@needs_io_uring
@pytest.mark.parametrize("feature", ["restricted_ring", "single_issuer"])
def test_a_ring_and_a_request_are_measured_with_it_and_without(
    feature: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert feature_cost.main([feature, "--rounds", "2"]) == 0
    ring, request = capsys.readouterr().out.splitlines()
    for line, unit in ((ring, "us"), (request, "ns")):
        found = re.search(rf"([\d.]+) {unit} without, +([\d.]+) {unit} with: ([+-][\d.]+)$", line)
        assert found, line
        without, having, difference = map(float, found.groups())
        assert without > 0
        assert difference == pytest.approx(having - without, abs=0.2)


def test_who_is_first_changes_and_each_side_is_measured_as_often() -> None:
    asked: list[int] = []

    def measure(features: int) -> float:
        asked.append(features)
        return float(features)

    assert feature_cost.in_turn(measure, 0b111, 0b100, 2) == ([3.0, 3.0], [7.0, 7.0])
    assert asked == [7, 3, 3, 7]


def test_a_feature_that_cannot_be_had_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(feature_cost, "try_kernel", lambda _: Trial(0, "io_uring_setup", 1))
    assert feature_cost.main(["restricted_ring"]) == 1
    assert capsys.readouterr().err == "restricted_ring cannot be had here\n"


def test_what_is_no_feature_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        feature_cost.main(["io_uring"])
    assert refused.value.code == 2
    assert "invalid choice" in capsys.readouterr().err
