"""The proxy as users start it: processes, signals, exit statuses, lines on stderr."""

from __future__ import annotations

import os
import signal
import socket
from contextlib import ExitStack
from pathlib import Path

import pytest
import trustme

from tests.loops import OURS, parameter
from tests.proxy.processes import (
    ProxyProcess,
    check_echo,
    echo_upstream,
    environment,
    run,
    running_process,
    wait_for_end,
)
from uringloop.proxy.errors import ExitStatus

UPSTREAM = "127.0.0.1:9"


@pytest.mark.parametrize("engine", [parameter(kind) for kind in OURS])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_and_the_status_is_0(engine: str, number: int) -> None:
    with echo_upstream() as upstream, running_process(upstream, URINGLOOP_BACKEND=engine) as proxy:
        assert proxy.until("serving")[0]["engine"] == engine
        with proxy.connect() as client:
            check_echo(client)
            proxy.signal(number)
            assert proxy.until("draining")[0]["connections"] == 1
            check_echo(client)
        assert proxy.process.wait(20) == ExitStatus.DRAINED
        line = proxy.until("connection")[0]
        assert (line["bytes_up"], line["bytes_down"], line["end"]) == (10, 10, "eof")


def test_a_signal_that_comes_at_once_drains() -> None:
    with running_process(UPSTREAM) as alone:
        assert alone.stop() == ExitStatus.DRAINED
    with running_process("--workers", "2", UPSTREAM) as workers:
        assert workers.stop() == ExitStatus.DRAINED


def test_a_second_signal_cuts_and_the_status_is_1() -> None:
    with echo_upstream() as upstream, running_process(upstream) as proxy, proxy.connect() as client:
        check_echo(client)
        proxy.signal(signal.SIGTERM)
        proxy.until("draining")
        proxy.signal(signal.SIGINT)
        with pytest.raises(ConnectionResetError):
            client.recv(1)
        assert proxy.process.wait(20) == ExitStatus.CUT
        assert proxy.until("connection")[0]["end"] == "cut"


