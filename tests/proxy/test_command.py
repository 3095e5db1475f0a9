"""What the options mean. Whole processes are in test_processes.py."""

from __future__ import annotations

import resource
import ssl
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import trustme

from uringloop import __version__
from uringloop.command_line import run
from uringloop.proxy import command
from uringloop.proxy.addresses import TcpAddress, UnixAddress
from uringloop.proxy.command import proxy
from uringloop.proxy.starting import Settings

LISTEN, UPSTREAM = ":8080", "127.0.0.1:9000"


@pytest.fixture(autouse=True)
def _restored_limit() -> Iterator[None]:
    """Without --max-connections the limit of open files is raised."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def settings_of(*arguments: str) -> Settings:
    context = proxy.make_context("proxy", list(arguments))
    return command._settings(context.params)


def test_without_options_everything_has_its_default() -> None:
    settings = settings_of(LISTEN, UPSTREAM)
    assert settings.listen == TcpAddress("", 8080)
    assert (settings.workers, settings.drain_timeout_s) == (1, 30.0)
    assert (settings.log_level, settings.log_format) == ("info", "key-value")
    connections = settings.connections
    assert connections.upstreams == (TcpAddress("127.0.0.1", 9000),)
    assert connections.balance == "round-robin"
    assert connections.connect_timeout_s == 5.0
    assert connections.handshake_timeout_s == 10.0
    assert connections.idle_timeout_s == 600.0
    assert connections.server_tls is None and connections.upstream_tls is None
    assert connections.upstream_name is None
    assert not connections.accepts_header and connections.header_version is None


@pytest.mark.parametrize(
    ("option", "field", "value"),
    [
        (["--balance", "least-connections"], "balance", "least-connections"),
        (["--connect-timeout", "0.5"], "connect_timeout_s", 0.5),
        (["--handshake-timeout", "2"], "handshake_timeout_s", 2.0),
        (["--idle-timeout", "7"], "idle_timeout_s", 7.0),
        (["--idle-timeout", "0"], "idle_timeout_s", None),
        (["--max-connections", "3"], "connections_max", 3),
        (["--accept-proxy"], "accepts_header", True),
        (["--send-proxy", "v1"], "header_version", 1),
        (["--send-proxy", "v2"], "header_version", 2),
        (["--upstream-tls", "--upstream-name", "db"], "upstream_name", "db"),
    ],
)
def test_an_option_reaches_the_connections(option: list[str], field: str, value: Any) -> None:
    assert getattr(settings_of(*option, LISTEN, UPSTREAM).connections, field) == value


@pytest.mark.parametrize(
    ("option", "field", "value"),
    [
        (["--workers", "4"], "workers", 4),
        (["--drain-timeout", "0"], "drain_timeout_s", 0.0),
        (["--log-level", "warning"], "log_level", "warning"),
        (["--log-format", "json"], "log_format", "json"),
        (["--status"], "shows_status", False),  # a test's stderr is no terminal
    ],
)
def test_an_option_reaches_the_process(option: list[str], field: str, value: Any) -> None:
    assert getattr(settings_of(*option, LISTEN, UPSTREAM), field) == value


def test_several_upstreams_of_any_kind_keep_their_order() -> None:
    settings = settings_of("unix:/run/l", "a:1", "[::1]:2", "/run/u")
    assert settings.listen == UnixAddress("/run/l")
    assert settings.connections.upstreams == (
        TcpAddress("a", 1),
        TcpAddress("::1", 2),
        UnixAddress("/run/u"),
    )


def test_tls_options_make_contexts_that_verify(tmp_path: Path) -> None:
    authority = trustme.CA()
    both, ca = str(tmp_path / "both.pem"), str(tmp_path / "ca.pem")
    authority.issue_cert("h").private_key_and_cert_chain_pem.write_to_path(both)
    authority.cert_pem.write_to_path(ca)
    connections = settings_of(
        "--tls-cert", both, "--upstream-tls", "--upstream-ca", ca, LISTEN, UPSTREAM
    ).connections
    assert connections.server_tls is not None and connections.upstream_tls is not None
    assert connections.upstream_tls.verify_mode is ssl.CERT_REQUIRED
    assert connections.upstream_tls.check_hostname
    assert len(connections.upstream_tls.get_ca_certs()) == 1


def test_connections_are_as_many_as_descriptors_allow_and_the_limit_is_raised() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    connections = settings_of(LISTEN, UPSTREAM).connections
    assert connections.connections_max == (hard - command._DESCRIPTORS_KEPT) // 2
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == hard


def test_a_given_number_of_connections_leaves_the_limit_alone() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    settings_of("--max-connections", "5", LISTEN, UPSTREAM)
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 256


class Terminal:
    """A stderr that says what it is."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("option", "is_shown"), [([], True), (["--status"], True), (["--no-status"], False)]
)
def test_on_a_terminal_figures_are_shown_unless_refused(
    monkeypatch: pytest.MonkeyPatch, option: list[str], is_shown: bool
) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert settings_of(*option, LISTEN, UPSTREAM).shows_status is is_shown


def test_without_rich_a_terminal_gets_lines_alone_unless_figures_are_demanded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setattr(command, "find_spec", lambda name: None)
    assert settings_of(LISTEN, UPSTREAM).shows_status is False
    with pytest.raises(click.UsageError, match=r"pip install 'uringloop\[cli\]'"):
        settings_of("--status", LISTEN, UPSTREAM)


def test_the_version_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"uringloop {__version__}\n"


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["doctor", "--nonsense"]])
def test_a_command_that_does_not_exist_is_one_line(
    capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    assert run(arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith("uringloop: ") and said.count("\n") == 1
