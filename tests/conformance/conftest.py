"""Garbage is collected after each test, so that what it left open is charged to it."""

from __future__ import annotations

import gc

import pytest


@pytest.fixture(scope="session")
def _frozen_heap():
    """Collections look at what tests make, not at pytest and CPython's modules."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
def _collected_garbage(_frozen_heap):
    yield
    gc.collect()
