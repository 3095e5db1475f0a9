"""What the options of several commands here have in common: how their words are read."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence


def parser_of(name: str, docstring: str | None) -> argparse.ArgumentParser:
    """A parser whose help is the module's docstring."""
    summary, _, rest = (docstring or "").partition("\n")
    return argparse.ArgumentParser(
        name,
        description=summary,
        epilog=rest,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def names_among(known: Sequence[str]) -> Callable[[str], list[str]]:
    def parse(text: str) -> list[str]:
        for name in names(text):
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name} is none of {', '.join(known)}")
        return names(text)

    return parse


def positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


def positive_seconds(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


def numbers(text: str) -> list[int]:
    return [positive(number) for number in names(text)]


def print_progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
