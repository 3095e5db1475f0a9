"""The C programs: they compile without a warning, echo every byte, and notice a wrong one."""

from __future__ import annotations

import ctypes
import hashlib
import os
import random
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from bench import native
from bench.children import Child
from bench.echo import server_command
from bench.errors import BenchError, MissingError
from bench.load import Address, LoadPlan, run_load
from bench.loops import NATIVE_SERVERS
from bench.probe import probe

SOCKET_LIMIT_S = 20.0
ANY_PORT = ["tcp", "127.0.0.1", "0"]
HEADERS = {"uring": "liburing.h", "ssl": "openssl/ssl.h"}  # of a library
SHORT_PLAN = LoadPlan(warmup_s=0.02, duration_s=0.1, verify=True)

Echo = Callable[[bytes, int], bytes]  # the bytes received, and their offset


@pytest.fixture(params=list(NATIVE_SERVERS))
def native_server(request: pytest.FixtureRequest) -> str:
    """A C echo server's name; skipped, with the reason, where it does not run."""
    try:
        probe(request.param)
    except MissingError as error:
        pytest.skip(str(error))
    return str(request.param)


def address_in(tmp_path: Path, family: str) -> Address:
    return ANY_PORT if family == "tcp" else ["unix", str(tmp_path / "echo.sock")]


@pytest.mark.parametrize("program", list(native.PROGRAMS))
def test_the_c_programs_compile_without_a_warning(program: str, tmp_path: Path) -> None:
    for library in native.PROGRAMS[program].libraries:
        header = HEADERS.get(library, "stdio.h")
        if not (Path("/usr/include") / header).exists():
            pytest.skip(f"{header} is not installed: the benchmark then reports the same")
    assert native.built(program, tmp_path, "-Werror").exists()


def test_a_missing_header_is_named_with_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "lacking.c"
    source.write_text("#include <nowhere/nothing.h>\n")
    program = native.Program("lacking", (str(source),), package="libnothing-dev")
    monkeypatch.setitem(native.PROGRAMS, "lacking", program)
    words = (
        r"lacking does not compile: .*nothing\.h: No such file .*apt-get install libnothing-dev\)$"
    )
    with pytest.raises(MissingError, match=words):
        native.built("lacking", tmp_path)


def test_a_missing_compiler_is_named_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(MissingError, match=r"no-such-compiler was not found .*apt-get install"):
        native.built("load", tmp_path)


@pytest.mark.parametrize("family", ["tcp", "unix"])
@pytest.mark.parametrize(
    ("connections", "size_bytes", "pipeline"),
    [(1, 1, 1), (50, 1024, 1), (7, 100_001, 5), (3, 3_000_000, 2)],
)
def test_a_native_server_echoes_every_byte(
    native_server: str,
    family: str,
    connections: int,
    size_bytes: int,
    pipeline: int,
    tmp_path: Path,
) -> None:
    plan = replace(SHORT_PLAN, connections=connections, size_bytes=size_bytes, pipeline=pipeline)
    with Child(server_command(native_server, "", address_in(tmp_path, family))) as server:
        address = server.read_answer()["address"]
        for _ in range(2):  # the second load finds what the first one left
            result = run_load(address, plan, server.pid, core=None)
            assert result.operations > 0 and result.measured_cpu_s > 0


def test_a_native_server_answers_end_of_file_after_the_last_byte(native_server: str) -> None:
    data = random.Random(1).randbytes(8 * 1024 * 1024)
    with Child(server_command(native_server, "", ANY_PORT)) as server:
        _, host, port = server.read_answer()["address"]
        with socket.create_connection((host, int(port)), timeout=SOCKET_LIMIT_S) as sock:
            sender = threading.Thread(target=send_and_shut, args=(sock, data))
            sender.start()
            received = read_to_end(sock)
            sender.join(SOCKET_LIMIT_S)
    assert hashlib.sha256(received).digest() == hashlib.sha256(data).digest()


