"""A loop's own machinery as scenarios of the matrix: callbacks, timers, tasks, threads, children.

The measured process (repeat.py) is its own load, and alone on its core. What it repeats is
in bench/bodies.py.
"""

from __future__ import annotations

from bench.bodies import BODIES
from bench.children import Child, Cores, python_command
from bench.errors import MissingError
from bench.loops import is_python
from bench.scenario import Sample, Scenario
from bench.scenarios.repeat import LOOP_CREATION

# What a call may need beyond warm-up and measuring: the interpreter, and the last call.
SLACK_S = 20.0
QUICK_BODIES = ("call_soon chain", "sleep(0)", "subprocess spawn")


class Machinery:
    """One body on one loop, in a process of its own."""

    def __init__(self, body: str, operation: str, warmup_s: float, seconds: float) -> None:
        self.title = body
        self.operation = operation
        self._warmup_s = warmup_s
        self._seconds = seconds

    def runs_on(self, loop: str) -> bool:
        return is_python(loop)

    def run_round(self, loop: str, cores: Cores) -> Sample:
        with Child(self._command(loop), cores.measured) as child:
            answer = child.read_answer(self._warmup_s + self._seconds + SLACK_S)
        if "missing" in answer:
            raise MissingError(answer["missing"])
        return Sample(answer["operations"], answer["seconds"], answer["cpu_s"])

    def _command(self, loop: str) -> list[str]:
        times = (str(self._warmup_s), str(self._seconds))
        return python_command("bench.scenarios.repeat", loop, self.title, *times)


def scenarios(extent: str) -> list[Scenario]:
    """All bodies for a fifth of a second each, or a few for less."""
    if extent == "quick":
        return [Machinery(name, BODIES[name].operation, 0.02, 0.06) for name in QUICK_BODIES]
    every = [Machinery(name, body.operation, 0.05, 0.2) for name, body in BODIES.items()]
    return [*every, Machinery(LOOP_CREATION, "loop", 0.05, 0.2)]
