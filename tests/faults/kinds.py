"""The engines whose contract is tested under faults: with all that the kernel has, and without."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from loops import io_uring_refusal

from uringloop.driver.features import FEATURE_BITS, IO_URING, try_kernel

FEATURES_OF: dict[str, Callable[[], int]] = {
    "io_uring": lambda: try_kernel(0).features,
    "io_uring-plain": lambda: try_kernel(sum(FEATURE_BITS.values()) - IO_URING).features,
    "epoll": lambda: 0,
}


def _parameter(kind: str) -> Any:
    refusal = io_uring_refusal() if kind != "epoll" else None
    return pytest.param(kind, marks=[pytest.mark.skip(reason=refusal)] if refusal else [])


per_kind = pytest.mark.parametrize("kind", [_parameter(kind) for kind in FEATURES_OF])
