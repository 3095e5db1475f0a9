"""HAProxy and nginx as TCP proxies: one thread, no log, a configuration made for the moment.

Each is asked for the least it can do between a client and one upstream, with its own sizes of
buffers, and runs as it is packaged. It listens on a port that was free a moment before, so that
another one is tried when somebody took it.
"""

from __future__ import annotations

import re
import resource
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.children import READY_LIMIT_S, Child, python_command
from bench.errors import BenchError, MissingError
from bench.load import Address

HOST = "127.0.0.1"
# Where Debian has daemons, which is not in everybody's PATH.
SYSTEM_PATH = "/usr/sbin:/usr/local/sbin"
VERSION_LIMIT_S = 10.0
PORTS_TRIED = 5
LOOK_AGAIN_S = 0.02
PAIRS_MAX = 8000
FILES_BESIDE = 200

HAPROXY = """\
global
    nbthread 1
    maxconn {pairs}
defaults
    mode tcp
    maxconn {pairs}
    timeout connect 5s
    timeout client 1h
    timeout server 1h
frontend relay
    bind {listen} backlog 4096
    default_backend upstream
backend upstream
    server upstream {upstream}
"""
NGINX = """\
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log stderr crit;
events {{ worker_connections {connections}; }}
stream {{
    access_log off;
    server {{
        listen {listen} backlog=4096;
        proxy_pass {upstream};
        proxy_connect_timeout 5s;
        proxy_timeout 1h;
    }}
}}
"""


@dataclass(frozen=True)
class Program:
    """One of them: how it is packaged, configured and started with its configuration's file."""

    name: str
    packages: str
    configuration: Callable[[Program], str]
    arguments: Callable[[Path], Sequence[str]]

    def path(self) -> str:
        found = shutil.which(self.name) or shutil.which(self.name, path=SYSTEM_PATH)
        if found is None:
            raise MissingError(
                f"{self.name} was not found (Debian, Ubuntu: apt-get install {self.packages})"
            )
        return found

    def asked(self, option: str) -> str:
        """What it says when started with this option alone."""
        answer = subprocess.run(
            [self.path(), option],
            capture_output=True,
            text=True,
            timeout=VERSION_LIMIT_S,
            check=False,
        )
        return answer.stdout + answer.stderr  # nginx speaks on stderr


def with_stream_module(nginx: Program) -> str:
    """nginx's configuration, which loads the module where that is a file of its own.

    raises      MissingError: nginx was built without it, or it is another package.
    """
    build = nginx.asked("-V")
    if "--with-stream" not in build:
        raise MissingError("nginx: it was built without its stream module")
    if "--with-stream=dynamic" not in build:
        return NGINX
    folder = re.search(r"--modules-path=(\S+)", build)
    module = Path(folder[1] if folder else "modules") / "ngx_stream_module.so"
    if not module.exists():
        raise MissingError(
            "nginx: its stream module was not found "
            "(Debian, Ubuntu: apt-get install libnginx-mod-stream)"
        )
    return f"load_module {module};\n{NGINX}"


PROGRAMS = {
    program.name: program
    for program in (
        Program(
            "haproxy", "haproxy", lambda _: HAPROXY, lambda file: ("-q", "-db", "-f", str(file))
        ),
        Program(
            "nginx",
            "nginx libnginx-mod-stream",
            with_stream_module,
            lambda file: ("-e", "stderr", "-p", str(file.parent), "-c", str(file)),
        ),
    )
}


def probe(name: str) -> dict[str, str]:
    """What it says of itself.

    raises      MissingError: it is not installed, or cannot relay.
    """
    program = PROGRAMS[name]
    version = re.search(r"version:? (?:nginx/)?(\S+)", program.asked("-v"))
    program.configuration(program)
    found = version[1] if version else ""
    return {"name": name, "version": found, "backend": "", "backend_reason": ""}


@contextmanager
def running(name: str, upstream: Address, core: int | None) -> Iterator[tuple[Address, Child]]:
    """The proxy, and where it listens; ended with the block.

    raises      MissingError as probe(); BenchError: it does not start, with its own words.
    """
    program = PROGRAMS[name]
    with tempfile.TemporaryDirectory(prefix=f"{name}-") as folder:
        for tries_left in reversed(range(PORTS_TRIED)):
            address = ["tcp", HOST, str(free_port())]
            command = [program.path(), *program.arguments(Path(folder) / "configuration")]
            write_configuration(program, Path(folder), address, upstream)
            with Child(python_command("bench.tethered", *command), core) as child:
                if not listens(address, child) and tries_left > 0:
                    continue
                if child.ends_within(0):
                    raise BenchError(f"{name} did not start: {child.last_words()}")
                yield address, child
                return


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind((HOST, 0))
        return int(sock.getsockname()[1])


def write_configuration(
    program: Program, folder: Path, address: Address, upstream: Address
) -> None:
    pairs = min(PAIRS_MAX, (open_files_max() - FILES_BESIDE) // 2)
    text = program.configuration(program).format(
        folder=folder,
        listen=":".join(address[1:]),
        upstream=":".join(upstream[1:]),
        pairs=pairs,
        connections=2 * pairs + FILES_BESIDE // 2,
    )
    (folder / "configuration").write_text(text)


def open_files_max() -> int:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 2 * PAIRS_MAX + FILES_BESIDE if most == resource.RLIM_INFINITY else most


def listens(address: Address, child: Child) -> bool:
    """Waits until it accepts connections; False when it has ended instead.

    raises      BenchError: neither happened in time.
    """
    deadline = time.monotonic() + READY_LIMIT_S
    while not child.ends_within(LOOK_AGAIN_S):
        try:
            socket.create_connection((address[1], int(address[2])), READY_LIMIT_S).close()
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise BenchError(
                    f"{child.name} did not listen within {READY_LIMIT_S:g} s"
                ) from None
        else:
            return not child.ends_within(0)
    return False
