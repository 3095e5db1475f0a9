"""Lines of the log: key=value that falls apart at spaces, or JSON."""

from __future__ import annotations

import json
import logging
import re

import pytest

from uringloop.proxy import log
from uringloop.proxy.addresses import TcpAddress


@pytest.fixture(autouse=True)
def _restored_logger() -> object:
    before = (log.LOGGER.handlers[:], log.LOGGER.level, log.LOGGER.propagate)
    yield
    log.LOGGER.handlers[:], log.LOGGER.level, log.LOGGER.propagate = before


def lines_of(form: str, level: str = "debug", **always: object) -> list[str]:
    lines: list[str] = []
    log.configure(level, form, lines.append, **always)
    return lines


def test_a_line_has_time_level_event_and_fields_in_order() -> None:
    lines = lines_of("key-value", worker=3)
    log.event(logging.INFO, "connection", client=TcpAddress("::1", 80), bytes_up=5, error=None)
    assert re.fullmatch(
        r"time=\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z level=info event=connection worker=3 "
        r"client=\[::1\]:80 bytes_up=5",
        lines[0],
    )


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("two words", '"two words"'),
        ('a "quote"', r'"a \"quote\""'),
        ("a=b", '"a=b"'),
        ("", '""'),
        ("line\nbreak", r'"line\nbreak"'),
        ("\x1b[31m", r'"\u001b[31m"'),
        ("plain", "plain"),
        (0.25, "0.25"),
        (30.0, "30"),
    ],
)
def test_a_value_that_would_break_the_line_is_quoted(value: object, shown: str) -> None:
    lines = lines_of("key-value")
    log.event(logging.INFO, "x", value=value)
    assert lines[0].endswith(f" value={shown}")


def test_json_is_one_object_a_line() -> None:
    lines = lines_of("json", worker=0)
    log.event(logging.WARNING, "x", address=TcpAddress("h", 1), count=2, text='"\n', none=None)
    found = json.loads(lines[0])
    assert "\n" not in lines[0]
    assert found.pop("time").endswith("Z")
    assert found == {
        "level": "warning",
        "event": "x",
        "worker": 0,
        "address": "h:1",
        "count": 2,
        "text": '"\n',
    }


@pytest.mark.parametrize(("level", "count"), [("debug", 4), ("info", 3), ("error", 1)])
def test_the_level_decides_what_is_said(level: str, count: int) -> None:
    lines = lines_of("key-value", level)
    for number in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR):
        log.event(number, "x")
    assert len(lines) == count


def test_configuring_again_replaces_the_former_way() -> None:
    first, second = lines_of("json"), lines_of("json")
    log.event(logging.INFO, "x")
    assert (len(first), len(second)) == (0, 1)


def test_an_error_of_the_loop_is_a_line_and_its_traceback_another_at_debug() -> None:
    lines = lines_of("json")
    try:
        raise OSError(24, "Too many open files")
    except OSError as error:
        log.report_loop_error(None, {"message": "accept", "exception": error})  # type: ignore[arg-type]
    said, traced = map(json.loads, lines)
    assert (said["message"], said["error"]) == ("accept", "[Errno 24] Too many open files")
    assert "Traceback" in traced["traceback"]
    log.report_loop_error(None, {"message": "no exception"})  # type: ignore[arg-type]
    assert len(lines) == 3
