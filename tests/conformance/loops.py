"""The loops under test, by name, and how CPython's tests are made to use one.

`io_uring` and `epoll` are ours; `asyncio` is the oracle: whatever is not left out must
pass on it too, or the harness is wrong.

CPython's tests make a loop in four ways: `asyncio.new_event_loop()` (also inside
asyncio.run, Runner and IsolatedAsyncioTestCase), `asyncio.SelectorEventLoop(...)`,
`asyncio.EventLoop` as a loop factory, and a policy. `LoopMaker.installed` redirects all
four, and counts.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import mmap
import warnings
from collections.abc import Callable, Iterator
from unittest import mock

LOOP_IDS = ("io_uring", "epoll", "asyncio")
LoopFactory = Callable[[], asyncio.AbstractEventLoop]

_SelectorEventLoop = asyncio.SelectorEventLoop


def loop_factory(loop_id: str) -> LoopFactory:
    if loop_id == "asyncio":
        return _SelectorEventLoop
    import uringloop

    return functools.partial(uringloop.new_event_loop, backend=loop_id)


@functools.cache
def why_unusable(loop_id: str) -> str | None:
    """The kernel's refusal in words, or None where the loop can be had."""
    if loop_id != "io_uring":
        return None
    import uringloop

    return uringloop.probe().refusal


with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    _DefaultPolicy = asyncio.DefaultEventLoopPolicy


# Since 3.14 the public functions warn that policies are deprecated.
get_policy = getattr(asyncio.events, "_get_event_loop_policy", asyncio.get_event_loop_policy)
set_policy = getattr(asyncio.events, "_set_event_loop_policy", asyncio.set_event_loop_policy)


class _Policy(_DefaultPolicy):
    def __init__(self, factory: LoopFactory) -> None:
        super().__init__()
        self._factory = factory

    def new_event_loop(self) -> asyncio.AbstractEventLoop:
        return self._factory()


class LoopMaker:
    """Makes loops of one kind, and knows whether it made any."""

    def __init__(self, loop_id: str) -> None:
        self._factory = loop_factory(loop_id)
        # Shared with forked children, where some tests make their only loop.
        self._has_made = mmap.mmap(-1, 1)

    @property
    def has_made(self) -> bool:
        """Whether a loop was made, here or in a forked child."""
        return self._has_made[0] != 0

    def __call__(self, selector: object = None) -> asyncio.AbstractEventLoop:
        """A new loop. A selector, which CPython's tests hand over, is not used."""
        del selector
        self._has_made[0] = 1
        return self._factory()

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """All ways to make a loop lead here."""
        set_policy(_Policy(self))
        names = [name for name in ("SelectorEventLoop", "EventLoop") if hasattr(asyncio, name)]
        try:
            with mock.patch.multiple(asyncio, **dict.fromkeys(names, self)):
                yield
        finally:
            set_policy(None)
