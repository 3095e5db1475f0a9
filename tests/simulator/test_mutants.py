"""The simulator finds mistakes: in uringloop, and in a kernel that does what none may.

A test of the oracles, not of uringloop.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulator.engine import SimulatedEngine
from tests.simulator.memory import Command
from tests.simulator.mutants import MUTANTS, Mutant, mistaken, write
from tests.simulator.requests import Answer, Request
from tests.simulator.scenarios import ALL
from tests.simulator.world import run

ROOT = Path(__file__).resolve().parent.parent.parent

# Until the first seed that fails, of one scenario or of all.
HUNT = """
import gc, logging, sys, warnings
logging.disable(logging.CRITICAL)
warnings.simplefilter("ignore")
sys.unraisablehook = lambda _: None
gc.disable()
from tests.simulator.scenarios import ALL
from tests.simulator.world import command_of, run
hunted = [each for each in ALL if each.__name__ in sys.argv[1:]]
for seed in range(200):
    for scenario in hunted or ALL:
        try:
            run(scenario, seed)
        except Exception as error:
            print("found:", repr(error)[:300], command_of(scenario, seed))
            sys.stdout.flush()
            import os; os._exit(3)
"""


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mistake_can_still_be_made(mutant: Mutant):
    """In the source as it is now, and it is Python. That it is found is the long form."""
    compile(mistaken(mutant), mutant.file, "exec")


@pytest.mark.skipif("SIMULATOR_SEEDS" not in os.environ, reason="the long form: SIMULATOR_SEEDS")
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mistake_is_found(mutant: Mutant, tmp_path: Path):
    write(mutant, tmp_path)
    environment = {**os.environ, "URINGLOOP_PURE": "1", "PYTHONPATH": str(ROOT)}
    hunt = subprocess.run(
        [sys.executable, "-c", HUNT, mutant.scenario],
        cwd=tmp_path,
        env=environment,
        check=False,
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert hunt.returncode == 3, hunt.stdout + hunt.stderr
    assert "found:" in hunt.stdout


class Swapping(SimulatedEngine):
    """Gives two pieces of a stream in the wrong order."""

    def _answer(self, request: Request) -> Answer | None:
        if request.name == "recv" and len(request.target.inbox) > 50:
            inbox = request.target.inbox
            inbox[:50] = inbox[25:50] + inbox[:25]
        return super()._answer(request)


class Forgetting(SimulatedEngine):
    """Loses a byte of a send that it says was sent."""

    def _answer(self, request: Request) -> Answer | None:
        answer = super()._answer(request)
        if request.name == "send" and request.done > 60:
            del request.target.outbox[-1:]
        return answer


class Deaf(SimulatedEngine):
    """Does not hear of cancels."""

    def _cancel(self, token: int) -> None:
        pass


class Early(SimulatedEngine):
    """Takes receive buffers back while the program reads them."""

    def _give(self, request: Request, answer: Answer) -> None:
        super()._give(request, answer)
        held = self.memory.shared.buffers_held
        if request.name == "recv":
            for chunk in self.memory._lent:
                self.memory._poison(chunk)
        self.memory.shared.buffers_held = held


class Leaking(SimulatedEngine):
    """Has a connection for a server that has stopped, and does not tell of it."""

    def _answer(self, request: Request) -> Answer | None:
        answer = super()._answer(request)
        if request.name == "accept" and request.cancelled and not request.is_once:
            self.kernel.stream_socket().detach()
        return answer


class Silent(SimulatedEngine):
    """Never gives the final event of a cancelled operation."""

    def _give(self, request: Request, answer: Answer) -> None:
        if request.cancelled and answer.final:
            del self.requests[request.command.token]
        else:
            super()._give(request, answer)


class Stuttering(SimulatedEngine):
    """Starts a command twice, where nobody would see it but by the bytes."""

    def _start(self, command: Command) -> None:
        super()._start(command)
        request = self.requests.get(command.token)
        if request is not None and request.name == "send" and command.length > 60:
            request.target.outbox += b"?"


WRONG = [Swapping, Forgetting, Deaf, Early, Leaking, Silent, Stuttering]


@pytest.mark.parametrize("engine", WRONG, ids=lambda each: each.__name__)
@pytest.mark.filterwarnings("ignore")
def test_a_wrong_kernel_is_found(engine: type[SimulatedEngine]):
    def found() -> bool:
        for seed in range(20):
            for scenario in ALL:
                try:
                    run(scenario, seed, engine)
                except Exception:
                    return True
        return False

    assert found()
