"""uringloop: an asyncio event loop for Linux, on io_uring and, where that is denied, on epoll.

    import uringloop
    uringloop.run(main())

Every asyncio program runs unchanged. See the README for what differs and what is faster.
"""

from __future__ import annotations

from uringloop import _interpreter, _rendering

_interpreter.refuse_subinterpreters()
_rendering.choose_rendering()

from uringloop import files  # noqa: E402
from uringloop.async_files.opening import open  # noqa: A004, E402 - as the builtin is called
from uringloop.loop import EventLoop  # noqa: E402
from uringloop.metrics import Metrics  # noqa: E402
from uringloop.probe import Probe, probe  # noqa: E402
from uringloop.relay import relay  # noqa: E402
from uringloop.relay_base import Relay  # noqa: E402
from uringloop.relay_result import RelayEnd, RelayResult  # noqa: E402
from uringloop.running import EventLoopPolicy, install, new_event_loop, run  # noqa: E402
from uringloop.servers import Server  # noqa: E402
from uringloop.shared_port import share_port  # noqa: E402

__version__ = "0.1.0"

__all__ = [
    "EventLoop",
    "EventLoopPolicy",
    "Metrics",
    "Probe",
    "Relay",
    "RelayEnd",
    "RelayResult",
    "Server",
    "files",
    "install",
    "new_event_loop",
    "open",
    "probe",
    "relay",
    "run",
    "share_port",
]
