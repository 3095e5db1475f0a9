"""Calls that a loop does not have, told from calls that failed."""

from __future__ import annotations

from bench.errors import MissingError

# What a loop raises that does not know a call, or knows it by its name only.
LACKING = (NotImplementedError, AttributeError)


def missing(loop: str, error: BaseException) -> MissingError:
    """Which error it was, with the loop's own words, where it has any."""
    kind = type(error).__name__
    return MissingError(f"{loop}: {kind}: {error}" if str(error) else f"{loop}: {kind}")
