"""Lines for programs to read: one event each, as key=value or as JSON.

    time=2026-11-23T02:00:00.123Z level=info event=connection client=192.0.2.7:4711 ...

The logger is the standard library's "uringloop.proxy": the record's message is the event, its
fields follow. Who embeds the proxy may configure that logger otherwise.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
LOGGER = logging.getLogger("uringloop.proxy")

# What stands in a value without quotes, so that a line falls apart at its spaces.
_PLAIN = re.compile(r"[^\s\"=\\\x00-\x1f\x7f]+")


def event(level: int, name: str, **fields: object) -> None:
    """One line, if anybody wants it. Fields that are None are left out."""
    if LOGGER.isEnabledFor(level):
        LOGGER.log(level, name, extra={"fields": fields})


class KeyValueFormatter(logging.Formatter):
    """key=value; a value with spaces, quotes or the like is a JSON string."""

    def format(self, record: logging.LogRecord) -> str:
        return " ".join(f"{key}={_word(value)}" for key, value in _fields_of(record).items())


class JsonFormatter(logging.Formatter):
    """One JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        return json.dumps(_fields_of(record), default=str)


FORMATTERS: dict[str, type[logging.Formatter]] = {
    "key-value": KeyValueFormatter,
    "json": JsonFormatter,
}


class LineHandler(logging.Handler):
    """Gives each formatted line to a function, with fields that all lines have."""

    def __init__(self, write_line: Callable[[str], object], always: dict[str, object]) -> None:
        super().__init__()
        self._write_line = write_line
        self._always = always

    def emit(self, record: logging.LogRecord) -> None:
        try:
            record.fields = {**self._always, **getattr(record, "fields", {})}
            self._write_line(self.format(record))
        except Exception:
            self.handleError(record)


def configure(level: str, form: str, write_line: Callable[[str], object], **always: object) -> None:
    """Sends lines of that level and above to `write_line`.

    level    a key of LEVELS
    form     a key of FORMATTERS
    always   fields of each line
    """
    handler = LineHandler(write_line, always)
    handler.setFormatter(FORMATTERS[form]())
    for old in LOGGER.handlers[:]:
        LOGGER.removeHandler(old)
    LOGGER.addHandler(handler)
    LOGGER.setLevel(LEVELS[level])
    LOGGER.propagate = False


def report_loop_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """The loop's exception handler: one line; the traceback at level debug."""
    error = context.get("exception")
    event(logging.ERROR, "loop_error", message=context["message"], error=error_text(error))
    if error is not None:
        LOGGER.debug("traceback", exc_info=error)


def error_text(error: BaseException | None) -> str | None:
    """An exception in a few words; None for none."""
    if error is None:
        return None
    return str(error) or type(error).__name__


def _fields_of(record: logging.LogRecord) -> dict[str, object]:
    moment = datetime.fromtimestamp(record.created, timezone.utc)
    fields: dict[str, object] = {
        "time": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "level": record.levelname.lower(),
        "event": record.getMessage(),
    }
    given = getattr(record, "fields", {})
    fields.update((key, value) for key, value in given.items() if value is not None)
    if record.exc_info:
        fields["traceback"] = logging.Formatter().formatException(record.exc_info)
    return fields


def _word(value: object) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return text if _PLAIN.fullmatch(text) else json.dumps(text)
