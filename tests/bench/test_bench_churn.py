"""The churn scenario: connections are counted when both ends have closed, and nothing is lost."""

from __future__ import annotations

import os
import selectors
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from bench.children import Child, Cores
from bench.echo import server_command
from bench.errors import BenchError
from bench.load import Address, ChurnPlan, run_churn
from bench.loops import NATIVE_SERVERS
from bench.scenarios import churn
from bench.scenarios.churn import Churn

ANYWHERE = Cores(None, None)
LIMIT_S = 20.0
SHORT_PLAN = ChurnPlan(at_once=4, warmup_s=0.02, duration_s=0.3)
SIZE_BYTES = SHORT_PLAN.size_bytes

Serve = Callable[[socket.socket, int], None]  # a connection, and how many came before it


@pytest.mark.parametrize("mode", ["protocol", "streams"])
def test_connections_are_counted_and_timed(loop_name: str, mode: str) -> None:
    """Four at once cannot take more than four windows together, but for what each began
    before the window, and half of them took the median or longer."""
    sample = Churn(mode, SHORT_PLAN).run_round(loop_name, ANYWHERE)
    assert sample.operations > 0 and sample.measured_cpu_s > 0
    assert sample.p50_us is not None and sample.p99_us is not None and sample.p99_9_us is not None
    assert 0 < sample.p50_us <= sample.p99_us <= sample.p99_9_us
    assert sample.p50_us / 1e6 * (sample.operations - 2 * 4) <= 2 * 4 * sample.seconds * 1.01


def test_the_servers_in_c_are_the_limit_of_the_protocols_table() -> None:
    assert Churn("protocol", SHORT_PLAN).run_round("c-epoll", ANYWHERE).operations > 0
    protocol, streams = churn.scenarios("full")
    assert all(protocol.runs_on(name) for name in ("uvloop", *NATIVE_SERVERS))
    assert streams.runs_on("uvloop") and not any(map(streams.runs_on, NATIVE_SERVERS))
    assert [each.title for each in churn.scenarios("quick")] == [protocol.title]


@pytest.mark.parametrize("size_bytes", [1, 16384])
def test_other_sizes_come_back_whole(size_bytes: int) -> None:
    plan = ChurnPlan(at_once=3, size_bytes=size_bytes, warmup_s=0.01, duration_s=0.3)
    with Child(server_command("asyncio", "protocol", churn.ANY_PORT)) as server:
        address = server.read_answer()["address"]
        assert run_churn(address, plan, server.pid, core=None).operations > 0


@contextmanager
def server_with(serve: Serve) -> Iterator[Address]:
    """A server that serves one connection after the other."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        mine, its = socket.socketpair()
        thread = threading.Thread(target=accept_until_told, args=(listener, its, serve))
        thread.start()
        try:
            yield ["tcp", "127.0.0.1", str(listener.getsockname()[1])]
        finally:
            mine.close()
            thread.join(LIMIT_S)
            its.close()
            assert not thread.is_alive()


def accept_until_told(listener: socket.socket, told: socket.socket, serve: Serve) -> None:
    count = 0
    with selectors.DefaultSelector() as selector:
        selector.register(listener, selectors.EVENT_READ)
        selector.register(told, selectors.EVENT_READ)
        while all(key.fileobj is listener for key, _ in selector.select(LIMIT_S)):
            sock, _ = listener.accept()
            with sock:
                sock.settimeout(LIMIT_S)
                try:
                    serve(sock, count)
                except ConnectionError:
                    return  # the load gave up: that is what is tested
            count += 1


def echo(sock: socket.socket, count: int) -> None:
    sock.sendall(sock.recv(SIZE_BYTES, socket.MSG_WAITALL))
    assert sock.recv(1) == b""


def change_a_byte(sock: socket.socket, count: int) -> None:
    data = sock.recv(SIZE_BYTES, socket.MSG_WAITALL)
    sock.sendall(data if count != 5 else data[:40] + bytes([data[40] ^ 1]) + data[41:])
    assert sock.recv(1) == b""


def lose_a_byte(sock: socket.socket, count: int) -> None:
    sock.sendall(sock.recv(SIZE_BYTES, socket.MSG_WAITALL)[count == 5 :])


def invent_a_byte(sock: socket.socket, count: int) -> None:
    sock.sendall(sock.recv(SIZE_BYTES, socket.MSG_WAITALL) + b"!" * (count == 5))
    assert sock.recv(1) == b""


def close_without_an_answer(sock: socket.socket, count: int) -> None:
    data = sock.recv(SIZE_BYTES, socket.MSG_WAITALL)
    sock.sendall(data if count != 5 else b"")


class MixUp:
    """What one connection sent is given to the one after it."""

    def __init__(self) -> None:
        self._before = b""

    def __call__(self, sock: socket.socket, count: int) -> None:
        data = sock.recv(SIZE_BYTES, socket.MSG_WAITALL)
        sock.sendall(self._before or data)
        self._before = data


def test_a_faithful_server_passes() -> None:
    with server_with(echo) as address:
        assert run_churn(address, SHORT_PLAN, os.getpid(), core=None).operations > 0


@pytest.mark.parametrize(
    ("serve", "words"),
    [
        (change_a_byte, "verification failed"),
        (invent_a_byte, "received more bytes than it sent"),
        (close_without_an_answer, "closed by the server after 0 bytes"),
        (MixUp(), "verification failed"),
        (lose_a_byte, "verification failed"),
    ],
)
def test_an_unfaithful_server_is_noticed(
    serve: Serve, words: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with server_with(serve) as address, pytest.raises(BenchError, match="exit status 1"):
        run_churn(address, SHORT_PLAN, os.getpid(), core=None)
    assert words in capfd.readouterr().err


def test_a_connection_that_the_server_never_closes_is_noticed(
    capfd: pytest.CaptureFixture[str],
) -> None:
    kept: list[socket.socket] = []

    def keep_one_open(sock: socket.socket, count: int) -> None:
        sock.sendall(sock.recv(SIZE_BYTES, socket.MSG_WAITALL))
        if count == 5:
            kept.append(sock.dup())

    try:
        with server_with(keep_one_open) as address, pytest.raises(BenchError):
            run_churn(address, SHORT_PLAN, os.getpid(), core=None)
    finally:
        for sock in kept:
            sock.close()
    assert "1 connections never ended" in capfd.readouterr().err


def test_a_path_or_a_datagram_is_refused(capfd: pytest.CaptureFixture[str]) -> None:
    for address in (["udp", "127.0.0.1", "9"], ["unix", "socket"]):
        with pytest.raises(BenchError, match="exit status 1"):
            run_churn(address, SHORT_PLAN, os.getpid(), core=None)
        assert "over TCP only" in capfd.readouterr().err
