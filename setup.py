"""The parts of the build that pyproject.toml cannot say: two kinds of C extension, and how many
compilers at a time.

URINGLOOP_PURE=1 leaves out the compiled hot modules; their .py files are then used.
"""

import os
from pathlib import Path

from setuptools import setup
from setuptools.command.build_ext import build_ext

# Compiled by Cython under the same name; a .pxd beside the .py adds types.
HOT_MODULES = [
    "uringloop/context_calls.pyx",
    "uringloop/handles.py",
    "uringloop/write_queue.py",
    "uringloop/stream_state.py",
    "uringloop/timer_queue.py",
    "uringloop/core.py",
    "uringloop/lanes.py",
    "uringloop/socket_operations.py",
    "uringloop/sockets.py",
    "uringloop/transports/transport_base.py",
    "uringloop/transports/stream_base.py",
    "uringloop/transports/receiving.py",
    "uringloop/transports/stream.py",
    "uringloop/transports/pipes.py",
    "uringloop/transports/datagram_receiving.py",
    "uringloop/transports/datagram.py",
    "uringloop/transports/socket_info.py",
    "uringloop/servers.py",
    "uringloop/readiness.py",
    "uringloop/relay_base.py",
    "uringloop/relay_engine.py",
    "uringloop/relay.py",
    "uringloop/driver/in_flight.py",
    "uringloop/driver/rings.pyx",
]


def hot_extensions() -> list:
    present = [path for path in HOT_MODULES if Path(path).is_file()]
    if os.environ.get("URINGLOOP_PURE") == "1" or not present:
        return []
    from Cython.Build import cythonize

    directives = {"language_level": 3, "annotation_typing": False, "binding": True}
    extensions = cythonize(present, compiler_directives=directives, build_dir="build/cython")
    for extension in extensions:
        extension.include_dirs.append("uringloop/driver/engine")
    return extensions


class ParallelBuild(build_ext):
    """A compiler on each core, also for pip, which has no option for that."""

    def finalize_options(self) -> None:
        super().finalize_options()
        if self.parallel is None:
            self.parallel = len(os.sched_getaffinity(0))


setup(
    cffi_modules=["build_ffi.py:ffibuilder"],
    ext_modules=hot_extensions(),
    cmdclass={"build_ext": ParallelBuild},
)
