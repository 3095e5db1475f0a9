"""A soak of some seconds on each engine, and that a soak finds what it is there to find."""

from __future__ import annotations

import asyncio
import ctypes
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
from loops import LoopFactory

from tests.soak.ground import Ground
from tests.soak.loads import LOADS, timers
from tests.soak.samples import MAY_GROW, Sample, growth
from tests.soak.soaking import Soaking

ROOT = Path(__file__).resolve().parent.parent.parent
ROUNDS = 15
LIMIT_S = 55

FLAT = Sample(0, 0, 50 << 20, 10 << 20, 100_000, 20, 30, 0, 15)


@pytest.mark.ours
def test_a_short_soak_passes(loop_kind: str) -> None:
    """As a program of its own: the command that is run for half an hour, warnings as errors."""
    done = subprocess.run(
        [
            *(sys.executable, "-W", "error", "-m", "tests.soak"),
            *("--engine", loop_kind, "--rounds", str(ROUNDS)),
        ],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr + done.stdout
    *_, operations, verdict = done.stdout.splitlines()
    assert verdict.startswith(f"soak on {loop_kind}: passed after {ROUNDS} rounds")
    assert [each.split()[0] for each in operations.split(", ")] == list(LOADS)


# What a load might leave behind in each round, until let_go().

held: list[Any] = []


async def let_go() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for each in held:
        if isinstance(each, socket.socket):
            each.close()
    held.clear()


async def a_descriptor(ground: Ground, random: Random) -> int:
    held.append(socket.socket())
    return 1


async def an_operation(ground: Ground, random: Random) -> int:
    """In flight in the engine, whose Future nobody waits for."""
    ours = socket.socketpair()
    held.extend(ours)
    ours[0].setblocking(False)
    held.append(asyncio.ensure_future(asyncio.get_running_loop().sock_recv(ours[0], 1)))
    return 1


async def a_task(ground: Ground, random: Random) -> int:
    held.append(asyncio.ensure_future(asyncio.sleep(3600)))
    return 1


async def objects(ground: Ground, random: Random) -> int:
    held.append([bytes(40) for _ in range(MAY_GROW["blocks"])])
    return 1


async def memory_of_c(ground: Ground, random: Random) -> int:
    held.append(ctypes.create_string_buffer(MAY_GROW["malloc_bytes"]))
    return 1


async def a_report(ground: Ground, random: Random) -> int:
    asyncio.get_running_loop().call_soon(lambda: 1 / 0)
    return 1


def soaked(loop: asyncio.AbstractEventLoop, leak: Any) -> list[str]:
    """What is found when a load leaks, which is done only besides a small one."""
    loads = {"timers": timers, "leak": leak}
    soaking = Soaking(lambda rounds, _: rounds / 12, lambda _: None, loads, settling=50)
    loop.run_until_complete(soaking.run())
    loop.run_until_complete(let_go())
    loop.run_until_complete(loop.shutdown_default_executor())
    return soaking.found


@pytest.mark.ours
@pytest.mark.parametrize(
    ("leak", "found"),
    [
        (a_descriptor, "descriptors"),
        (an_operation, "in_flight"),
        (a_task, "tasks"),
        (objects, "blocks: grew"),
        (memory_of_c, "malloc_bytes: grew"),
        (a_report, "ZeroDivisionError"),
    ],
    ids=lambda each: getattr(each, "__name__", None),
)
def test_a_leak_of_one_load_is_found(new_loop: LoopFactory, leak: Any, found: str) -> None:
    assert any(found in each for each in soaked(new_loop(), leak))


def of(name: str, values: list[int]) -> list[Sample]:
    return [replace(FLAT, **{name: value}) for value in values]


@pytest.mark.parametrize("name", MAY_GROW)
def test_steady_growth_of_memory_is_found(name: str) -> None:
    step = MAY_GROW[name] // 10
    start = getattr(FLAT, name)
    assert len(growth(of(name, [start + step * number for number in range(90)]))) == 1


@pytest.mark.parametrize("name", MAY_GROW)
def test_what_warms_up_and_single_peaks_are_no_growth(name: str) -> None:
    """Growth in the first third, and now and then a sample far above all others."""
    start, much = getattr(FLAT, name), 10 * MAY_GROW[name]
    warming = [start + much * number // 30 for number in range(30)]
    steady = [start + much + (much if number % 5 == 0 else 0) for number in range(60)]
    assert growth(of(name, warming + steady)) == []


def test_growth_cannot_be_told_from_two_samples() -> None:
    with pytest.raises(AssertionError, match="too few"):
        growth([FLAT, FLAT])
