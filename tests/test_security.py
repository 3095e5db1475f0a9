"""What SECURITY.md says, held against the sources and against running programs.

That the kernel refuses what is not on the list is tested in driver/test_restrictions.py.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from children import run_program
from loops import io_uring_refusal

ROOT = Path(__file__).resolve().parent.parent
ENGINE = ROOT / "uringloop" / "driver" / "engine"
needs_io_uring = pytest.mark.skipif(io_uring_refusal() is not None, reason=str(io_uring_refusal()))


def documented() -> dict[str, str]:
    """The requests in SECURITY.md's tables, each with its feature."""
    rows = re.findall(
        r"^\| `(IORING_\w+)` \|[^|]+\|([^|]*)\|$", (ROOT / "SECURITY.md").read_text(), re.M
    )
    return {name: feature.strip(" `") for name, feature in rows}


def named(source: str) -> str:
    """What liburing 2.3 does not name yet has a name of ours."""
    return source.replace("UL_KERNEL_FTRUNCATE", "IORING_OP_FTRUNCATE")


def permitted() -> dict[str, str]:
    """Those of the list that a ring gets, each with its feature, "" where there is none."""
    source = (ENGINE / "restrictions.c").read_text()
    rows = re.findall(
        r"{IORING_RESTRICTION_\w+, (IORING_\w+), (?:0|UL_FEATURE_(\w+))}", named(source)
    )
    return {name: feature.lower() for name, feature in rows}


def test_what_a_ring_may_be_asked_for_is_documented() -> None:
    assert permitted()
    assert documented() == permitted()


def test_what_an_sqe_may_be_flagged_with_is_documented() -> None:
    source = (ENGINE / "restrictions.c").read_text()
    text = (ROOT / "SECURITY.md").read_text()
    flags = set(re.findall(r"\bIOSQE_[A-Z_]+", source))
    assert flags
    assert set(re.findall(r"\bIOSQE_[A-Z_]+", text)) == flags


def test_the_list_is_what_the_engine_asks_for() -> None:
    """What is asked for and not on the list fails in the tests of what it is for; what is on it
    and never asked for would fail nowhere else."""
    sources = [path.read_text() for path in ENGINE.glob("*.c") if path.name != "restrictions.c"]
    used = set(re.findall(r"\bIORING_(?:OP|REGISTER|UNREGISTER)_\w+", named("".join(sources))))
    # Before a ring is enabled, or of one made to ask; and what a trial must see refused.
    used -= {"IORING_REGISTER_ENABLE_RINGS", "IORING_REGISTER_PROBE", "IORING_OP_NOP"}
    assert used == set(permitted())


@needs_io_uring
def test_a_program_that_made_its_loop_can_do_without_further_rings() -> None:
    """As SECURITY.md proposes: streams, TLS, datagrams, a child and a thread on that loop."""
    out = run_program("sealed.py", URINGLOOP_BACKEND="io_uring")
    assert out.splitlines() == ["io_uring True", "True", "smoke passed"]


@needs_io_uring
@pytest.mark.parametrize("switched_off", ["", "restricted_ring"])
def test_the_doctor_tells_whether_rings_are_restricted(switched_off: str) -> None:
    said = subprocess.run(
        [sys.executable, "-m", "uringloop", "doctor"],
        env={**os.environ, "URINGLOOP_DISABLE": switched_off, "URINGLOOP_BACKEND": "auto"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    ).stdout
    lines = {line.split("  ")[1]: line for line in said.splitlines() if line.startswith("  ")}
    assert "restricted_ring" in lines["features"]
    assert ("restricted_ring" in lines.get("switched off", "")) == bool(switched_off)


@needs_io_uring
def test_restrictions_can_be_switched_off() -> None:
    """All else goes on as before."""
    out = run_program("smoke.py", URINGLOOP_BACKEND="io_uring", URINGLOOP_DISABLE="restricted_ring")
    assert out == "smoke passed\n"
