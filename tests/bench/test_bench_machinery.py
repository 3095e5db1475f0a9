"""The bodies of the micro-benchmarks: each runs on each loop, and as a scenario of the matrix."""

from __future__ import annotations

import asyncio
import os
import re
import resource
import subprocess
import sys
import time

import pytest

from bench import loops
from bench.bodies import BODIES, expect, make_and_close
from bench.children import ROOT, Child, Cores
from bench.errors import BenchError, MissingError
from bench.scenario import Scenario
from bench.scenarios import machinery, repeat
from bench.scenarios.clocks import CpuClock, Stopwatch

ANYWHERE = Cores(None, None)
WAIT_FOR_EVER = "import threading; threading.Event().wait()"
MICRO_LIMIT_S = 50


def scenario_of(body: str) -> Scenario:
    return machinery.Machinery(body, "operation", warmup_s=0.0, seconds=0.01)


@pytest.mark.parametrize("body", [*BODIES, repeat.LOOP_CREATION])
def test_a_body_is_counted_and_timed(loop_name: str, body: str) -> None:
    started = time.perf_counter()
    sample = scenario_of(body).run_round(loop_name, ANYWHERE)
    assert sample.operations > 0
    assert 0 < sample.seconds < time.perf_counter() - started
    assert sample.measured_cpu_s > 0


def test_each_body_has_a_scenario_and_the_quick_ones_are_among_them() -> None:
    full = {each.title: each.operation for each in machinery.scenarios("full")}
    quick = {each.title: each.operation for each in machinery.scenarios("quick")}
    assert full.keys() == {*BODIES, repeat.LOOP_CREATION}
    assert quick and quick.items() <= full.items()


def test_a_scenario_of_a_loop_does_not_run_on_the_c_servers() -> None:
    scenario = scenario_of("sleep(0)")
    assert [scenario.runs_on(name) for name in (*loops.NATIVE_SERVERS, "uvloop")] == [
        *(False, False, True)
    ]


def test_a_call_that_a_loop_lacks_is_missing_in_the_loops_own_words(lacking_loop: str) -> None:
    with pytest.raises(MissingError, match=r"lacking_loop: .*children are not made here"):
        scenario_of("subprocess spawn").run_round(lacking_loop, ANYWHERE)


@pytest.mark.parametrize("body", ["sleep(0)", repeat.LOOP_CREATION])
def test_a_loop_that_is_not_installed_is_missing(body: str) -> None:
    with pytest.raises(MissingError, match="no_such_loop: No module named"):
        scenario_of(body).run_round("no_such_loop", ANYWHERE)


def test_a_lost_operation_is_an_error() -> None:
    with pytest.raises(BenchError, match="answered 3 instead of 4"):
        expect(3, 4)


def test_the_cpu_time_of_spawned_programs_is_not_measured() -> None:
    """One that spins for 0.3 s: its time must not appear as ours."""
    spin = "import time\nwhile time.process_time() < 0.3: pass"
    before_s = cpu_of_children_s()
    stopwatch = Stopwatch(os.getpid())
    subprocess.run([sys.executable, "-S", "-c", spin], check=True, timeout=30)
    _, cpu_s = stopwatch.read_s()
    assert cpu_of_children_s() - before_s > 0.25
    assert cpu_s < 0.25


def cpu_of_children_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def test_the_clock_of_another_process_is_the_kernels_own_count() -> None:
    """One that spins for 0.2 s of its CPU time, and then sleeps, all its threads included."""
    spin = "import time, threading\ndef spin():\n  t = time.thread_time\n  while t() < 0.1: pass\n"
    spin += "each = threading.Thread(target=spin); each.start(); each.join(); spin()\n"
    with Child([sys.executable, "-c", f"{spin}print(1, flush=True); {WAIT_FOR_EVER}"]) as child:
        child.read_answer()
        assert 0.2 <= CpuClock(child.pid).read_ns() / 1e9 < 2.0


def test_the_clock_of_a_process_that_is_gone_says_so() -> None:
    with Child([sys.executable, "-c", WAIT_FOR_EVER]) as child:
        clock = CpuClock(child.pid)
    with pytest.raises(BenchError, match=f"{child.pid} has ended"):
        clock.read_ns()
    with pytest.raises(BenchError, match=f"no process {child.pid} to measure"):
        CpuClock(child.pid)


def test_making_loops_leaves_none_open() -> None:
    made: list[asyncio.AbstractEventLoop] = []

    def make() -> asyncio.AbstractEventLoop:
        made.append(asyncio.SelectorEventLoop())
        return made[-1]

    assert make_and_close(make, 3) > 0
    assert [loop.is_closed() for loop in made] == [True] * 3


def test_pyperf_times_every_body_on_one_loop() -> None:
    pytest.importorskip("pyperf", reason="the micro-benchmarks need pyperf")
    command = [sys.executable, "-m", "bench.micro", "--loop", "asyncio", "--debug-single-value"]
    result = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=MICRO_LIMIT_S, check=True
    )
    named = re.findall(r"^(.+?): ", result.stdout, re.MULTILINE)
    assert {*BODIES, repeat.LOOP_CREATION} <= set(named), result.stdout
