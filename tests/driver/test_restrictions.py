"""What the kernel lets a ring be asked for: what its features need, and nothing else.

The suite as a whole tests that it is enough, as it runs on restricted rings. That the sources say
the same is tested in test_security.py, for here may be no sources.
"""

from __future__ import annotations

import json

import pytest
from uringloop.driver._engine import lib

from .conftest import ALL_FEATURES, io_uring_refusal, probe
from .isolation import run_isolated

pytestmark = pytest.mark.skipif(io_uring_refusal() is not None, reason=str(io_uring_refusal()))

# The kernel's numbers, which never change, and the features that need them.
OPERATIONS = {
    3: lib.UL_FEATURE_FILES,  # FSYNC
    6: 0,  # POLL_ADD
    9: 0,  # SENDMSG
    10: lib.UL_FEATURE_MULTISHOT_RECVMSG,  # RECVMSG
    13: 0,  # ACCEPT
    14: 0,  # ASYNC_CANCEL
    16: 0,  # CONNECT
    18: lib.UL_FEATURE_FILES,  # OPENAT
    19: lib.UL_FEATURE_FILES,  # CLOSE
    21: lib.UL_FEATURE_FILES,  # STATX
    22: lib.UL_FEATURE_FILES,  # READ
    23: lib.UL_FEATURE_FILES,  # WRITE
    26: 0,  # SEND
    27: lib.UL_FEATURE_BUFFER_RING,  # RECV
    35: lib.UL_FEATURE_FILES,  # RENAMEAT
    36: lib.UL_FEATURE_FILES,  # UNLINKAT
    37: lib.UL_FEATURE_FILE_NAMES,  # MKDIRAT
    38: lib.UL_FEATURE_FILE_NAMES,  # SYMLINKAT
    39: lib.UL_FEATURE_FILE_NAMES,  # LINKAT
    47: lib.UL_FEATURE_ZERO_COPY,  # SEND_ZC
    48: lib.UL_FEATURE_ZERO_COPY,  # SENDMSG_ZC
    55: lib.UL_FEATURE_FILE_TRUNCATE,  # FTRUNCATE
}
REGISTRATIONS = {
    20: lib.UL_FEATURE_REGISTERED_RING,  # RING_FDS
    21: lib.UL_FEATURE_REGISTERED_RING,  # and back
    22: lib.UL_FEATURE_BUFFER_RING,  # PBUF_RING
}
FLAGS = {
    1 << 4: lib.UL_FEATURE_FILES,  # ASYNC
    1 << 5: lib.UL_FEATURE_BUFFER_RING,  # BUFFER_SELECT
    1 << 6: lib.UL_FEATURE_QUIET_SENDS,  # CQE_SKIP_SUCCESS
}
FILES = lib.UL_FEATURE_FILES | lib.UL_FEATURE_FILE_NAMES | lib.UL_FEATURE_FILE_TRUNCATE
# What no loop asks for.
NOP, SOCKET = 0, 45
PROBE = 8


def needed(by: dict[int, int], features: int) -> set[int]:
    return {number for number, feature in by.items() if features & feature == feature}


def asked(disabled: int, *operations: int) -> tuple[int, dict[str, list[int]]]:
    """The features of a ring, and what of the operations, or of all, it was not refused."""
    said = run_isolated("ask_ring.py", disabled, *operations)
    return probe(disabled).features, json.loads(said)


def assert_no_more_than_needed(features: int, not_refused: dict[str, list[int]]) -> None:
    assert set(not_refused["operations"]) == needed(OPERATIONS, features)
    assert set(not_refused["registrations"]) == needed(REGISTRATIONS, features)
    assert set(not_refused["flags"]) == needed(FLAGS, features)


def test_a_ring_is_restricted_wherever_there_is_io_uring():
    """The trial has seen the kernel refuse a NOP, and not a receive. Any kernel that the engine
    works on has that."""
    assert probe().features & lib.UL_FEATURE_RESTRICTED_RING


def test_a_ring_with_every_feature_is_refused_what_no_feature_needs():
    assert_no_more_than_needed(*asked(0))


def test_a_plain_ring_is_refused_what_its_missing_features_would_need():
    features, not_refused = asked((ALL_FEATURES | FILES) & ~lib.UL_FEATURE_RESTRICTED_RING)
    assert features == lib.UL_FEATURE_IO_URING | lib.UL_FEATURE_RESTRICTED_RING
    assert_no_more_than_needed(features, not_refused)


@pytest.mark.parametrize("name", ["registered_ring", "multishot_recvmsg", "quiet_sends"])
def test_a_ring_without_a_feature_is_refused_what_that_alone_needs(name):
    assert_no_more_than_needed(*asked(getattr(lib, f"UL_FEATURE_{name.upper()}")))


def test_a_ring_without_restrictions_is_refused_nothing():
    _, not_refused = asked(lib.UL_FEATURE_RESTRICTED_RING, NOP, SOCKET)
    assert not_refused["operations"] == [NOP, SOCKET]
    assert PROBE in not_refused["registrations"]
