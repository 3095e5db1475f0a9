"""Loops' metrics for Prometheus, by its official client: the extra `prometheus`.

    from prometheus_client import REGISTRY
    REGISTRY.register(LoopCollector(loop, name="main"))

Nothing is counted here: a scrape calls loop.metrics(). Serving the figures is the client's work
(start_http_server, make_asgi_app) or the program's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

try:
    from prometheus_client import Metric
    from prometheus_client.core import (
        CounterMetricFamily,
        GaugeMetricFamily,
        InfoMetricFamily,
    )
    from prometheus_client.registry import Collector
except ImportError as error:
    raise ImportError(
        "uringloop.prometheus needs prometheus-client: pip install 'uringloop[prometheus]'"
    ) from error

from uringloop import EventLoop
from uringloop.metrics import Metrics

_LABELS = ("loop",)


@dataclass(frozen=True)
class _Family:
    """One family: which field of Metrics, under which name, and what it is.

    name   without the prefix; a counter's without "_total", which the client adds
    """

    kind: type[CounterMetricFamily | GaugeMetricFamily]
    field: str
    name: str
    help: str


def _counter(field: str, name: str, text: str) -> _Family:
    return _Family(CounterMetricFamily, field, name, text)


def _gauge(field: str, name: str, text: str) -> _Family:
    return _Family(GaugeMetricFamily, field, name, text)


_FAMILIES = (
    _counter("turns", "turns", "Times that the loop went to the kernel and came back."),
    _counter("enters", "enters", "Calls of io_uring_enter or epoll_wait."),
    _counter("sqes", "sqes", "Requests that the kernel took; epoll: system calls tried."),
    _counter("cqes", "cqes", "Answers seen; epoll: reports of readiness seen."),
    _counter("busy_s", "busy_seconds", "Time of runs that the thread was on a CPU."),
    _counter("waiting_s", "waiting_seconds", "Time of runs that it was not."),
    _counter("callbacks_s", "callbacks_seconds", "Time between turns, in callbacks."),
    _gauge("lag_s", "lag_seconds", "How late the loop was, averaged over the last 10 to 20 s."),
    _gauge("lag_max_s", "lag_max_seconds", "Longest time between turns in the last 10 to 20 s."),
    _gauge("timers", "timers", "Timers that are set."),
    _gauge("ready", "ready_callbacks", "Callbacks that wait for their turn."),
    _gauge("connections_open", "connections_open", "Stream transports of sockets."),
    _counter("connections_accepted", "connections_accepted", "Connections that servers accepted."),
    _counter("connections_made", "connections_made", "Connections made, or handed over."),
    _counter("bytes_received", "received_bytes", "Received by transports and sock_ calls."),
    _counter("bytes_sent", "sent_bytes", "Sent by transports and sock_ calls."),
    _counter("bytes_relayed", "relayed_bytes", "Carried by relays within the engine."),
    _counter("buffer_shortages", "buffer_shortages", "Receives that waited for a buffer."),
    _counter("overflows", "overflows", "Turns that found the completion queue overflowing."),
    _gauge("buffers_held", "buffers_held", "Receive buffers in use."),
    _gauge("in_flight", "operations_in_flight", "Operations that the kernel has not answered."),
)


class LoopCollector(Collector):
    """What one loop or several count, for a prometheus_client registry.

    One collector is for all loops of a registry, which tells them apart by the label `loop`: a
    second collector would say everything twice. Thread-safe, as loop.metrics() is.

    loop   a loop of ours; a closed one goes on to tell its last counts
    name   its value of the label `loop`
    """

    def __init__(self, loop: EventLoop, name: str = "main") -> None:
        self._loops = {name: loop}

    def add(self, loop: EventLoop, name: str) -> None:
        """Has another loop told of.

        raises   ValueError when there is one of that name
        """
        if self._loops.setdefault(name, loop) is not loop:
            raise ValueError(f"there is a loop named {name!r} already")

    def remove(self, name: str) -> None:
        """Tells of that loop no more.

        raises   KeyError when there is none of that name
        """
        del self._loops[name]

    def collect(self) -> Iterator[Metric]:
        """All families, for one scrape."""
        records = {name: loop.metrics() for name, loop in self._loops.copy().items()}
        for family in _FAMILIES:
            yield _filled(family, records)
        info = InfoMetricFamily("uringloop_loop", "The engine of the loop.", labels=_LABELS)
        for name, record in records.items():
            info.add_metric((name,), {"backend": record.backend})
        yield info


def _filled(family: _Family, records: dict[str, Metrics]) -> Metric:
    filled = family.kind(f"uringloop_{family.name}", family.help, labels=_LABELS)
    for name, record in records.items():
        filled.add_metric((name,), getattr(record, family.field))
    return filled
