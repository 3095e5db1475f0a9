"""Limits of the process: descriptors, locked memory, memory, disk, and very many connections.

Each is met by a program of its own, which has to see the error where asyncio shows it, and
to work as before when there is room again.
"""

from __future__ import annotations

import errno
import resource
import socket
from asyncio import AbstractEventLoop
from collections.abc import Iterator

import pytest
from children import run_program, started_program
from extent import IS_LONG
from loops import io_uring_refusal
from peers import reset
from pipe_ends import PipeRecorder

CONNECTIONS = 10_000 if IS_LONG else 1_000
LOCKED_BYTES_USUAL = 8 << 20


@pytest.mark.difference("server_closed_while_it_rests")
def test_a_process_of_64_descriptors_sees_emfile_and_recovers(loop_kind: str) -> None:
    """Row 30: connecting, listening, children, datagrams and further loops; nothing leaks."""
    assert run_program("few_descriptors.py", loop_kind) == "recovered\n"


def test_a_first_loop_that_found_no_descriptor_decides_nothing_for_the_next() -> None:
    """Row 30: what io_uring answers to a process without descriptors is not remembered."""
    out = run_program("first_loop_without_descriptors.py", URINGLOOP_BACKEND="auto")
    expected = "io_uring" if io_uring_refusal() is None else "epoll"
    assert out.splitlines() == ["refused", expected]


def test_enfile_is_reported_and_the_server_recovers(loop_kind: str) -> None:
    """Rows 30 and 31. A filter stands for the full table."""
    assert run_program("accept_enfile.py", loop_kind) == "ENFILE\nserved\n"


@pytest.mark.parametrize(
    ("count", "locked_bytes"),
    [(64, 0), (8, 1 << 16), (64, LOCKED_BYTES_USUAL)],
    ids=["nothing", "little", "usual"],
)
def test_an_unprivileged_user_gets_as_many_rings_as_may_be_locked(
    count: int, locked_bytes: int
) -> None:
    """Row 28: the other loops are on epoll, and say what would help."""
    out = run_program("unprivileged.py", str(count), str(locked_bytes), "auto")
    rings, *reasons, smoke = out.splitlines()
    on_io_uring, on_epoll = map(int, rings.split())
    assert on_io_uring + on_epoll == count
    assert smoke == "smoke passed"
    if on_epoll and io_uring_refusal() is None:
        assert any("RLIMIT_MEMLOCK" in reason for reason in reasons)
    if locked_bytes == LOCKED_BYTES_USUAL and io_uring_refusal() is None:
        assert on_io_uring


@pytest.mark.skipif(io_uring_refusal() is not None, reason=str(io_uring_refusal()))
def test_io_uring_demanded_by_an_unprivileged_user_works_or_names_the_limit() -> None:
    """Row 28."""
    out = run_program("unprivileged.py", "64", "0", "io_uring").splitlines()
    assert out[-1] == "smoke passed" or "raise RLIMIT_MEMLOCK" in out[-1]


def test_little_memory_ends_what_wants_more_and_nothing_else(loop_kind: str) -> None:
    """Rows 28 and 29: a greedy protocol, a thread that cannot start, loops until one fails."""
    assert run_program("little_memory.py", loop_kind) == "recovered\n"


def test_a_full_disk_is_an_error_of_whoever_writes_there(loop_kind: str) -> None:
    out = run_program("full_disk.py", loop_kind)
    if out.startswith("no mount:"):
        pytest.skip(out.strip())
    assert out.splitlines() == ["refused", "recovered"]


async def test_a_write_to_a_full_device_ends_its_pipe(loop: AbstractEventLoop) -> None:
    pipe = open("/dev/full", "wb", buffering=0)  # noqa: ASYNC230, SIM115 - the transport's
    transport, protocol = await loop.connect_write_pipe(PipeRecorder, pipe)
    transport.write(b"no room")
    error = await protocol.lost
    assert isinstance(error, OSError)
    assert error.errno == errno.ENOSPC


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = max(before[0], CONNECTIONS + 500)
    if before[1] < wanted:
        pytest.skip(f"needs {wanted} descriptors, may have {before[1]}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.timeout(120)
@pytest.mark.usefixtures("many_descriptors")
def test_very_many_connections_are_served_and_each_ends_once(loop_kind: str) -> None:
    """All are open at once and used twice; half of the peers leave in order, half reset."""
    with started_program("many_connections.py", loop_kind, str(CONNECTIONS)) as server:
        assert server.stdout is not None
        address = ("127.0.0.1", int(server.stdout.readline()))
        peers = [socket.create_connection(address, timeout=20) for _ in range(CONNECTIONS)]
        assert server.stdout.readline() == "all made\n"
        for greeting in (b"first", b"second"):
            for index, peer in enumerate(peers):
                peer.sendall(b"%s %d" % (greeting, index))
            for index, peer in enumerate(peers):
                assert peer.recv(100) == b"%s %d" % (greeting, index)
        for index, peer in enumerate(peers):
            leave(index, peer)
        assert server.stdout.readline() == "all lost\n"
        assert (server.wait(20), server.stderr and server.stderr.read()) == (0, "")


def leave(index: int, peer: socket.socket) -> None:
    if index % 2:
        reset(peer)
    else:
        peer.close()
