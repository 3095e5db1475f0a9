"""One run of a scenario on a real engine whose border has faults, and the audit of what is left."""

from __future__ import annotations

import gc
import zlib
from collections import Counter
from collections.abc import Iterator
from typing import Any

from audit import open_descriptors

from tests.faults.border import REGISTER, REGISTER_ANSWERS, allow, faults, met
from tests.faults.driver import FaultyDriver
from tests.faults.kernel import RealKernel
from tests.simulator.chance import Chance
from tests.simulator.scenarios import ALL
from tests.simulator.scenarios.datagrams import udp, udp_calls
from tests.simulator.scenarios.timing import timers
from tests.simulator.streams import Connection
from tests.simulator.world import FailedError, Scenario, World, run_in
from uringloop.driver.binding import lib
from uringloop.errors import ANSWERS

# The others look into simulated sockets, or at nothing but the virtual clock.
SCENARIOS = [each for each in ALL if each not in (udp, udp_calls, timers)]


class RealWorld(World):
    """On real sockets.

    met   how often each kind of fault came
    """

    met: Counter[str]

    def __init__(self, seed: int, name: str, backend: str) -> None:
        kernel = RealKernel(Chance(seed, f"{name}, the border of {backend}"))
        super().__init__(seed, name, kernel, FaultyDriver(kernel, backend))

    def connection_of(self, sock: Any) -> Connection:
        connection = self.kernel.connection_of(sock.fileno())
        assert connection is not None
        return connection

    def leftovers(self) -> Iterator[str]:
        yield from super().leftovers()
        in_flight = self.driver.state().in_flight - self.loop._watches.is_armed
        if in_flight:
            yield f"{in_flight} operations in flight"


def run_real(scenario: Scenario, seed: int, backend: str) -> RealWorld:
    """Runs one scenario on one seed.

    raises   FailedError, StuckError, or whatever came of a bug
    """
    before, held_before = open_descriptors(), lib.ub_memory_held()
    world = RealWorld(seed, scenario.__name__, backend)
    allow({**ANSWERS, REGISTER: REGISTER_ANSWERS})
    with faults(zlib.crc32(f"{scenario.__name__} {seed}".encode()), world.kernel.chance.temper):
        run_in(world, scenario)
        world.met = met()
    left = open_descriptors() - before
    if left:
        gc.collect()
        left = open_descriptors() - before
    if lib.ub_memory_held() != held_before:
        raise FailedError(f"{lib.ub_memory_held() - held_before} pieces of memory are leaked")
    if left:
        raise FailedError(f"descriptors are open: {left}")
    return world


def command_of(scenario: Scenario, seed: int, backend: str) -> str:
    """The line that runs this seed again."""
    return f"FAULTS_SEED={seed} pytest tests/faults -k '{scenario.__name__} and {backend}'"
