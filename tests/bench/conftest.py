"""Fixtures of the benchmark's own tests: the loops that a scenario is tried on."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest

from bench import probe
from bench.errors import MissingError


@pytest.fixture(params=["uringloop", "uringloop-epoll", "asyncio"])
def loop_name(request: pytest.FixtureRequest) -> str:
    """A loop by the benchmark's name; skipped, in its own words, where it does not run."""
    if reason := missing_because(request.param):
        pytest.skip(reason)
    return str(request.param)


@functools.cache
def missing_because(name: str) -> str:
    """Asked once a process: the answer takes a process of its own."""
    try:
        probe.probe(name)
    except MissingError as error:
        return str(error)
    return ""


@pytest.fixture
def lacking_loop(monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a loop that refuses some calls (lacking_loop.py), importable by children."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    return "lacking_loop"
