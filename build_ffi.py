"""Builds `uringloop.driver._engine`: the C engine behind cffi, in API mode.

What Python sees is what engine.h declares; the preprocessor lines are left out, since
cffi has no preprocessor. The C sources are files of their own.

Environment, for building only:
    URINGLOOP_WERROR=1                     C warnings are errors (the check sets it)
    URINGLOOP_SANITIZE=address,undefined   instruments the engine; slow, for tests
    URINGLOOP_FAULTS=1                     puts tests/faults between the engine and the kernel
"""

import os
import shlex
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any, NoReturn

MODULE = "uringloop.driver._engine"
ENGINE = Path("uringloop/driver/engine")
SOURCES = [
    "engine.c",
    "calls.c",
    "epoll.c",
    "epoll_operations.c",
    "epoll_messages.c",
    "epoll_wait.c",
    "epoll_lifetime.c",
    "relay.c",
    "relay_uring.c",
    "relay_pool.c",
    "uring.c",
    "send_uring.c",
    "steps.c",
    "ring.c",
    "restrictions.c",
    "requests.c",
    "files.c",
    "buffers.c",
    "lifetime.c",
    "probe.c",
]
HEADERS = ["engine.h", "internal.h", "calls.h", "uring.h", "epoll.h", "relay.h", "relay_pool.h"]
BORDER = Path("tests/faults")
BORDER_SOURCES = ["border.c", "border_calls.c", "border_ring.c"]
# Each is `__real_NAME` to the border, and what the engine calls by this name is its `__wrap_NAME`.
WRAPPED = [
    *("recv", "recvmsg", "recvmmsg", "read", "send", "sendto", "sendmsg", "write", "writev"),
    *("sendfile", "accept4", "connect", "getsockname", "getpeername", "poll", "epoll_ctl"),
    *("epoll_wait", "syscall", "malloc", "calloc", "realloc", "free", "mmap", "munmap"),
    *("io_uring_queue_init_params", "io_uring_queue_exit", "io_uring_register"),
    "io_uring_enter2",
]
LIBURING_AT_LEAST = "2.3"
REMEDY = "apt-get install liburing-dev pkg-config gcc python3-dev"
C_FLAGS = ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-fvisibility=hidden"]

HERE = Path(__file__).resolve().parent


def stop(what: str) -> NoReturn:
    """Ends the build with one line that says what is missing and how to get it."""
    raise SystemExit(f"uringloop: {what}. On Debian or Ubuntu run: {REMEDY}")


def compiler() -> list[str]:
    return shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    except FileNotFoundError:
        stop(f"{command[0]} is not installed")


def pkg_config(*arguments: str) -> list[str]:
    program = os.environ.get("PKG_CONFIG", "pkg-config")
    answer = run([program, *arguments, f"liburing >= {LIBURING_AT_LEAST}"])
    if answer.returncode:
        stop(f"liburing {LIBURING_AT_LEAST} or newer is not installed")
    return shlex.split(answer.stdout)


def builds(code: str, *flags: str) -> bool:
    """Whether `code` compiles and links into a shared object with these flags."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "trial.c")
        source.write_text(code)
        output = str(Path(folder, "trial.so"))
        command = [*compiler(), "-shared", "-fPIC", str(source), "-o", output, *flags]
        return run(command).returncode == 0


def require_headers(include_flags: list[str]) -> None:
    if not builds("int trial;"):
        stop(f"the C compiler ({shlex.join(compiler())}) does not work")
    python = [f"-I{sysconfig.get_path(name)}" for name in ("include", "platinclude")]
    if not builds("#include <Python.h>\n", *python):
        stop("the header Python.h is not installed")
    if not builds("#include <liburing.h>\n", *include_flags):
        stop("the header liburing.h is not installed")


def liburing_link_flags(cflags: list[str]) -> list[str]:
    """The static library where it links into a shared object, so that the built module
    runs where liburing is not installed; else the dynamic one."""
    folder = pkg_config("--variable=libdir")
    archive = Path(folder[0], "liburing.a") if folder else Path("liburing.a")
    code = "#include <liburing.h>\nint trial(void) { return io_uring_enter2(-1, 0, 0, 0, 0, 0); }"
    if archive.is_file() and builds(code, *cflags, "-Wl,-z,defs", str(archive)):
        return [str(archive)]
    dynamic = pkg_config("--libs")
    if not builds(code, *cflags, "-Wl,-z,defs", *dynamic):
        stop("liburing does not link")
    return dynamic


def declarations(header: Path) -> str:
    """A header as cffi wants it: without the lines for the preprocessor."""
    lines = (HERE / header).read_text().splitlines()
    return "\n".join(line for line in lines if not line.startswith("#"))


def extra_c_flags() -> list[str]:
    flags = ["-Werror"] if os.environ.get("URINGLOOP_WERROR") == "1" else []
    sanitizers = os.environ.get("URINGLOOP_SANITIZE")
    if sanitizers:
        flags += ["-g", "-fno-omit-frame-pointer", f"-fsanitize={sanitizers}"]
    return flags


def make_ffi() -> Any:
    try:
        from cffi import FFI
    except ImportError:
        sys.exit("uringloop: cffi is not installed. Run: pip install cffi")
    cflags = pkg_config("--cflags")
    require_headers(cflags)
    flags = extra_c_flags()
    ffi = FFI()
    headers = [ENGINE / "engine.h"]
    sources = [str(ENGINE / name) for name in SOURCES]
    link_flags = [*flags, *liburing_link_flags(cflags), "-pthread"]
    if os.environ.get("URINGLOOP_FAULTS") == "1":
        headers.append(BORDER / "border.h")
        sources += [str(BORDER / name) for name in BORDER_SOURCES]
        link_flags += [f"-Wl,--wrap={name}" for name in WRAPPED]
    for header in headers:
        ffi.cdef(declarations(header))
    ffi.set_source(
        MODULE,
        "\n".join(f'#include "{header.name}"' for header in headers),
        sources=sources,
        depends=[str(ENGINE / name) for name in HEADERS],
        include_dirs=[str(header.parent) for header in headers],
        extra_compile_args=[*C_FLAGS, *flags, *cflags],
        extra_link_args=link_flags,
    )
    return ffi


ffibuilder = make_ffi()

if __name__ == "__main__":
    os.chdir(HERE)
    ffibuilder.compile(verbose=True)
