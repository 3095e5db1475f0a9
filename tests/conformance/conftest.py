"""Garbage is collected after each test, so that what it left open is charged to it; the files
that CPython's tests make in the current folder go into one that is thrown away."""

from __future__ import annotations

import gc
import os

import pytest


@pytest.fixture(scope="session")
def _frozen_heap():
    """Collections look at what tests make, not at pytest and CPython's modules."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="module", autouse=True)
def _scratch_folder(tmp_path_factory):
    before = os.getcwd()
    os.chdir(tmp_path_factory.mktemp("cpython"))
    yield
    os.chdir(before)


@pytest.fixture(autouse=True)
def _collected_garbage(_frozen_heap):
    yield
    gc.collect()
