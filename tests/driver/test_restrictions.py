"""What the kernel lets a ring be asked for: what restrictions.c says, and nothing else.

The suite as a whole tests that the list is long enough: it runs on restricted rings.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from uringloop.driver._engine import lib

from .conftest import ALL_FEATURES, io_uring_refusal, probe
from .isolation import run_isolated

pytestmark = pytest.mark.skipif(io_uring_refusal() is not None, reason=str(io_uring_refusal()))

ENGINE = Path(__file__).resolve().parents[2] / "uringloop" / "driver" / "engine"
# The kernel's numbers, which never change.
NUMBERS = {
    "IORING_OP_FSYNC": 3,
    "IORING_OP_POLL_ADD": 6,
    "IORING_OP_SENDMSG": 9,
    "IORING_OP_RECVMSG": 10,
    "IORING_OP_ACCEPT": 13,
    "IORING_OP_ASYNC_CANCEL": 14,
    "IORING_OP_CONNECT": 16,
    "IORING_OP_OPENAT": 18,
    "IORING_OP_CLOSE": 19,
    "IORING_OP_STATX": 21,
    "IORING_OP_READ": 22,
    "IORING_OP_WRITE": 23,
    "IORING_OP_SEND": 26,
    "IORING_OP_RECV": 27,
    "IORING_OP_RENAMEAT": 35,
    "IORING_OP_UNLINKAT": 36,
    "IORING_OP_MKDIRAT": 37,
    "IORING_OP_SYMLINKAT": 38,
    "IORING_OP_LINKAT": 39,
    "IORING_OP_FTRUNCATE": 55,
    "IORING_REGISTER_RING_FDS": 20,
    "IORING_UNREGISTER_RING_FDS": 21,
    "IORING_REGISTER_PBUF_RING": 22,
}
FILES = lib.UL_FEATURE_FILES | lib.UL_FEATURE_FILE_NAMES | lib.UL_FEATURE_FILE_TRUNCATE
# What no loop asks for.
NOP, SOCKET = 0, 45
PROBE = 8
ASYNC, BUFFER_SELECT, CQE_SKIP_SUCCESS = 1 << 4, 1 << 5, 1 << 6


def named(source: str) -> str:
    """What liburing 2.3 does not name yet has a name of ours."""
    return source.replace("UL_KERNEL_", "IORING_OP_")


def permissions(features: int) -> dict[str, int]:
    """What restrictions.c allows a ring with these features, by name."""
    source = named((ENGINE / "restrictions.c").read_text())
    rows = re.findall(r"{IORING_RESTRICTION_\w+, (IORING_\w+), (\w+)}", source)
    needed = {name: 0 if bit == "0" else getattr(lib, bit) for name, bit in rows}
    return {name: NUMBERS[name] for name, bits in needed.items() if features & bits == bits}


def asked(disabled: int, *operations: int) -> tuple[int, dict[str, list[int]]]:
    """The features of a ring, and what of the operations, or of all, it was not refused."""
    said = run_isolated("ask_ring.py", disabled, *operations)
    return probe(disabled).features, json.loads(said)


def assert_as_written(features: int, not_refused: dict[str, list[int]]) -> None:
    allowed = permissions(features)
    operations = {name: number for name, number in allowed.items() if "_OP_" in name}
    registrations = {number for name, number in allowed.items() if name not in operations}
    assert set(not_refused["operations"]) == set(operations.values())
    assert set(not_refused["registrations"]) == registrations


def test_a_ring_is_restricted_wherever_there_is_io_uring():
    """The trial has seen the kernel refuse a NOP, and not a receive. Any kernel that the engine
    works on has that."""
    assert probe().features & lib.UL_FEATURE_RESTRICTED_RING


def test_a_ring_with_every_feature_is_refused_what_no_feature_needs():
    features, not_refused = asked(0)
    assert_as_written(features, not_refused)
    assert set(not_refused["flags"]) == {ASYNC, BUFFER_SELECT, CQE_SKIP_SUCCESS}


def test_a_plain_ring_is_refused_what_its_missing_features_would_need():
    others = (ALL_FEATURES | FILES) & ~lib.UL_FEATURE_RESTRICTED_RING
    features, not_refused = asked(others)
    assert features == lib.UL_FEATURE_IO_URING | lib.UL_FEATURE_RESTRICTED_RING
    assert_as_written(features, not_refused)
    assert NUMBERS["IORING_OP_RECV"] not in not_refused["operations"]
    assert not_refused["flags"] == []


def test_a_ring_without_restrictions_is_refused_nothing():
    _, not_refused = asked(lib.UL_FEATURE_RESTRICTED_RING, NOP, SOCKET)
    assert not_refused["operations"] == [NOP, SOCKET]
    assert PROBE in not_refused["registrations"]


def test_the_list_is_what_the_engine_asks_for():
    """A request that is not on the list fails in the tests of what it is for; one that is on it and
    is never asked for would fail nowhere else."""
    sources = "".join(
        path.read_text() for path in ENGINE.glob("*.c") if path.name != "restrictions.c"
    )
    used = set(re.findall(r"\bIORING_(?:OP|REGISTER|UNREGISTER)_\w+", named(sources)))
    # Before a ring is enabled, or of one made to ask; and what a trial must see refused.
    used -= {"IORING_REGISTER_ENABLE_RINGS", "IORING_REGISTER_PROBE", "IORING_OP_NOP"}
    assert used == set(permissions(ALL_FEATURES | FILES)) == set(NUMBERS)
