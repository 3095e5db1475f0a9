"""What a terminal shows, on a console that writes into a string, and on a terminal's device."""

from __future__ import annotations

import io
import os
import pty
import re
import select
import socket
import subprocess
import time

import pytest
from rich.console import Console

from tests.proxy.processes import (
    LIMIT_S,
    check_echo,
    command,
    echo_upstream,
    environment,
    running_process,
)
from uringloop.proxy.addresses import TcpAddress
from uringloop.proxy.counters import Counters, UpstreamCounters
from uringloop.proxy.status import LiveStatus

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Screen:
    """A LiveStatus, its time, and what it wrote."""

    def __init__(self, **console: object) -> None:
        self.now = 0.0
        self.file = io.StringIO()
        self.status = LiveStatus(
            "a proxy",
            [TcpAddress("up", 1), TcpAddress("down", 2)],
            Console(file=self.file, force_terminal=True, width=100, **console),  # type: ignore[arg-type]
            lambda: self.now,
        )

    def text(self) -> str:
        return ESCAPES.sub("", self.file.getvalue())


def counters(accepted: int, up_mb: float, down_mb: float) -> Counters:
    return Counters(
        7,
        accepted,
        3,
        int(up_mb * 1e6),
        int(down_mb * 1e6),
        (UpstreamCounters(7, 0, 0), UpstreamCounters(0, 12, 1)),
    )


def test_connections_rates_errors_and_upstreams_are_shown() -> None:
    screen = Screen()
    with screen.status as status:
        status.show(counters(100, 0, 0))
        screen.now = 2.0
        status.show(counters(200, 3.0, 50.0))
    text = screen.text()
    assert "a proxy" in text
    assert "7 open  200 accepted (100/s)  1.5 MB/s up  25.0 MB/s down  3 errors" in text
    assert re.search(r"up:1 +up +7 open", text)
    assert re.search(r"down:2 +backing off +0 open +12 failed to connect", text)


def test_rates_are_over_a_second_at_least() -> None:
    screen = Screen()
    with screen.status as status:
        screen.now = 1.0
        status.show(counters(10, 0, 0))
        screen.now = 1.5
        status.show(counters(1000, 0, 0))
    assert "1000 accepted (10/s)" in screen.text()


def test_lines_of_the_log_stand_above_and_are_not_taken_for_markup() -> None:
    screen = Screen()
    line = "event=x client=[::1]:80 text=[bold] " + "long " * 40
    with screen.status as status:
        status.show(counters(1, 0, 0))
        status.print_line(line)
    assert line.strip() in screen.text(), "in one piece, however wide the terminal is"


def test_no_color_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    screen = Screen()
    with screen.status as status:
        status.show(counters(1, 0, 0))
    assert re.search(r"\x1b\[(?:\d+;)*3[0-7]m", screen.file.getvalue()) is None


@pytest.mark.parametrize("workers", ["1", "2"])
def test_on_a_terminal_figures_and_lines_are_shown_and_the_end_is_in_order(workers: str) -> None:
    with echo_upstream() as upstream:
        parent_fd, child_fd = pty.openpty()
        with subprocess.Popen(
            command("proxy", "--workers", workers, "127.0.0.1:0", upstream),
            env=environment(TERM="xterm", NO_COLOR="1", COLUMNS="200"),
            stdin=subprocess.DEVNULL,
            stderr=child_fd,
        ) as process:
            os.close(child_fd)
            try:
                _talk(process, parent_fd)
            finally:
                process.kill()
                os.close(parent_fd)


def _talk(process: subprocess.Popen[bytes], fd: int) -> None:
    seen = _read_until(fd, "", r"event=listening address=([0-9.]+):(\d+)")
    found = re.search(r"address=([0-9.]+):(\d+)", seen)
    assert found is not None
    with socket.create_connection((found[1], int(found[2])), timeout=LIMIT_S) as client:
        check_echo(client)
        seen = _read_until(fd, seen, r"1 open  1 accepted")
    seen = _read_until(fd, seen, r"event=connection .*end=eof")
    seen = _read_until(fd, seen, r"0 open  1 accepted")
    assert "\x1b[31m" not in seen and "\x1b[32m" not in seen
    process.terminate()
    # A terminal whose reader has stopped would stop the writer: read on to the end.
    seen = _read_until(fd, seen, r"event=draining")
    deadline = time.monotonic() + LIMIT_S
    while process.poll() is None:
        assert time.monotonic() < deadline
        if select.select([fd], [], [], 0.05)[0]:
            try:
                os.read(fd, 65536)
            except OSError:
                break  # the last one that had the terminal has closed it
    assert process.wait(LIMIT_S) == 0


def _read_until(fd: int, seen: str, pattern: str) -> str:
    deadline = time.monotonic() + LIMIT_S
    while not re.search(pattern, ESCAPES.sub("", seen)):
        left_s = deadline - time.monotonic()
        assert left_s > 0 and select.select([fd], [], [], left_s)[0], (pattern, seen)
        seen += os.read(fd, 65536).decode(errors="replace")
    return seen


def test_a_pipe_gets_no_figures() -> None:
    with echo_upstream() as upstream, running_process("--status", upstream) as proxy:
        with proxy.connect() as client:
            check_echo(client)
        proxy.until("connection")
        assert proxy.stop() == 0
        assert {event["event"] for event in proxy.rest()} == {
            "listening",
            "serving",
            "connection",
            "draining",
        }, "each line was JSON"
