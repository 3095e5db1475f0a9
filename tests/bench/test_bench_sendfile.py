"""The sendfile scenarios: whole files, the right bytes, and a fault is noticed."""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bench.children import Child, Cores, python_command
from bench.errors import BenchError, MissingError
from bench.load import Address
from bench.loops import NATIVE_SERVERS
from bench.scenarios import sendfile
from bench.scenarios.sendfile import KIB, MIB, FileOnDisk, SendFile
from bench.scenarios.sendfile_client import percentile_us

ANYWHERE = Cores(None, None)
LIMIT_S = 20.0
SIZE_BYTES = 100_000

Answer = Callable[[bytes, int], bytes]  # the file, and how many times it was asked for before


@pytest.mark.parametrize("size_bytes", [1, 64 * KIB, 3 * MIB + 5])
def test_files_are_counted_and_timed(loop_name: str, size_bytes: int) -> None:
    sample = SendFile(size_bytes, warmup_s=0.01, seconds=0.05).run_round(loop_name, ANYWHERE)
    assert sample.operations > 0 and sample.measured_cpu_s > 0
    per_mib = sample.cpu_us_per_operation * MIB / size_bytes
    assert sample.extra == {"CPU µs per MiB": pytest.approx(per_mib)}
    assert sample.p50_us is not None
    # They came one after the other, and half of them took the median or longer.
    assert 0 < sample.p50_us / 1e6 * sample.operations <= 2 * sample.seconds


def test_the_sizes_are_tables_and_the_large_ones_are_for_the_full_matrix() -> None:
    titles = ["sendfile, TCP, 64 KiB", "sendfile, TCP, 1 MiB", "sendfile, TCP, 1024 MiB"]
    full = sendfile.scenarios("full")
    assert [each.title for each in full] == titles
    assert [each.title for each in sendfile.scenarios("quick")] == titles[:1]
    assert not any(full[0].runs_on(name) for name in NATIVE_SERVERS)


def test_a_loop_without_sendfile_is_missing_in_its_own_words(lacking_loop: str) -> None:
    words = "lacking_loop: loop.sendfile: NotImplementedError: files are not sent here"
    with pytest.raises(MissingError, match=words):
        SendFile(KIB, 0.0, 0.0).run_round(lacking_loop, ANYWHERE)


def test_a_file_has_no_name_and_goes_with_its_owner() -> None:
    file = FileOnDisk(2 * MIB + 1)
    path = Path(file.path)
    content = path.read_bytes()
    assert len(content) == 2 * MIB + 1
    assert content[:MIB] != content[MIB : 2 * MIB]
    assert "(deleted)" in os.readlink(path)
    del file
    assert not path.exists()


def test_the_file_of_a_scenario_is_written_once() -> None:
    scenario = SendFile(KIB, 0.0, 0.0)
    assert scenario._path == scenario._path


def test_percentiles_are_values_and_need_enough_of_them() -> None:
    values = [number / 1e6 for number in range(1000, 0, -1)]
    assert percentile_us(values, 0.5) == pytest.approx(500)
    assert percentile_us(values, 0.999) == pytest.approx(999)
    assert percentile_us(values[:3], 0.5) == pytest.approx(999)
    assert percentile_us(values[:3], 0.99) is None


@contextmanager
def server_with(answer: Answer, file: bytes) -> Iterator[Address]:
    """A server for one connection that answers each request with what `answer` makes of it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(LIMIT_S)
        thread = threading.Thread(target=serve, args=(listener, answer, file))
        thread.start()
        yield ["tcp", "127.0.0.1", str(listener.getsockname()[1])]
        thread.join(LIMIT_S)
        assert not thread.is_alive()


def serve(listener: socket.socket, answer: Answer, file: bytes) -> None:
    sock, _ = listener.accept()
    count = 0
    with sock:
        sock.settimeout(LIMIT_S)
        try:
            while sock.recv(1):
                wanted = answer(file, count)
                sock.sendall(wanted)
                if len(wanted) < len(file):
                    return
                count += 1
        except ConnectionError:
            return  # the client gave up: that is what is tested


def fetch_from(answer: Answer) -> dict[str, float]:
    """What the client says of a server in this process."""
    file = FileOnDisk(SIZE_BYTES)
    with server_with(answer, Path(file.path).read_bytes()) as address:
        plan = (file.path, "0.02", "0.05", str(os.getpid()))
        command = python_command("bench.scenarios.sendfile_client", *address[1:], *plan)
        with Child(command) as client:
            return client.read_answer()


def test_a_faithful_server_passes() -> None:
    assert fetch_from(lambda file, count: file)["files"] > 0


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda file, count: file[:-1] + b"!", "other bytes than the file's, from 0 on"),
        (lambda file, count: file[:-1], "other bytes than the file's, from 0 on"),
        (lambda file, count: file[: -1 if count == 5 else None], "with 1 bytes of the file to"),
        (lambda file, count: file + b"!" * (count == 0), "1 bytes came after the end"),
        (lambda file, count: file + b"!" * count, "bytes came after the end of the file"),
    ],
    ids=["changed", "cut at first", "cut later", "one too many", "too many"],
)
def test_an_unfaithful_server_is_noticed(
    answer: Answer, words: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(BenchError, match="exit status 1"):
        fetch_from(answer)
    assert words in capfd.readouterr().err


def test_a_server_that_breaks_off_is_noticed(capfd: pytest.CaptureFixture[str]) -> None:
    """A reset in the place of a file, as from a server whose transport was aborted."""
    file = FileOnDisk(SIZE_BYTES)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        host, port = listener.getsockname()
        plan = (file.path, "0", "0.05", str(os.getpid()))
        command = python_command("bench.scenarios.sendfile_client", host, str(port), *plan)
        with Child(command) as client:
            sock, _ = listener.accept()
            with sock:
                sock.settimeout(LIMIT_S)
                assert sock.recv(1)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            with pytest.raises(BenchError, match="exit status 1"):
                client.read_answer()
    assert "Connection reset" in capfd.readouterr().err
