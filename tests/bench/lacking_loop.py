"""An event loop that has neither subprocesses nor sendfile, as some peers have not."""

from __future__ import annotations

import asyncio
from typing import Any


class LackingLoop(asyncio.SelectorEventLoop):
    async def subprocess_exec(self, *arguments: Any, **options: Any) -> Any:
        raise NotImplementedError("children are not made here")

    async def sendfile(self, *arguments: Any, **options: Any) -> Any:
        raise NotImplementedError("files are not sent here")


def new_event_loop() -> LackingLoop:
    return LackingLoop()