def test_the_file_of_a_unix_socket_goes_with_the_proxy(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with echo_upstream() as upstream, running_process(upstream, listen=str(path)) as proxy:
        with proxy.connect() as client:
            check_echo(client)
        assert proxy.stop() == 0
        assert not path.exists()


# -- several workers --------------------------------------------------------------------


def pids_of(proxy: ProxyProcess, count: int) -> list[int]:
    return [event["pid"] for event in proxy.until("worker_started", count)]


@pytest.mark.parametrize("engine", [parameter(kind) for kind in OURS])
def test_workers_share_the_connections(engine: str) -> None:
    with (
        echo_upstream() as upstream,
        running_process("--workers", "2", upstream, URINGLOOP_BACKEND=engine) as proxy,
    ):
        for _ in range(60):
            with proxy.connect() as client:
                check_echo(client)
        lines = proxy.until("connection", 60)
        assert {line["worker"] for line in lines} == {0, 1}, "all on one: once in 2**59 runs"
        assert proxy.stop() == 0


def test_workers_share_a_path(tmp_path: Path) -> None:
    with (
        echo_upstream() as upstream,
        running_process("--workers", "2", upstream, listen=str(tmp_path / "socket")) as proxy,
    ):
        for _ in range(10):
            with proxy.connect() as client:
                check_echo(client)
        assert proxy.stop() == 0
        assert not (tmp_path / "socket").exists()


def test_a_worker_that_dies_is_replaced_and_no_connection_is_refused() -> None:
    """Connections that come while there is no worker wait in the queue, which the parent has."""
    with echo_upstream() as upstream, running_process("--workers", "2", upstream) as proxy:
        victims = pids_of(proxy, 2)
        proxy.until("serving", 2)
        for pid in victims:
            os.kill(pid, signal.SIGKILL)
        assert [event["status"] for event in proxy.until("worker_ended", 2)] == [-9, -9]
        with ExitStack() as stack:
            clients = [stack.enter_context(proxy.connect()) for _ in range(20)]
            for client in clients:
                check_echo(client)
        assert set(pids_of(proxy, 4)[2:]).isdisjoint(victims)
        assert proxy.stop() == 0


def test_a_worker_that_is_told_to_end_drains_and_is_replaced() -> None:
    with echo_upstream() as upstream, running_process("--workers", "2", upstream) as proxy:
        victim = pids_of(proxy, 2)[0]
        proxy.until("serving", 2)
        os.kill(victim, signal.SIGTERM)
        assert proxy.until("worker_ended")[0]["status"] == 0
        pids_of(proxy, 3)
        assert proxy.stop() == 0


def test_a_signal_to_parent_and_workers_at_once_is_one_request() -> None:
    """A service manager signals the whole group; Ctrl-C reaches it as well."""
    with (
        echo_upstream() as upstream,
        running_process("--workers", "2", upstream) as proxy,
        proxy.connect() as client,
    ):
        check_echo(client)
        for pid in [proxy.process.pid, *pids_of(proxy, 2)]:
            os.kill(pid, signal.SIGTERM)
            if pid != proxy.process.pid:
                os.kill(pid, signal.SIGINT)
        proxy.until("draining", 2)
        check_echo(client)
        client.close()
        assert proxy.process.wait(20) == ExitStatus.DRAINED


def test_a_second_signal_cuts_the_connections_of_all_workers() -> None:
    with echo_upstream() as upstream, running_process("--workers", "2", upstream) as proxy:
        with ExitStack() as stack:
            clients = [stack.enter_context(proxy.connect()) for _ in range(10)]
            for client in clients:
                check_echo(client)
            proxy.signal(signal.SIGTERM)
            proxy.until("draining", 2)
            proxy.signal(signal.SIGTERM)
            for client in clients:
                with pytest.raises(ConnectionResetError):
                    client.recv(1)
        assert proxy.process.wait(20) == ExitStatus.CUT


def test_draining_refuses_new_connections_though_the_parent_had_the_listener() -> None:
    with (
        echo_upstream() as upstream,
        running_process("--workers", "2", upstream) as proxy,
        proxy.connect() as client,
    ):
        check_echo(client)
        proxy.signal(signal.SIGTERM)
        proxy.until("draining", 2)
        proxy_address = proxy.address
        assert isinstance(proxy_address, tuple)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(proxy_address)


def test_no_worker_outlives_a_parent_that_is_killed() -> None:
    with echo_upstream() as upstream, running_process("--workers", "2", upstream) as proxy:
        pidfds = [os.pidfd_open(pid) for pid in pids_of(proxy, 2)]
        proxy.until("serving", 2)
        with proxy.connect() as client:
            check_echo(client)
            proxy.process.kill()
            proxy.until("draining", 2)
            check_echo(client)
        assert all(map(wait_for_end, pidfds))
        for pidfd in pidfds:
            os.close(pidfd)


def test_a_worker_that_does_not_answer_is_killed_by_the_third_signal() -> None:
    with echo_upstream() as upstream, running_process("--workers", "2", upstream) as proxy:
        stopped = pids_of(proxy, 2)[0]
        proxy.until("serving", 2)
        os.kill(stopped, signal.SIGSTOP)
        proxy.signal(signal.SIGTERM)
        proxy.until("stopping")
        proxy.signal(signal.SIGTERM)
        proxy.signal(signal.SIGINT)
        assert proxy.until("worker_killed")[0]["pid"] == stopped
        assert proxy.process.wait(20) == ExitStatus.CUT


# -- what is wrong, in one line ---------------------------------------------------------


def one_line(*arguments: str, **changes: str) -> tuple[int, str]:
    """Status and message of a command that fails."""
    ended = run("proxy", *arguments, **changes)
    assert ended.stdout == ""
    assert ended.stderr.startswith("uringloop: "), ended.stderr
    assert ended.stderr.count("\n") == 1, ended.stderr
    return ended.returncode, ended.stderr.removeprefix("uringloop: ").rstrip()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Missing argument 'LISTEN'."),
        ([":0"], "Missing argument 'UPSTREAM [UPSTREAM...]'."),
        (["8080", UPSTREAM], "address '8080' has no port: write HOST:PORT, :PORT or unix:PATH"),
        ([":0", ":9"], "upstream ':9' has no host: write for example 127.0.0.1:9"),
        (["--workers", "0", ":0", UPSTREAM], "Invalid value for '--workers'"),
        (["--idle-timeout", "-1", ":0", UPSTREAM], "Invalid value for '--idle-timeout'"),
        (["--balance", "best", ":0", UPSTREAM], "Invalid value for '--balance'"),
        (["--tls-key", "k", ":0", UPSTREAM], "--tls-key needs --tls-cert"),
        (["--upstream-ca", "c", ":0", UPSTREAM], "--upstream-ca needs --upstream-tls"),
        (["--upstream-name", "n", ":0", UPSTREAM], "--upstream-name needs --upstream-tls"),
        (["--upstream-tls", ":0", "/x"], "--upstream-tls to unix:/x needs --upstream-name"),
        (["--no-such-option", ":0", UPSTREAM], "No such option"),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(arguments: list[str], message: str) -> None:
    status, said = one_line(*arguments)
    assert status == ExitStatus.USAGE
    assert said.startswith(message)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_port_in_use_is_one_line_and_status_3(workers: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = "{}:{}".format(*taken.getsockname())
        assert one_line("--workers", workers, address, UPSTREAM) == (
            ExitStatus.LISTEN,
            f"cannot listen on {address}: Address already in use",
        )


def test_useless_certificates_are_one_line_and_status_4(tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate, key = str(tmp_path / "cert"), str(tmp_path / "key")
    authority.issue_cert("a.test").cert_chain_pems[0].write_to_path(certificate)
    authority.issue_cert("b.test").private_key_pem.write_to_path(key)
    listen = ["127.0.0.1:0", UPSTREAM]
    assert one_line("--tls-cert", "/missing", *listen) == (
        ExitStatus.CERTIFICATE,
        "cannot read /missing: No such file or directory",
    )
    status, said = one_line("--tls-cert", certificate, "--tls-key", key, *listen)
    assert (status, said) == (
        ExitStatus.CERTIFICATE,
        f"{certificate}: the private key in {key} does not fit",
    )


def test_no_event_loop_is_one_line_and_status_5() -> None:
    said = one_line("--log-level", "error", "127.0.0.1:0", UPSTREAM, URINGLOOP_BACKEND="nonsense")
    assert said[0] == ExitStatus.ENGINE
    assert said[1].startswith("no event loop can be had here: URINGLOOP_BACKEND is 'nonsense'")


def test_workers_without_an_event_loop_end_the_parent_with_status_5() -> None:
    with running_process("--workers", "2", UPSTREAM, URINGLOOP_BACKEND="nonsense") as proxy:
        assert proxy.process.wait(20) == ExitStatus.ENGINE
        assert "nonsense" in proxy.until("worker_failed")[0]["error"]


def test_help_has_examples_and_all_options() -> None:
    ended = run("proxy", "--help")
    assert ended.returncode == 0
    for word in (
        "Examples:",
        "--balance",
        "--connect-timeout",
        "--idle-timeout",
        "--max-connections",
        "--workers",
        "--tls-cert",
        "--tls-key",
        "--upstream-tls",
        "--upstream-ca",
        "--upstream-name",
        "--accept-proxy",
        "--send-proxy",
        "--drain-timeout",
        "--log-level",
        "--log-format",
        "--status / --no-status",
    ):
        assert word in ended.stdout


def test_without_click_the_command_line_says_what_to_install(tmp_path: Path) -> None:
    """A module of that name that cannot be imported stands before the real one."""
    (tmp_path / "click.py").write_text("raise ModuleNotFoundError(\"no click\", name='click')\n")
    path = os.pathsep.join([str(tmp_path), environment()["PYTHONPATH"]])
    ended = run("proxy", ":0", UPSTREAM, PYTHONPATH=path)
    assert ended.returncode == 2
    assert ended.stderr == "uringloop: this needs click: pip install 'uringloop[cli]'\n"
    doctor = run("doctor", PYTHONPATH=path)
    assert "engine" in doctor.stdout
    assert doctor.stderr == ""
