"""What can end a benchmark, each with a message that says what to do."""

from __future__ import annotations


class BenchError(Exception):
    """The benchmark cannot go on; the message is for the person who started it."""


class MissingError(BenchError):
    """A loop or a program that was named cannot be had here, and why."""
