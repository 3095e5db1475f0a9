"""Every scenario on many seeds; a failing one says the line that repeats it.

SIMULATOR_SEEDS=5000    so many seeds of each scenario, in place of a few
SIMULATOR_SEED=17       this one alone
"""

from __future__ import annotations

import errno
import gc
import gzip
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from certificates import UNCLOSED_ON_3_10

from tests.simulator.engine import SimulatedEngine
from tests.simulator.kernel import BEGINNING_NS
from tests.simulator.memory import Command
from tests.simulator.requests import Request
from tests.simulator.scenarios import ALL
from tests.simulator.scenarios.calls import accept_cancel, sendfile, sock_cancel
from tests.simulator.scenarios.datagrams import udp, udp_calls
from tests.simulator.scenarios.echoing import echo, half_close, proxy
from tests.simulator.scenarios.flow import pause_resume, pipes
from tests.simulator.scenarios.relaying import relay
from tests.simulator.scenarios.tls import start_tls, tls_echo
from tests.simulator.world import Scenario, SimulatedWorld, command_of, run
from uringloop.errors import ANSWERS

ROOT = Path(__file__).resolve().parent.parent.parent

SEEDS = int(os.environ.get("SIMULATOR_SEEDS", "20"))
SEEDS_IN_ONE_TEST = 20
ONE_SEED = os.environ.get("SIMULATOR_SEED")

BATCHES = (
    [range(int(ONE_SEED), int(ONE_SEED) + 1)]
    if ONE_SEED
    else [range(first, first + SEEDS_IN_ONE_TEST) for first in range(0, SEEDS, SEEDS_IN_ONE_TEST)]
)

pytestmark = [pytest.mark.filterwarnings(line) for line in UNCLOSED_ON_3_10]
per_scenario = pytest.mark.parametrize("scenario", ALL, ids=lambda each: each.__name__)


@pytest.fixture(autouse=True)
def nothing_forgotten() -> Iterator[None]:
    """What a run leaves to the garbage collector complains in the test that left it."""
    gc.freeze()
    yield
    gc.collect()


def run_seed(
    scenario: Scenario, seed: int, engine: type[SimulatedEngine] = SimulatedEngine
) -> SimulatedWorld:
    """The run; whatever goes wrong is told with the line that repeats it."""
    try:
        return run(scenario, seed, engine)
    except Exception as error:
        pytest.fail(f"{type(error).__name__}: {error}\n\n    {command_of(scenario, seed)}\n")


@per_scenario
@pytest.mark.parametrize("seeds", BATCHES, ids=lambda seeds: f"{seeds.start}-{seeds.stop - 1}")
def test_every_invariant_holds(scenario: Scenario, seeds: range):
    for seed in seeds:
        run_seed(scenario, seed)


@per_scenario
def test_a_seed_is_the_same_run_again(scenario: Scenario):
    for seed in (3, 4):
        first, second = run(scenario, seed), run(scenario, seed)
        assert first.engine.trace == second.engine.trace
        assert first.kernel.now_ns == second.kernel.now_ns


SHOW = """
import sys, zlib
from tests.simulator.engine import SimulatedEngine
from tests.simulator.kernel import BEGINNING_NS
from tests.simulator.memory import Command
from tests.simulator.requests import Request
from tests.simulator.scenarios import ALL
from tests.simulator.scenarios.calls import accept_cancel, sendfile, sock_cancel
from tests.simulator.scenarios.datagrams import udp, udp_calls
from tests.simulator.scenarios.echoing import echo, half_close, proxy
from tests.simulator.scenarios.flow import pause_resume, pipes
from tests.simulator.scenarios.tls import start_tls, tls_echo
from tests.simulator.world import run
for scenario in ALL:
    for seed in (5,):
        print(scenario.__name__, seed, zlib.crc32(repr(run(scenario, seed).engine.trace).encode()))
"""


def test_a_seed_is_the_same_run_in_another_process():
    """Whatever the hashes of strings are there, and the places of objects."""
    shown = []
    for hash_seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        shown.append(
            subprocess.run(
                [sys.executable, "-c", SHOW],
                cwd=ROOT,
                env=environment,
                check=True,
                capture_output=True,
                text=True,
                timeout=50,
            ).stdout
        )
    assert shown[0] == shown[1]
    assert len(shown[0].splitlines()) == len(ALL)


