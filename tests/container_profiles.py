"""The seccomp profiles of container_profiles.ini, applied to this process."""

from __future__ import annotations

import configparser
import errno
from collections.abc import Iterator, Mapping
from pathlib import Path

from seccomp_filter import ALLOWED, Rule, numbers_by_name, restrict

FACTS = Path(__file__).with_name("container_profiles.ini")
PROFILES = ("docker", "podman")


def contain(profile: str) -> None:
    """From now on this process may call what it might in such a container."""
    facts = configparser.ConfigParser()
    facts.optionxform = str  # type: ignore[assignment,method-assign]
    with FACTS.open() as file:
        facts.read_file(file)
    numbers = numbers_by_name()
    rules = [*_conditions(facts[profile]), *_answers(facts[profile]), *_answers(facts["both"])]
    known = [Rule(numbers[name], *rest) for name, *rest in rules if name in numbers]
    restrict(known, _answer(facts[profile]["otherwise"]))


def _answer(word: str) -> int:
    return ALLOWED if word == "allowed" else int(getattr(errno, word))


def _conditions(section: Mapping[str, str]) -> Iterator[tuple[str, int, int, int, int]]:
    for line in section["conditions"].strip().splitlines():
        name, argument, mask, value, answer = line.split()
        yield name, _answer(answer), int(argument), int(mask, 16), int(value)


def _answers(section: Mapping[str, str]) -> Iterator[tuple[str, int]]:
    for word in ("EPERM", "ENOSYS", "allowed"):
        for name in section.get(word, "").split():
            yield name, _answer(word)