def test_a_native_server_survives_a_peer_that_breaks_the_connection(native_server: str) -> None:
    """Fill the connection without reading, reset it, then see that the server still serves."""
    with Child(server_command(native_server, "", ANY_PORT)) as server:
        address = server.read_answer()["address"]
        for _ in range(20):
            with socket.create_connection((address[1], int(address[2]))) as sock:
                sock.setblocking(False)
                fill(sock)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        result = run_load(address, SHORT_PLAN, server.pid, core=None)
        assert result.operations > 0


def fill(sock: socket.socket) -> None:
    try:
        while True:
            sock.send(bytes(65536))
    except BlockingIOError:
        return


def send_and_shut(sock: socket.socket, data: bytes) -> None:
    sock.sendall(data)
    sock.shutdown(socket.SHUT_WR)


def read_to_end(sock: socket.socket) -> bytes:
    parts = []
    while part := sock.recv(1 << 20):
        parts.append(part)
    return b"".join(parts)


@contextmanager
def server_with(echo: Echo) -> Iterator[Address]:
    """A server for a single connection that answers what `echo` makes of the bytes."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(SOCKET_LIMIT_S)
        thread = threading.Thread(target=serve_one, args=(listener, echo))
        thread.start()
        yield ["tcp", "127.0.0.1", str(listener.getsockname()[1])]
        thread.join(SOCKET_LIMIT_S)
        assert not thread.is_alive()


def serve_one(listener: socket.socket, echo: Echo) -> None:
    sock, _ = listener.accept()
    offset = 0
    with sock:
        sock.settimeout(SOCKET_LIMIT_S)
        try:
            while data := sock.recv(65536):
                sock.sendall(echo(data, offset))
                offset += len(data)
        except ConnectionError:
            return  # the load gave up on us: that is what is tested


def flip_byte_5000(data: bytes, offset: int) -> bytes:
    changed = bytearray(data)
    if offset <= 5000 < offset + len(data):
        changed[5000 - offset] ^= 1
    return bytes(changed)


def lose_byte_5000(data: bytes, offset: int) -> bytes:
    at = 5000 - offset
    return data[:at] + data[at + 1 :] if 0 <= at < len(data) else data


def invent_bytes_at_the_end(data: bytes, offset: int) -> bytes:
    return data + b"!" if offset >= 5000 else data


def run_against(echo: Echo, *, verify: bool, answer_bytes: int | None = None) -> None:
    plan = LoadPlan(
        connections=1,
        size_bytes=1000,
        verify=verify,
        warmup_s=0.1,
        duration_s=0.1,
        answer_bytes=answer_bytes,
    )
    with server_with(echo) as address:
        run_load(address, plan, os.getpid(), core=None)


def test_a_faithful_server_passes_verification() -> None:
    run_against(lambda data, offset: data, verify=True)


def test_a_changed_byte_fails_verification_and_is_located(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(BenchError, match="exit status 1"):
        run_against(flip_byte_5000, verify=True)
    assert "verification failed: connection 0, offset 5000" in capfd.readouterr().err


def test_a_changed_byte_passes_where_bytes_are_not_compared() -> None:
    run_against(flip_byte_5000, verify=False)


def test_a_lost_byte_is_noticed_without_verification(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(BenchError, match="exit status 1"):
        run_against(lose_byte_5000, verify=False)
    assert "1 messages never came back" in capfd.readouterr().err


def test_an_invented_byte_is_noticed_without_verification(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(BenchError, match="exit status 1"):
        run_against(invent_bytes_at_the_end, verify=False)
    assert "received more bytes than it sent" in capfd.readouterr().err


def test_a_connection_closed_by_the_server_is_an_error(capfd: pytest.CaptureFixture[str]) -> None:
    def close_at_once(data: bytes, offset: int) -> bytes:
        raise ConnectionError

    with pytest.raises(BenchError, match="exit status 1"):
        run_against(close_at_once, verify=False)
    error = capfd.readouterr().err
    assert "was closed by the server" in error or "Connection reset" in error


class Sink:
    """The last 8 of each 1000 bytes, of what is left of them after `lose`."""

    def __init__(self, lose: Echo = lambda data, offset: data) -> None:
        self._lose = lose
        self._position = 0

    def __call__(self, data: bytes, offset: int) -> bytes:
        data = self._lose(data, offset)
        answered = bytes(
            byte for number, byte in enumerate(data, self._position) if number % 1000 >= 992
        )
        self._position += len(data)
        return answered


def test_the_end_of_each_message_is_answer_enough() -> None:
    run_against(Sink(), verify=True, answer_bytes=8)


def test_a_byte_that_a_sink_has_not_got_shifts_its_next_answer(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(BenchError, match="exit status 1"):
        run_against(Sink(lose_byte_5000), verify=True, answer_bytes=8)
    error = capfd.readouterr().err
    assert "verification failed: connection 0, offset 5992" in error or "never came back" in error


def test_an_answer_to_what_was_not_sent_is_noticed(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(BenchError, match="exit status 1"):
        run_against(lambda data, offset: data[:16], verify=False, answer_bytes=8)
    assert "received more bytes than it sent" in capfd.readouterr().err


@pytest.mark.parametrize(("size_bytes", "answer_bytes"), [(1, 1), (1000, 1000), (3_000_000, 4096)])
def test_the_sink_answers_every_message(size_bytes: int, answer_bytes: int, tmp_path: Path) -> None:
    plan = replace(SHORT_PLAN, size_bytes=size_bytes, pipeline=3, answer_bytes=answer_bytes)
    options = ["-s", str(size_bytes), "-r", str(answer_bytes)]
    for family in ("tcp", "unix"):
        command = [str(native.built("sink")), *options, *address_in(tmp_path, family)]
        with Child(command) as server:
            address = server.read_answer()["address"]
            assert run_load(address, plan, server.pid, core=None).operations > 0


def test_an_answer_longer_than_its_message_is_refused(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(BenchError, match="exit status 1"):
        run_load(["tcp", "127.0.0.1", "9"], LoadPlan(answer_bytes=2000), os.getpid(), core=None)
    assert "an answer is the end of a message" in capfd.readouterr().err


@pytest.fixture(scope="module")
def histogram(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    library = tmp_path_factory.mktemp("histogram") / "histogram.so"
    source = native.SOURCE_DIRECTORY / "histogram.c"
    command = ["cc", "-shared", "-fPIC", "-O2", "-o", str(library), str(source), "-lm"]
    subprocess.run(command, check=True, timeout=SOCKET_LIMIT_S)
    loaded = ctypes.CDLL(str(library))
    loaded.histogram_at.argtypes = [ctypes.c_void_p, ctypes.c_double]
    loaded.histogram_at.restype = ctypes.c_uint64
    loaded.histogram_record.argtypes = [ctypes.c_void_p, ctypes.c_uint64]
    return loaded


@pytest.mark.parametrize("seed", range(5))
def test_percentiles_of_the_histogram_are_those_of_the_sorted_values(
    histogram: ctypes.CDLL, seed: int
) -> None:
    """Values over eleven powers of ten, against sorting them; within 1 %, as promised."""
    memory = ctypes.create_string_buffer(1 << 17)
    numbers = random.Random(seed)
    values = sorted(int(10 ** numbers.uniform(0, 11)) for _ in range(1001))
    for value in values:
        histogram.histogram_record(memory, value)
    for fraction in (0.001, 0.5, 0.9, 0.99, 0.999, 1.0):
        exact = values[-(-int(fraction * 1000 * 1001) // 1000) - 1]
        assert histogram.histogram_at(memory, fraction) == pytest.approx(exact, rel=0.01, abs=0.5)


def test_an_empty_histogram_answers_zero(histogram: ctypes.CDLL) -> None:
    assert histogram.histogram_at(ctypes.create_string_buffer(1 << 17), 0.5) == 0
