"""The datagram mode of the echo benchmark: whole, in order, and a lost one is noticed."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bench import echo
from bench.errors import BenchError
from bench.load import Address, LoadPlan, run_load

SOCKET_LIMIT_S = 20.0
SIZE_BYTES = 1000

Answer = Callable[[bytes, int], list[bytes]]  # the datagram, and how many came before it


def test_a_run_over_datagrams_compares_every_byte(tmp_path: Path) -> None:
    """--families is about streams; several under way on a connection are kept apart."""
    file = tmp_path / "echo.json"
    arguments = ["--modes", "datagram", "--families", "tcp,unix", "--pipeline", "4"]
    arguments += ["--loops", "asyncio,c-epoll", "--baseline", "asyncio", "--rounds", "1"]
    assert echo.main([*arguments, "--seconds", "0.1", "--json", str(file)]) == 0
    (scenario,) = json.loads(file.read_text())["scenarios"]
    assert scenario["title"] == "echo UDP, 1 KiB, 10 connections, pipeline 4"
    assert list(scenario["loops"]) == ["asyncio"]


@contextmanager
def server_with(answer: Answer) -> Iterator[Address]:
    """A UDP server that answers each datagram with what `answer` makes of it."""
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(SOCKET_LIMIT_S)
        thread = threading.Thread(target=serve, args=(sock, answer))
        thread.start()
        try:
            yield ["udp", "127.0.0.1", str(sock.getsockname()[1])]
        finally:
            with socket.socket(type=socket.SOCK_DGRAM) as end:
                end.sendto(b"", sock.getsockname())
            thread.join(SOCKET_LIMIT_S)
            assert not thread.is_alive()


def serve(sock: socket.socket, answer: Answer) -> None:
    count = 0
    while True:
        data, address = sock.recvfrom(65536)
        if not data:
            return
        for each in answer(data, count):
            sock.sendto(each, address)
        count += 1


def run_against(answer: Answer) -> None:
    plan = LoadPlan(1, SIZE_BYTES, verify=True, warmup_s=0.1, duration_s=0.1)
    with server_with(answer) as address:
        run_load(address, plan, os.getpid(), core=None)


def test_a_faithful_server_passes() -> None:
    run_against(lambda data, count: [data])


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda data, count: [data] * (count != 5), "1 messages never came back"),
        (lambda data, count: [data[: 500 if count == 5 else None]], "a datagram of 500 bytes"),
        (lambda data, count: [data[::-1]], "verification failed: connection 0"),
    ],
    ids=["lost", "cut", "changed"],
)
def test_an_unfaithful_server_is_noticed(
    answer: Answer, words: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(BenchError, match="exit status 1"):
        run_against(answer)
    assert words in capfd.readouterr().err


def test_a_datagram_that_cannot_be_is_refused(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(BenchError, match="exit status 1"):
        run_load(["udp", "127.0.0.1", "9"], LoadPlan(size_bytes=65508), os.getpid(), core=None)
    assert "a datagram has at most 65507 bytes" in capfd.readouterr().err
