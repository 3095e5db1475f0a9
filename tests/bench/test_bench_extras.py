"""The bodies about our own methods: they run on our loops, and others are said to lack them."""

from __future__ import annotations

import asyncio

import pytest

from bench import loops
from bench.errors import MissingError
from bench.extras import EXTRAS


@pytest.mark.parametrize("title", EXTRAS)
@pytest.mark.parametrize("name", ["uringloop", "uringloop-epoll"])
def test_a_body_does_its_operation(name: str, title: str) -> None:
    loop = loops.new_event_loop(name)
    try:
        assert loop.run_until_complete(EXTRAS[title].run(3)) > 0
    finally:
        loop.close()


@pytest.mark.parametrize("title", EXTRAS)
def test_another_loop_lacks_the_method(title: str) -> None:
    with pytest.raises(MissingError, match="only uringloop"):
        asyncio.run(EXTRAS[title].run(1))
