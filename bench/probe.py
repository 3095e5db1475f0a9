"""Which of the loops and programs named run here, each asked in a process of its own."""

from __future__ import annotations

from collections.abc import Sequence

from bench import loops, native, proxies
from bench.children import Child, python_command
from bench.errors import BenchError, MissingError

Facts = dict[str, str]


def native_command(name: str, address: Sequence[str]) -> list[str]:
    """What starts the C server of that name."""
    return [str(native.built(loops.NATIVE_SERVERS[name])), *address]


def probe(name: str) -> Facts:
    """What a loop says of itself.

    raises      MissingError: not installed, or it does not run here; its own words.
    """
    if name in loops.NATIVE_SERVERS:
        return _probe_native(name)
    if name in loops.PROXIES:
        return proxies.probe(name)
    try:
        with Child(python_command("bench.server", name, "probe")) as child:
            answer = child.read_answer()
    except BenchError as error:
        raise MissingError(f"{name}: {error}") from error
    if "missing" in answer:
        raise MissingError(answer["missing"])
    facts: Facts = answer["loop"]
    return facts


def _probe_native(name: str) -> Facts:
    try:
        with Child(native_command(name, ["tcp", "127.0.0.1", "0"])) as child:
            child.read_answer()
    except BenchError as error:
        raise MissingError(f"{name}: {error}") from error
    return {"name": name, "version": "", "backend": "", "backend_reason": ""}


def probe_all(names: Sequence[str]) -> tuple[list[Facts], list[Facts]]:
    """The loops that run here, and the missing ones with their reasons."""
    found, missing = [], []
    for name in names:
        try:
            found.append(probe(name))
        except MissingError as error:
            missing.append({"name": name, "reason": str(error)})
    return found, missing
