"""Every scenario on both engines, with faults at the border; a failing seed says what repeats it.

FAULTS_SEEDS=500   so many seeds of each scenario on each engine, in place of a few
FAULTS_SEED=17     this one alone
"""

from __future__ import annotations

import gc
import os
from collections import Counter
from collections.abc import Iterator

import pytest
from certificates import UNCLOSED_ON_3_10
from extent import IS_LONG
from loops import OURS, io_uring_refusal

from tests.faults.world import SCENARIOS, RealWorld, command_of, run_real
from tests.simulator.world import Scenario

SEEDS = int(os.environ.get("FAULTS_SEEDS", "40" if IS_LONG else "5"))
SEEDS_IN_ONE_TEST = 5
ONE_SEED = os.environ.get("FAULTS_SEED")

BATCHES = (
    [range(int(ONE_SEED), int(ONE_SEED) + 1)]
    if ONE_SEED
    else [
        range(first, min(first + SEEDS_IN_ONE_TEST, SEEDS))
        for first in range(0, SEEDS, SEEDS_IN_ONE_TEST)
    ]
)

pytestmark = [pytest.mark.filterwarnings(line) for line in UNCLOSED_ON_3_10]


def _parameter(backend: str) -> object:
    refusal = io_uring_refusal() if backend == "io_uring" else None
    return pytest.param(backend, marks=[pytest.mark.skip(reason=refusal)] if refusal else [])


@pytest.fixture(params=[_parameter(backend) for backend in OURS])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(autouse=True)
def nothing_forgotten() -> Iterator[None]:
    """What a run leaves to the garbage collector complains in the test that left it."""
    gc.freeze()
    yield
    gc.collect()


def run_seed(scenario: Scenario, seed: int, backend: str) -> RealWorld:
    """The run; whatever goes wrong is told with the line that repeats it."""
    try:
        return run_real(scenario, seed, backend)
    except Exception as error:
        line = command_of(scenario, seed, backend)
        pytest.fail(f"{type(error).__name__}: {error}\n\n    {line}\n")


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda each: each.__name__)
@pytest.mark.parametrize("seeds", BATCHES, ids=lambda seeds: f"{seeds.start}-{seeds.stop - 1}")
def test_every_invariant_holds(scenario: Scenario, seeds: range, backend: str):
    for seed in seeds:
        run_seed(scenario, seed, backend)


# What an engine does not ask the kernel for, nobody can refuse it.
OF_IO_URING = {
    "a cancel that found nothing",
    "a multishot that ended",
    "a poll that misled",
    "an enter that took a part",
    "an enter that was refused",
    "completions that came late",
    "no receive buffer",
}
OF_EPOLL = {"fewer reports than there are"}


@pytest.mark.timeout(300)
def test_a_few_seeds_meet_every_kind_of_fault(backend: str):
    counts: Counter[str] = Counter()
    for scenario in SCENARIOS[:8]:
        for seed in range(20, 30):
            counts.update(run_seed(scenario, seed, backend).met)
    foreign = OF_IO_URING if backend == "epoll" else OF_EPOLL
    assert {kind for kind, count in counts.items() if not count} == foreign
