"""uringloop.prometheus: what a scrape by the official client's own exposition says."""

from __future__ import annotations

import asyncio
import dataclasses
import subprocess
import sys
import urllib.request
from asyncio import AbstractEventLoop
from typing import Any

import pytest
from loops import LoopFactory
from peers import in_thread, recv_exactly, turns, wire
from prometheus_client import CollectorRegistry, generate_latest, start_http_server
from prometheus_client.openmetrics import exposition
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_strictly
from prometheus_client.parser import text_string_to_metric_families as parse

import uringloop
from uringloop.prometheus import LoopCollector

pytestmark = pytest.mark.ours


def registry_of(collector: LoopCollector) -> CollectorRegistry:
    registry = CollectorRegistry(auto_describe=True)
    registry.register(collector)
    return registry


def samples_of(text: str) -> dict[tuple[str, str], float]:
    """By the sample's name and the label `loop`."""
    return {
        (sample.name, sample.labels["loop"]): sample.value
        for family in parse(text)
        for sample in family.samples
    }


async def test_a_live_loop_is_scraped_over_http(loop: Any, loop_kind: str) -> None:
    server, thread = start_http_server(0, "127.0.0.1", registry_of(LoopCollector(loop, "web")))
    async with wire() as made:
        made.transport.write(b"a" * 1234)
        await in_thread(recv_exactly, made.peer, 1234)
        await turns(2)
        url = f"http://127.0.0.1:{server.server_port}/metrics"
        text = await in_thread(lambda: urllib.request.urlopen(url, timeout=10).read().decode())
    server.shutdown()
    server.server_close()
    thread.join()
    samples = samples_of(text)
    assert samples["uringloop_sent_bytes_total", "web"] == 1234
    assert samples["uringloop_connections_open", "web"] == 1
    assert samples["uringloop_turns_total", "web"] > 0
    assert samples["uringloop_busy_seconds_total", "web"] > 0
    assert f'uringloop_loop_info{{backend="{loop_kind}",loop="web"}} 1.0' in text


def test_every_figure_of_the_record_is_exposed_as_it_is(new_loop: LoopFactory) -> None:
    """Of a loop whose figures are all different, and stand still."""
    loop: Any = new_loop()
    fields = [field.name for field in dataclasses.fields(uringloop.Metrics)]
    figures = {name: 1000 + number for number, name in enumerate(fields)}
    record = dataclasses.replace(loop.metrics(), **figures | {"backend": "epoll"})

    class Still:
        def metrics(self) -> uringloop.Metrics:
            return record

    registry = registry_of(LoopCollector(Still()))  # type: ignore[arg-type]
    exposed = samples_of(generate_latest(registry).decode())
    del figures["backend"]
    assert sorted(exposed.values()) == [1.0, *sorted(figures.values())]


def test_the_names_pass_the_strict_parser_of_openmetrics(new_loop: LoopFactory) -> None:
    """It knows which types may have which suffixes, and refuses what is said twice."""
    collector = LoopCollector(new_loop(), "first")
    collector.add(new_loop(), "second")
    text = exposition.generate_latest(registry_of(collector)).decode()
    families = list(parse_strictly(text))
    assert len(families) == len(dataclasses.fields(uringloop.Metrics))
    assert {family.type for family in families} == {"counter", "gauge", "info"}
    assert all(family.documentation for family in families)
    assert all(family.name.startswith("uringloop_") for family in families)


def test_loops_are_told_apart_by_their_label(new_loop: LoopFactory) -> None:
    first, second = new_loop(), new_loop()
    first.run_until_complete(turns(50))
    collector = LoopCollector(first, "first")  # type: ignore[arg-type]
    collector.add(second, "second")  # type: ignore[arg-type]
    registry = registry_of(collector)

    def turns_of(name: str) -> float | None:
        return registry.get_sample_value("uringloop_turns_total", {"loop": name})

    assert turns_of("first") == first.metrics().turns  # type: ignore[attr-defined]
    assert turns_of("second") == 0
    collector.remove("second")
    assert turns_of("second") is None
    with pytest.raises(KeyError):
        collector.remove("second")


def test_a_name_stands_for_one_loop(new_loop: LoopFactory) -> None:
    loop: Any = new_loop()
    collector = LoopCollector(loop, "main")
    collector.add(loop, "main")  # the same again
    with pytest.raises(ValueError, match="'main'"):
        collector.add(new_loop(), "main")  # type: ignore[arg-type]


def test_a_closed_loop_tells_its_last_counts(new_loop: LoopFactory) -> None:
    loop: Any = new_loop()
    loop.run_until_complete(turns(5))
    registry = registry_of(LoopCollector(loop))
    counted = loop.metrics().turns
    loop.close()
    assert registry.get_sample_value("uringloop_turns_total", {"loop": "main"}) == counted


async def test_a_scrape_within_the_loop_itself_is_as_good(loop: AbstractEventLoop) -> None:
    registry = registry_of(LoopCollector(loop))  # type: ignore[arg-type]
    await asyncio.sleep(0)
    samples = samples_of(generate_latest(registry).decode())
    assert samples["uringloop_turns_total", "main"] > 0


def test_without_the_client_the_remedy_is_told() -> None:
    program = (
        "import sys; sys.modules['prometheus_client'] = None\n"
        "try:\n    import uringloop.prometheus\nexcept ImportError as error:\n    print(error)"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert "pip install 'uringloop[prometheus]'" in answer.stdout
