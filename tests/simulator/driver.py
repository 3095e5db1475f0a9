"""A driver with the simulated engine behind it, of the same face as uringloop's own."""

from __future__ import annotations

from typing import Any

from tests.simulator.engine import SimulatedEngine
from tests.simulator.kernel import Kernel
from tests.simulator.memory import address_of
from uringloop.driver.choose import Choice
from uringloop.driver.driver import DriverState
from uringloop.driver.in_flight import InFlight
from uringloop.driver.rings import Rings


class SimulatedDriver:
    """What EventLoop takes as `driver`.

    engine   the class of the engine, for those that are wrong on purpose
    """

    def __init__(self, kernel: Kernel, engine: type[SimulatedEngine]) -> None:
        self.choice = Choice("simulated", "a test asks for it", 0)
        self.monotonic = kernel.monotonic
        self.in_flight = InFlight()
        self.rings = Rings()
        self.engine = engine(kernel)
        memory = self.engine.memory
        self.rings.bind(
            address_of(memory.shared),  # an engine that nobody looks into
            address_of(memory.shared),
            address_of(self.engine.turn_pointer),
            memory.grow,
        )

    def explain(self, answer: int) -> None:
        """A turn that failed is a fault of the simulator, or a loop that is stuck."""
        failure = self.engine.failure
        assert failure is not None, f"a turn answered {answer}"
        raise failure

    def belongs_elsewhere(self) -> bool:
        return False

    def wake_from_any_thread(self) -> None:
        self.engine.is_woken = True

    def state(self) -> DriverState:
        shared = self.engine.memory.shared
        counters: dict[str, Any] = {"turns": self.engine.turn_number}
        return DriverState(len(self.engine.requests), shared.buffers_held, (), counters)

    def close(self) -> None:
        """Stops everything, without events."""
        self.rings.unbind()
        self.engine.requests.clear()
        for operation in self.in_flight.operations():
            operation.abandoned()
        self.in_flight = InFlight()
