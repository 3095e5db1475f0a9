"""What a terminal shows while the proxy runs: connections, MB/s, errors, upstreams.

The only module that needs rich; imported when there is a terminal to draw on. rich itself
heeds NO_COLOR and TERM.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from uringloop.proxy.addresses import Address
from uringloop.proxy.counters import Counters

RATE_WINDOW_S = 1.0  # rates are over so long at least


class LiveStatus:
    """A few lines at the bottom of the terminal, drawn anew by show().

    title       what it is, in one line
    upstreams   as in the counters
    clock       seconds, monotonic
    """

    def __init__(
        self,
        title: str,
        upstreams: Sequence[Address],
        console: Console,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._title = title
        self._upstreams = upstreams
        self._clock = clock
        self._console = console
        # No thread that draws: workers are forked, and a loop has its own clock.
        self._live = Live(console=console, auto_refresh=False, transient=True)
        self._then = clock()
        self._counted_then = Counters()
        self._rates = (0.0, 0.0, 0.0)

    def __enter__(self) -> LiveStatus:
        self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._live.stop()

    def print_line(self, line: str) -> None:
        """A line of the log, above."""
        self._console.print(Text(line), soft_wrap=True)

    def show(self, counters: Counters) -> None:
        now = self._clock()
        passed_s = now - self._then
        if passed_s >= RATE_WINDOW_S:
            then = self._counted_then
            self._rates = (
                (counters.accepted - then.accepted) / passed_s,
                (counters.bytes_up - then.bytes_up) / passed_s / 1e6,
                (counters.bytes_down - then.bytes_down) / passed_s / 1e6,
            )
            self._then, self._counted_then = now, counters
        self._live.update(self._drawn(counters), refresh=True)

    def _drawn(self, counters: Counters) -> Group:
        per_s, up_mb, down_mb = self._rates
        line = Text.assemble(
            (f"{counters.open}", "bold"),
            " open  ",
            (f"{counters.accepted}", "bold"),
            f" accepted ({per_s:.0f}/s)  ",
            (f"{up_mb:.1f}", "bold"),
            " MB/s up  ",
            (f"{down_mb:.1f}", "bold"),
            " MB/s down  ",
            (f"{counters.failed}", "bold red" if counters.failed else "bold"),
            " errors",
        )
        return Group(Text(self._title, "dim"), line, self._upstream_table(counters))

    def _upstream_table(self, counters: Counters) -> Table:
        table = Table(box=None, pad_edge=False, show_header=False)
        for address, counted in zip(self._upstreams, counters.upstreams, strict=False):
            state = Text("backing off", "red") if counted.backing_off else Text("up", "green")
            failures = f"{counted.failures} failed to connect" if counted.failures else ""
            table.add_row(Text(str(address)), state, f"{counted.open} open", failures)
        return table
