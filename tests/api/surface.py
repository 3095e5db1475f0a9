"""The asyncio API of the running Python, found by introspection.

A method is named as users write it: loop methods bare ("create_server"), others with their
owner ("Server.close", "asyncio.start_server"). Its signature is that of asyncio's concrete
class, since this is what programs run on.
"""

from __future__ import annotations

import functools
import inspect
from dataclasses import dataclass
from typing import Any

from tests.api import owners
from tests.api.observing import fresh_loops

Version = tuple[int, ...]

# What came after 3.10, by (method, parameter); "" is the method itself. Held against the
# running Python by a test.
SINCE: dict[tuple[str, str], Version] = {
    ("asyncio.Runner", ""): (3, 11),
    ("asyncio.run", "loop_factory"): (3, 12),
    ("connect_accepted_socket", "ssl_shutdown_timeout"): (3, 11),
    ("create_connection", "all_errors"): (3, 12),
    ("create_connection", "ssl_shutdown_timeout"): (3, 11),
    ("create_server", "keep_alive"): (3, 13),
    ("create_server", "ssl_shutdown_timeout"): (3, 11),
    ("create_task", "context"): (3, 11),
    ("create_task", "kwargs"): (3, 13, 3),
    ("create_unix_connection", "ssl_shutdown_timeout"): (3, 11),
    ("create_unix_server", "cleanup_socket"): (3, 13),
    ("create_unix_server", "ssl_shutdown_timeout"): (3, 11),
    ("Handle.get_context", ""): (3, 12),
    ("Server.abort_clients", ""): (3, 13),
    ("Server.close_clients", ""): (3, 13),
    ("shutdown_default_executor", "timeout"): (3, 12),
    ("sock_recvfrom", ""): (3, 11),
    ("sock_recvfrom_into", ""): (3, 11),
    ("sock_sendto", ""): (3, 11),
    ("start_tls", "ssl_shutdown_timeout"): (3, 11),
    ("TimerHandle.get_context", ""): (3, 12),
}

# What a later Python no longer has, by the first version without.
UNTIL: dict[tuple[str, str], Version] = {
    ("create_datagram_endpoint", "reuse_address"): (3, 11),
}


@dataclass(frozen=True)
class Signature:
    """What two methods must have in common to be called alike."""

    form: str
    parameters: tuple[inspect.Parameter, ...]

    @classmethod
    def of(cls, member: Any) -> Signature:
        if isinstance(member, property):
            return cls("property", ())
        form = "coroutine" if inspect.iscoroutinefunction(member) else "function"
        found = [
            parameter.replace(annotation=inspect.Parameter.empty)
            for parameter in inspect.signature(member).parameters.values()
        ]
        return cls(form, tuple(found))

    def difference(self, other: Signature) -> str:
        """How `other` differs in form, names or order; "" when it does not."""
        names = [parameter.name for parameter in self.parameters]
        others = [parameter.name for parameter in other.parameters]
        if (self.form, names) == (other.form, others):
            return ""
        return f"{other.form}({', '.join(others)})"

    def parameter_difference(self, name: str, other: Signature) -> str:
        """How the parameter differs in kind or default; "" when it does not."""
        mine = {parameter.name: parameter for parameter in self.parameters}
        theirs = {parameter.name: parameter for parameter in other.parameters}
        if name not in mine:
            return ""  # taken by **kwargs, which is a row of its own
        if name not in theirs:
            return "missing"
        return "" if mine[name] == theirs[name] else f"`{theirs[name]}`: {theirs[name].kind.name}"


@dataclass(frozen=True)
class Method:
    """A public method, property or function, as asyncio has it."""

    name: str
    signature: Signature

    @property
    def parameters(self) -> tuple[str, ...]:
        return tuple(parameter.name for parameter in self.signature.parameters)

    @property
    def takes_any_name(self) -> bool:
        kinds = [parameter.kind for parameter in self.signature.parameters]
        return inspect.Parameter.VAR_KEYWORD in kinds


def methods() -> list[Method]:
    """All methods of the API of this Python, with the signatures of asyncio's own loop."""
    return [Method(name, signature) for name, signature in signatures("asyncio").items()]


@functools.cache
def signatures(kind: str) -> dict[str, Signature]:
    """The signatures that a kind of loop has; a method that it lacks is missing."""
    with fresh_loops(kind, []) as new_loop:
        members = new_loop().run_until_complete(owners.all_members())
    members |= owners.functions()
    return {name: Signature.of(member) for name, member in members.items() if member is not None}


def since(method: str, parameter: str) -> Version:
    """With which Python it came; () for what was there before."""
    return SINCE.get((method, parameter)) or SINCE.get((method, ""), ())


def until(method: str, parameter: str) -> Version:
    """Which Python no longer has it; () while all have."""
    return UNTIL.get((method, parameter), ())
