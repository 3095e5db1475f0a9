"""Where checks are declared: `@SUBJECT.check("create_server", "reuse_port")`.

A check is a small program that uses one method, and proves the parameters that it names. It
returns an observation: plain values that are equal whenever the behaviour is, so no port, no
descriptor, no path. It takes `loop`, on which it runs if it is a coroutine function, or
`new_loop`, which makes loops. It knows nothing of the kind of loop.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

CheckFunction = TypeVar("CheckFunction", bound=Callable[..., Any])


@dataclass(frozen=True)
class Check:
    """method       as surface.Method names it: "create_server", "Server.close"
    parameters   those it proves; the method itself is proven by any of its checks
    """

    method: str
    parameters: tuple[str, ...]
    function: Callable[..., Any]
    name: str

    @property
    def sentence(self) -> str:
        return self.name.replace("_", " ")

    @property
    def takes(self) -> str:
        """The name of the only argument: "loop" or "new_loop"."""
        (name,) = inspect.signature(self.function).parameters
        return name


@dataclass
class Subject:
    """One table of the document, in the order of its methods' first checks."""

    title: str
    checks: list[Check] = field(default_factory=list)

    def check(self, method: str, *parameters: str) -> Callable[[CheckFunction], CheckFunction]:
        """Declares the decorated function to be a check of `method`; may be stacked."""

        def declare(function: CheckFunction) -> CheckFunction:
            self.add(Check(method, parameters, function, function.__name__))
            return function

        return declare

    def add(self, check: Check) -> None:
        known = {(other.method, other.name) for other in self.checks}
        assert (check.method, check.name) not in known, f"two checks of one name: {check}"
        self.checks.append(check)
