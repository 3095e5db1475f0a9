"""The scenario of idle connections: what is read of memory, and that none is lost unnoticed."""

from __future__ import annotations

import os
import resource
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from bench.children import Child, Cores, python_command
from bench.errors import BenchError, MissingError
from bench.load import Address, LoadPlan
from bench.loops import NATIVE_SERVERS
from bench.scenarios import idle, memory
from bench.scenarios.idle import IdleConnections, allow_open_files, memory_figures
from bench.scenarios.memory import Memory, mapped_kib, memory_of

ANYWHERE = Cores(None, None)
LIMIT_S = 20.0
WAIT_FOR_EVER = [sys.executable, "-c", "import threading; threading.Event().wait()"]
SHORT_PLAN = LoadPlan(connections=2, warmup_s=0.02, duration_s=0.3, verify=True)


@pytest.mark.parametrize("mode", ["protocol", "streams"])
def test_memory_and_a_turn_are_measured(loop_name: str, mode: str) -> None:
    """150 is not a whole number of batches."""
    sample = IdleConnections(mode, 150, SHORT_PLAN).run_round(loop_name, ANYWHERE)
    assert sample.operations > 0 and sample.measured_cpu_s > 0
    assert sample.p50_us is not None and sample.p99_9_us is not None
    assert 0 < sample.p50_us <= sample.p99_9_us
    # A protocol, a transport and a socket object are some hundred bytes at the least.
    assert 0.2 < sample.extra["KiB per connection"] < 100
    assert ("KiB of rings" in sample.extra) == (loop_name == "uringloop")


def test_the_servers_in_c_are_the_limit_of_the_protocols_table() -> None:
    (protocol,) = idle.scenarios("full")
    streams = IdleConnections("streams", 1000, SHORT_PLAN)
    assert all(protocol.runs_on(name) for name in ("uvloop", *NATIVE_SERVERS))
    assert streams.runs_on("uvloop") and not any(map(streams.runs_on, NATIVE_SERVERS))
    (quick,) = idle.scenarios("quick")
    assert quick.title == "1000 idle connections, 10 busy, echo protocol"
    assert protocol.title == "10000 idle connections, 10 busy, echo protocol"


def test_memory_per_connection_is_the_difference() -> None:
    before = Memory(pss=1000, rings=84, locked=0, slab=5000)
    after = Memory(pss=1300, rings=84, locked=64, slab=6000)
    assert memory_figures(before, after, 200) == {
        "KiB per connection": 1.5,
        "KiB of the machine's slab per connection": 5.0,
        "KiB of rings": 84,
        "KiB locked": 64,
    }


def test_memory_that_is_touched_is_counted() -> None:
    before = memory_of(os.getpid())
    touched = bytearray(b"1" * (64 << 20))
    after = memory_of(os.getpid())
    assert (60 << 10) < after.pss - before.pss < (80 << 10)
    assert len(touched) == 64 << 20
    assert after.slab > 0


def test_mappings_are_added_up_by_their_name() -> None:
    smaps = (
        "7f00-7f10 rw-s 00000000 00:10 1 anon_inode:[io_uring]\nRss: 16 kB\nPss: 16 kB\n"
        "7f10-7f20 rw-p 00000000 00:00 0 \nPss: 400 kB\nPss_Dirty: 4 kB\n"
        "7f20-7f30 rw-s 10000000 00:10 1 anon_inode:[io_uring]\nPss: 68 kB\nPss_Dirty: 8 kB\n"
    )
    assert mapped_kib(smaps, memory.RING) == 84
    assert mapped_kib(smaps, "[heap]") == 0


def test_the_memory_of_a_process_that_is_gone_says_so() -> None:
    with Child(WAIT_FOR_EVER) as child:
        assert memory_of(child.pid).pss > 0
    with pytest.raises(BenchError, match=f"{child.pid} has ended"):
        memory_of(child.pid)


def test_the_limit_of_open_files_is_raised_for_a_child_alone() -> None:
    own = resource.getrlimit(resource.RLIMIT_NOFILE)
    with Child(WAIT_FOR_EVER) as child:
        resource.prlimit(child.pid, resource.RLIMIT_NOFILE, (20, own[1]))
        allow_open_files(child.pid, own[1])
        assert resource.prlimit(child.pid, resource.RLIMIT_NOFILE) == (own[1], own[1])
        allow_open_files(child.pid, 10)
        assert resource.prlimit(child.pid, resource.RLIMIT_NOFILE) == (own[1], own[1])
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == own


def test_more_open_files_than_allowed_are_missing_with_the_remedy() -> None:
    with Child(WAIT_FOR_EVER) as child, pytest.raises(MissingError, match="ulimit -Hn"):
        allow_open_files(child.pid, 1 << 40)  # more than fs.nr_open can be


@contextmanager
def server_that_answers(messages: int) -> Iterator[Address]:
    """One connection, which is closed after that many messages."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(LIMIT_S)
        thread = threading.Thread(target=answer, args=(listener, messages))
        thread.start()
        yield ["tcp", "127.0.0.1", str(listener.getsockname()[1])]
        thread.join(LIMIT_S)
        assert not thread.is_alive()


def answer(listener: socket.socket, messages: int) -> None:
    sock, _ = listener.accept()
    with sock:
        sock.settimeout(LIMIT_S)
        for _ in range(messages):
            sock.sendall(sock.recv(64, socket.MSG_WAITALL))


def idle_client(address: Address) -> Child:
    return Child(python_command("bench.scenarios.idle_clients", *address[1:], "1"))


def test_each_connection_answers_when_it_is_opened_and_at_the_end() -> None:
    with server_that_answers(2) as address, idle_client(address) as clients:
        assert clients.read_answer() == {"ready": True}
        with idle.opened(clients):
            pass


def test_a_connection_lost_while_idle_is_an_error() -> None:
    with server_that_answers(1) as address, idle_client(address) as clients:
        clients.read_answer()
        os.kill(clients.pid, signal.SIGUSR1)
        assert clients.read_answer() == {"open": 1}
        os.kill(clients.pid, signal.SIGUSR1)
        with pytest.raises(BenchError, match="exit status 1"):
            clients.read_answer()
