"""PostgreSQL and Redis, where their programs are installed, as servers of a test's own.

Both listen on Unix sockets alone, in a folder of the test: no port can be taken.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import select
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

LIMIT_S = 40.0


def find_postgresql() -> Path | None:
    """The folder of its programs: Debian keeps them out of PATH, a folder for each version."""
    on_path = shutil.which("initdb")
    folders = [Path(on_path).parent] if on_path else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((each for each in folders if (each / "initdb").exists()), None)


@contextlib.contextmanager
def postgresql(programs: Path) -> Iterator[str]:
    """A fresh server; answers the folder of its socket. Its user is `postgres`, without a
    password. It refuses to be root's, so root gives it to another user of the machine."""
    user = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
    with tempfile.TemporaryDirectory(prefix="pg-", ignore_cleanup_errors=True) as folder:
        shutil.chown(folder, user)
        _initdb(programs, folder, user)
        with _postgres(programs, folder, user) as server:
            try:
                _wait_for_line(server, b"ready to accept connections")
                yield folder
            finally:
                server.send_signal(signal.SIGINT)  # without waiting for its clients
                server.communicate(timeout=LIMIT_S)


def _initdb(programs: Path, folder: str, user: str) -> None:
    options = ["--no-sync", "--auth=trust", "--username=postgres", "--encoding=UTF8"]
    subprocess.run(
        [programs / "initdb", *options, "-D", f"{folder}/data"],
        user=user,
        cwd=folder,
        check=True,
        timeout=LIMIT_S,
        capture_output=True,
    )


def _postgres(programs: Path, folder: str, user: str) -> subprocess.Popen[bytes]:
    settings = {"listen_addresses": "", "unix_socket_directories": folder, "fsync": "off"}
    options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    return subprocess.Popen(
        [programs / "postgres", "-D", f"{folder}/data", *options],
        user=user,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


@contextlib.contextmanager
def redis_server(program: str) -> Iterator[str]:
    """A fresh server; answers the path of its socket."""
    with tempfile.TemporaryDirectory(prefix="redis-") as folder:
        path = f"{folder}/socket"
        options = ["--port", "0", "--unixsocket", path, "--save", "", "--dir", folder]
        with subprocess.Popen(
            [program, *options], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        ) as server:
            try:
                _wait_for_line(server, b"ready to accept connections", b"Ready to accept")
                yield path
            finally:
                server.terminate()
                server.communicate(timeout=LIMIT_S)


def _wait_for_line(server: subprocess.Popen[bytes], *wanted: bytes) -> None:
    assert server.stdout is not None
    deadline = time.monotonic() + LIMIT_S
    said = b""
    while not any(each in said for each in wanted):
        ready = select.select([server.stdout], [], [], max(deadline - time.monotonic(), 0.0))[0]
        data = server.stdout.read1() if ready else b""
        assert data, said.decode()
        said += data
