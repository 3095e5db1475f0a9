"""A server whose memory is limited by a cgroup, and peers that send without reading.

No allocation fails there: the kernel kills the process that needs too much. So what keeps a server
alive is flow control, which has to hold back its peers.
"""

from __future__ import annotations

import contextlib
import select
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from typing import IO

import pytest
from children import started_program
from memory_cgroup import MemoryCgroup, memory_cgroup
from peers import PEER_LIMIT_S, limit_buffers, numbered_bytes, reset

PEERS = 40
SOCKET_BUFFER_BYTES = 65_536
# Far more than so many connections may hold by asyncio's limits, and than any engine has buffers.
LEFT_BYTES = 48 << 20
PIECE_BYTES = 65_536
BLOCK = numbered_bytes(1_000_000)  # sent again and again


class GreedyPeer:
    """Sends as fast as it may, and reads only when it is told to.

    sent_bytes   so far
    """

    def __init__(self, address: tuple[str, int]) -> None:
        self.sock = socket.socket()
        limit_buffers(self.sock, SOCKET_BUFFER_BYTES)
        self.sock.settimeout(PEER_LIMIT_S)
        self.sock.connect(address)
        self.sock.setblocking(False)
        self.sent_bytes = 0

    def fileno(self) -> int:
        return self.sock.fileno()

    def send(self) -> None:
        begin = self.sent_bytes % len(BLOCK)
        with contextlib.suppress(BlockingIOError):
            self.sent_bytes += self.sock.send(BLOCK[begin : begin + PIECE_BYTES])

    def assert_all_comes_back(self) -> None:
        self.sock.settimeout(PEER_LIMIT_S)
        count = 0
        while count < self.sent_bytes:
            begin = count % len(BLOCK)
            piece = self.sock.recv(len(BLOCK) - begin)
            assert piece == BLOCK[begin : begin + len(piece)]
            assert piece
            count += len(piece)


@pytest.fixture
def group() -> Iterator[MemoryCgroup]:
    with contextlib.ExitStack() as stack:
        try:
            made = stack.enter_context(memory_cgroup())
        except OSError as refusal:
            pytest.skip(f"no memory cgroup can be made: {refusal}")
        yield made


@contextlib.contextmanager
def server_within(
    group: MemoryCgroup, loop_kind: str, flow: str
) -> Iterator[tuple[subprocess.Popen[str], list[GreedyPeer]]]:
    """The server, which may use little more memory than it has, and its peers."""
    arguments = (loop_kind, str(PEERS), flow, str(group.processes))
    with started_program("echo_within_memory.py", *arguments) as server:
        address = ("127.0.0.1", int(told_by(server).readline()))
        group.leave_bytes(LEFT_BYTES)
        peers = [GreedyPeer(address) for _ in range(PEERS)]
        try:
            yield server, peers
        finally:
            for peer in peers:
                peer.sock.close()
            server.kill()
            server.wait()


def told_by(server: subprocess.Popen[str]) -> IO[str]:
    assert server.stdout is not None
    return server.stdout


def send_until(is_over: Callable[[], bool], server: IO[str], peers: list[GreedyPeer]) -> None:
    """Whenever there is room; then looks again."""
    while not is_over():
        said, able, _ = select.select([server], peers, [], PEER_LIMIT_S)
        assert said or able, "the server neither reads nor says anything"
        for peer in able:
            peer.send()


def has_said_something(server: IO[str]) -> bool:
    return bool(select.select([server], [], [], 0)[0])


def test_flow_control_keeps_a_server_within_its_memory(loop_kind: str, group: MemoryCgroup) -> None:
    """Half of the peers read all in the end, and half leave."""
    with server_within(group, loop_kind, "controlled") as (server, peers):
        told = told_by(server)
        send_until(lambda: has_said_something(told), told, peers)
        assert told.readline() == "all paused\n"
        for peer in peers[::2]:
            reset(peer.sock)
        for peer in peers[1::2]:
            peer.assert_all_comes_back()
            peer.sock.close()
        assert told.readline() == "all lost\n"
        assert (server.wait(20), server.stderr and server.stderr.read()) == (0, "")
    assert group.kills() == 0


def test_a_server_that_ignores_flow_control_is_killed(loop_kind: str, group: MemoryCgroup) -> None:
    """The same load is too much for it, so that the test above is one."""
    with server_within(group, loop_kind, "ignored") as (server, peers):
        with contextlib.suppress(ConnectionError):
            send_until(lambda: server.poll() is not None, told_by(server), peers)
        assert server.wait(20) == -signal.SIGKILL
    assert group.kills() == 1
    assert sum(peer.sent_bytes for peer in peers) > LEFT_BYTES