def test_another_seed_is_another_run():
    traces = {tuple(run(scenario, seed).engine.trace) for scenario in ALL[:2] for seed in (1, 2)}
    assert len(traces) == 4


def test_no_real_time_passes():
    """Of timers that take seconds there are enough."""
    before = time.monotonic()
    virtual_s = sum((run(scenario, 1).kernel.now_ns - BEGINNING_NS) / 1e9 for scenario in ALL)
    assert virtual_s > 1_000
    assert time.monotonic() - before < 100


MET = {
    "a cancel of nothing",
    "a cancel of what no turn had taken",
    "a cancel that lost",
    "a cancel that won",
    "a turn without a look",
    "a wait that ended early",
    "an error",
    "bytes that were only told",
    "more events than fit",
    "no receive buffer left",
    "progress without an event",
    "receive buffers that were short",
}


def test_a_few_seeds_meet_what_the_simulator_is_for():
    met: Counter[str] = Counter()
    for scenario in ALL:
        for seed in range(6):
            met += run(scenario, seed).engine.met
    assert set(met) == MET


class Refusing(SimulatedEngine):
    """Fails one operation by one errno, on its n-th request; then all is as usual."""

    operation = ""
    error = 0
    left = 0

    def _start(self, command: Command) -> None:
        super()._start(command)
        request = self.requests.get(command.token)
        if request is not None and request.name == self.operation and request.target.number:
            self.left -= 1
            if self.left == 0:
                request.fails_at = self.kernel.now_ns
                request.forced = self.error

    def pick_error(self, request: Request) -> int:
        if not request.forced:
            return super().pick_error(request)
        return self.kernel.pick_error(request.name, [request.forced])


ERRORS = [(name, error) for name, errors in ANSWERS.items() for error in sorted(errors)]
SCENARIOS_OF = {
    "accept": [echo, accept_cancel],
    "recv": [pause_resume, sock_cancel, start_tls],
    "send": [proxy, sock_cancel, tls_echo],
    "connect": [half_close, accept_cancel],
    "poll": [udp, pipes],
    "recvmsg": [udp, udp_calls],
    "sendmsg": [udp_calls],
    "sendfile": [sendfile],
    "relay": [relay],
}


@pytest.mark.parametrize(
    ("operation", "error"),
    ERRORS,
    ids=[f"{name}-{errno.errorcode[error]}" for name, error in ERRORS],
)
def test_every_errno_of_every_operation_is_survived(operation: str, error: int):
    injected = 0
    for scenario in SCENARIOS_OF[operation]:
        for nth in (1, 2):
            kind = type(
                "Refusing", (Refusing,), {"operation": operation, "error": error, "left": nth}
            )
            for seed in (11, 12):
                injected += run_seed(scenario, seed, kind).kernel.injected[operation, error]
    assert injected


PAGES = {
    "accept": ["accept.2"],
    "recv": ["recv.2", "tcp.7", "unix.7"],
    "send": ["send.2", "tcp.7", "unix.7"],
    "connect": ["connect.2", "ip.7"],
    "poll": ["poll.2", "epoll_ctl.2"],
    "recvmsg": ["recv.2", "ip.7", "connect.2"],
    "sendmsg": ["send.2", "ip.7", "udp.7", "connect.2"],
    "sendfile": ["sendfile.2", "send.2", "tcp.7"],
    "relay": ["recv.2", "send.2", "tcp.7", "unix.7"],
}


def page(name: str) -> str:
    path = Path(f"/usr/share/man/man{name[-1]}/{name}.gz")
    if not path.exists():
        pytest.skip(f"the manual page {name} is not installed")
    return gzip.decompress(path.read_bytes()).decode()


@pytest.mark.parametrize("operation", ANSWERS)
def test_an_errno_is_in_the_manual(operation: str):
    text = "".join(page(name) for name in PAGES[operation])
    words = set(re.findall(r"\bE[A-Z0-9]+\b", text))
    listed = {getattr(errno, word, 0) for word in words}
    assert ANSWERS[operation] - listed == set()
