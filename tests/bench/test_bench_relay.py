"""The scenarios of relaying: every proxy that is there gives plausible figures, and one that is
not there is said to be missing."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from bench import probe
from bench.children import Cores
from bench.errors import BenchError, MissingError
from bench.load import ChurnPlan, LoadPlan, run_load
from bench.scenarios import relay
from bench.scenarios.relay import IdlePairs, RelayChurn, RelayMessages

ANYWHERE = Cores(None, None)
COMPETITORS = (
    *("haproxy", "nginx", "c-io_uring", "c-epoll"),
    *("uringloop", "uringloop-epoll", "uvloop", "blazio", "asyncio"),
)
SHORT_PLAN = LoadPlan(3, 1024, warmup_s=0.02, verify=True)


@pytest.fixture(params=COMPETITORS)
def competitor(request: pytest.FixtureRequest) -> str:
    """A proxy by the benchmark's name; skipped, in its own words, where it does not run."""
    try:
        probe.probe(request.param)
    except MissingError as error:
        pytest.skip(str(error))
    return str(request.param)


@pytest.mark.parametrize(
    "plan",
    [
        SHORT_PLAN,
        replace(SHORT_PLAN, size_bytes=100 * 1024),
        replace(relay.BULK.plan, connections=2, warmup_s=0.02),
    ],
    ids=["1 KiB", "100 KiB", "one way"],
)
def test_messages_through_a_proxy_are_counted_and_timed(competitor: str, plan: LoadPlan) -> None:
    """So many under way cannot take more than as many windows together, but for what began
    before the window, and half of the messages took the median or longer."""
    under_way = plan.connections * plan.pipeline
    sample = RelayMessages(plan, seconds=0.2).run_round(competitor, ANYWHERE)
    assert sample.operations > 0 and sample.measured_cpu_s > 0
    assert sample.p50_us is not None and sample.p99_us is not None and sample.p99_9_us is not None
    assert 0 < sample.p50_us <= sample.p99_us <= sample.p99_9_us
    waited_s = sample.p50_us / 1e6 * (sample.operations - 2 * under_way)
    assert waited_s <= 2 * under_way * sample.seconds * 1.01


def test_connections_through_a_proxy_are_counted(competitor: str) -> None:
    plan = ChurnPlan(at_once=3, size_bytes=1024, warmup_s=0.02)
    sample = RelayChurn(plan, seconds=0.3).run_round(competitor, ANYWHERE)
    assert sample.operations > 0 and sample.measured_cpu_s > 0


def test_idle_pairs_occupy_memory(competitor: str) -> None:
    sample = IdlePairs(150, replace(SHORT_PLAN, duration_s=0.2)).run_round(competitor, ANYWHERE)
    assert sample.operations > 0
    assert -1 < sample.extra["KiB per pair"] < 100
    assert "KiB of rings" in sample.extra or competitor not in ("uringloop", "c-io_uring")


def test_the_scenarios_have_titles_that_tell_them_apart() -> None:
    titles = [scenario.title for scenario in relay.scenarios("full")]
    assert titles == [
        "relay, 1 KiB round trip, 20 connections",
        "relay, 100 KiB round trip, 20 connections",
        "relay, 1 MiB one way, 4 connections",
        "relay, 1 KiB round trip, 20 connections, one core",
        "relay, 100 KiB round trip, 20 connections, one core",
        "relay, 1 MiB one way, 4 connections, one core",
        "relay, connect, 1 KiB round trip, close, 10 at once",
        "relay, 2000 idle pairs, 20 busy",
    ]
    assert [scenario.operation for scenario in relay.scenarios("full")] == [
        *("message", "message", "MiB", "message", "message", "MiB", "connection", "message")
    ]
    assert [scenario.title for scenario in relay.scenarios("quick")] == titles[:1]


def test_proxy_and_load_share_a_core_where_that_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    core = max(os.sched_getaffinity(0))
    placed = []
    monkeypatch.setattr(relay, "run_load", lambda *given: placed.append(given))
    for is_on_one_core in (False, True):
        scenario = RelayMessages(SHORT_PLAN, 0.1, is_on_one_core)
        scenario.run_round("c-epoll", Cores(core, None))
    assert [given[-1] for given in placed] == [None, core]


def test_every_kind_of_competitor_relays() -> None:
    assert all(each.runs_on(name) for each in relay.scenarios("full") for name in COMPETITORS)


def test_a_proxy_without_its_upstream_is_no_success() -> None:
    with (
        relay.proxy("c-epoll", ["tcp", "127.0.0.1", "1"], None) as (address, child),
        pytest.raises(BenchError),
    ):
        run_load(address, SHORT_PLAN, child.pid, None)
