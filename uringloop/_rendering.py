"""Which rendering of the hot modules is used: compiled, or interpreted by URINGLOOP_PURE=1.

A compiled module stands beside its .py file under the same name, and Python prefers it.
With URINGLOOP_PURE=1 a finder in front of Python's own prefers the .py. This must run
before any other module of the package is imported.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from types import ModuleType

HOT_MODULES = frozenset(
    {
        "uringloop.context_calls",
        "uringloop.handles",
        "uringloop.write_queue",
        "uringloop.stream_state",
        "uringloop.timer_queue",
        "uringloop.core",
        "uringloop.transports.pipes",
        "uringloop.lanes",
        "uringloop.readiness",
        "uringloop.relay",
        "uringloop.relay_base",
        "uringloop.relay_engine",
        "uringloop.socket_operations",
        "uringloop.servers",
        "uringloop.sockets",
        "uringloop.transports.datagram",
        "uringloop.transports.datagram_receiving",
        "uringloop.transports.receiving",
        "uringloop.transports.socket_info",
        "uringloop.transports.stream",
        "uringloop.transports.stream_base",
        "uringloop.transports.transport_base",
        "uringloop.driver.in_flight",
        "uringloop.driver.rings",
    }
)


class InterpretedFinder:
    """Finds the .py file of a hot module, and nothing else."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in HOT_MODULES or path is None:
            return None
        for folder in path:
            source = os.path.join(folder, name.rpartition(".")[2] + ".py")
            if os.path.exists(source):
                loader = SourceFileLoader(name, source)
                return spec_from_file_location(name, source, loader=loader)
        return None


def choose_rendering() -> None:
    """Installs the finder when URINGLOOP_PURE=1."""
    if os.environ.get("URINGLOOP_PURE") == "1" and InterpretedFinder not in sys.meta_path:
        sys.meta_path.insert(0, InterpretedFinder)


def is_compiled() -> bool:
    """Whether the hot modules that are in use are the compiled ones."""
    module = sys.modules["uringloop.core"]
    return not str(module.__file__).endswith(".py")
