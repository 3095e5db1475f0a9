"""HAProxy and nginx as children: found, started, ended for sure; or missing, with the remedy."""

from __future__ import annotations

import os
import select
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bench import native, probe, proxies, runner
from bench.children import ROOT, Cores
from bench.errors import BenchError, MissingError
from bench.load import LoadPlan
from bench.runner import Settings
from bench.scenarios.relay import RelayMessages

LIMIT_S = 30.0
NOWHERE = ["tcp", "127.0.0.1", "1"]
SHORT = RelayMessages(LoadPlan(2, 1024, warmup_s=0.02), seconds=0.1)

# Listens where its configuration says, as HAProxy does; what comes before it may end it.
LISTENER = """\
import re, socket, sys, pathlib
port = re.search(r"bind 127.0.0.1:(\\d+)", pathlib.Path(sys.argv[-1]).read_text())[1]
with socket.create_server(("127.0.0.1", int(port))) as listener:
    while True:
        listener.accept()[0].close()
"""
ADDRESS_IN_USE = """\
import pathlib, sys
tries = pathlib.Path(__file__ + ".tries")
tries.write_text((tries.read_text() if tries.exists() else "") + "x")
if len(tries.read_text()) <= {failures}:
    sys.exit("cannot bind socket (Address already in use)")
"""

Install = Callable[[str, str], None]  # a program's name, and its source in Python


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Install:
    """Puts a program into PATH, where nothing else is but the compiler's name."""
    native.built("echo_epoll")
    native.built("load")
    for name in ("cc", "pkg-config"):
        if found := shutil.which(name):
            (tmp_path / name).symlink_to(found)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(proxies, "SYSTEM_PATH", str(tmp_path))

    def write(name: str, source: str) -> None:
        program = tmp_path / name
        program.write_text(f"#!{sys.executable}\n{source}")
        program.chmod(0o755)

    return write


@pytest.fixture(params=list(proxies.PROGRAMS))
def installed(request: pytest.FixtureRequest) -> str:
    """The name of a program that is installed here."""
    try:
        proxies.probe(request.param)
    except MissingError as error:
        pytest.skip(str(error))
    return str(request.param)


@pytest.mark.parametrize(
    ("name", "packages"), [("haproxy", "haproxy"), ("nginx", "nginx libnginx-mod-stream")]
)
def test_a_program_that_is_not_installed_is_missing_with_the_remedy(
    install: Install, name: str, packages: str
) -> None:
    lines: list[str] = []
    settings = Settings(1, "asyncio", Cores(None, None))
    report = runner.run([name, "asyncio"], [SHORT], settings, lines.append)
    reason = f"{name} was not found (Debian, Ubuntu: apt-get install {packages})"
    assert report["missing"] == [{"name": name, "reason": reason}]
    assert f"missing: {reason}" in lines
    assert list(report["scenarios"][0]["loops"]) == ["asyncio"]


@pytest.mark.parametrize(
    ("build", "words"),
    [
        ("--with-http_ssl_module", "built without its stream module"),
        ("--modules-path=/nowhere --with-stream=dynamic", "apt-get install libnginx-mod-stream"),
    ],
)
def test_an_nginx_that_cannot_relay_is_missing(install: Install, build: str, words: str) -> None:
    install("nginx", f"print('nginx version: nginx/1.22.1\\nconfigure arguments: {build}')")
    with pytest.raises(MissingError, match=words):
        probe.probe("nginx")


@pytest.mark.parametrize(
    ("build", "first_line"),
    [
        ("--with-stream --with-threads", "daemon off;"),
        ("--modules-path={folder} --with-stream=dynamic", "load_module {folder}/{module};"),
    ],
    ids=["built in", "a file of its own"],
)
def test_an_nginx_that_can_relay_is_found_with_its_module(
    install: Install, tmp_path: Path, build: str, first_line: str
) -> None:
    module = "ngx_stream_module.so"
    (tmp_path / module).touch()
    arguments = build.format(folder=tmp_path)
    install("nginx", f"print('nginx version: nginx/1.22.1\\nconfigure arguments: {arguments}')")
    assert probe.probe("nginx")["version"] == "1.22.1"
    text = proxies.with_stream_module(proxies.PROGRAMS["nginx"])
    assert text.splitlines()[0] == first_line.format(folder=tmp_path, module=module)


def test_a_program_says_its_version(installed: str) -> None:
    assert proxies.probe(installed)["version"][:1].isdigit()


def test_a_program_ends_with_its_block(installed: str) -> None:
    with proxies.running(installed, NOWHERE, None) as (address, child):
        assert Path(f"/proc/{child.pid}/comm").read_text().strip() == installed
        socket.create_connection((address[1], int(address[2])), LIMIT_S).close()
    assert not Path(f"/proc/{child.pid}").exists()


def test_a_program_ends_with_a_benchmark_that_is_killed(installed: str) -> None:
    source = (
        "import threading; from bench import proxies\n"
        f"with proxies.running({installed!r}, {NOWHERE!r}, None) as (_, child):\n"
        "    print(child.pid, flush=True); threading.Event().wait()\n"
    )
    command = [sys.executable, "-c", source]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as benchmark:
        assert benchmark.stdout is not None
        try:
            pidfd = os.pidfd_open(int(benchmark.stdout.readline()))
        finally:
            benchmark.kill()
        assert select.select([pidfd], [], [], LIMIT_S)[0]
        os.close(pidfd)


def test_another_port_is_tried_where_the_first_was_taken_meanwhile(install: Install) -> None:
    install("haproxy", ADDRESS_IN_USE.format(failures=2) + LISTENER)
    with proxies.running("haproxy", NOWHERE, None) as (address, _):
        socket.create_connection((address[1], int(address[2])), LIMIT_S).close()


def test_a_program_that_does_not_start_fails_with_its_last_words(install: Install) -> None:
    install("haproxy", ADDRESS_IN_USE.format(failures=1000))
    words = r"haproxy did not start: cannot bind socket \(Address already in use\)"
    with pytest.raises(BenchError, match=words), proxies.running("haproxy", NOWHERE, None):
        pass


def test_a_program_that_never_listens_is_given_up(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proxies, "READY_LIMIT_S", 0.2)
    install("haproxy", "import threading; threading.Event().wait()")
    with (
        pytest.raises(BenchError, match=r"did not listen within 0\.2 s"),
        proxies.running("haproxy", NOWHERE, None),
    ):
        pass
