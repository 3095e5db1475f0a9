"""relay() of what the engine cannot relay: TLS, pipes, children, transports of other loops.

The same results as in test_relay.py; what differs is said by each test.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import textwrap

import pytest
from certificates import HOST, UNCLOSED_ON_3_10, contexts
from peers import Recorder, in_thread, recv_exactly, recv_until_eof, reset, turns, until_true, wire
from relays import drink, engine_bytes, over, pour

import uringloop
from uringloop import RelayEnd

pytestmark = [pytest.mark.filterwarnings(line) for line in UNCLOSED_ON_3_10]


@contextlib.asynccontextmanager
async def tls_side(is_server: bool = True):
    """A TLS transport of the loop, its protocol, and the blocking TLS socket of the peer."""
    loop = asyncio.get_running_loop()
    ours, theirs = tcp_pair()
    context = contexts().client if is_server else contexts().server

    def shake_hands():
        name = {"server_hostname": HOST} if is_server else {"server_side": True}
        return context.wrap_socket(theirs, **name)

    shaking = in_thread(shake_hands)
    if is_server:
        transport, protocol = await loop.connect_accepted_socket(
            Recorder, ours, ssl=contexts().server
        )
    else:
        transport, protocol = await loop.create_connection(
            Recorder, sock=ours, ssl=contexts().client, server_hostname=HOST
        )
    with await shaking as peer:
        try:
            yield transport, protocol, peer
        finally:
            transport.abort()
    await turns(5)


def tcp_pair():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
    ours.setblocking(False)
    theirs.settimeout(10)
    return ours, theirs


@pytest.mark.parametrize("total_bytes", [1, 100_000, 1_000_000])
async def test_tls_may_be_ended_here_and_plain_beyond(loop, total_bytes):
    async with tls_side() as (a, protocol, peer_a), wire() as side_b:
        relay = uringloop.relay(a, side_b.transport)
        data = os.urandom(total_bytes)
        await in_thread(peer_a.sendall, data)
        assert await in_thread(recv_exactly, side_b.peer, total_bytes) == data
        await in_thread(side_b.peer.sendall, data)
        assert await in_thread(recv_exactly, peer_a, total_bytes) == data
        assert engine_bytes(loop) == 0
        side_b.peer.close()
        assert await in_thread(recv_until_eof, peer_a) == b""
        peer_a.close()  # asyncio's TLS waits for the answer to its own end
        result = await relay
        assert (result.bytes_a_to_b, result.bytes_b_to_a) == (total_bytes, total_bytes)
        assert (result.reason, result.error) == (RelayEnd.EOF, None)
        assert protocol.calls[-1] == "lost"
        assert "data" not in protocol.calls


async def test_tls_may_be_on_both_sides(loop):
    async with tls_side() as (a, _, peer_a), tls_side(is_server=False) as (b, _, peer_b):
        relay = uringloop.relay(a, b)
        for sender, receiver in ((peer_a, peer_b), (peer_b, peer_a)):
            await in_thread(sender.sendall, b"x" * 300_000)
            assert len(await in_thread(recv_exactly, receiver, 300_000)) == 300_000
        await in_thread(peer_a.close)
        assert await in_thread(recv_until_eof, peer_b) == b""
        peer_b.close()
        assert (await relay).reason is RelayEnd.EOF


@pytest.mark.ours
async def test_the_transport_below_tls_is_refused(loop):
    async with tls_side() as (a, _, _), wire() as side_b:
        below = a._ssl_protocol._transport
        with pytest.raises(ValueError, match="a is used by TLS: relay the transport that"):
            uringloop.relay(below, side_b.transport)


async def test_a_reset_below_tls_is_told(loop):
    async with tls_side() as (a, _, peer_a), wire() as side_b:
        relay = uringloop.relay(a, side_b.transport)
        await in_thread(peer_a.sendall, b"x")
        await in_thread(recv_exactly, side_b.peer, 1)
        reset(peer_a)
        result = await relay
        assert (result.reason, result.failed_side) == (RelayEnd.RESET, "a")
        assert isinstance(result.error, ConnectionError)
        with pytest.raises(ConnectionResetError):
            await in_thread(recv_until_eof, side_b.peer)


async def test_a_relay_with_tls_can_be_cancelled_and_be_idle(loop):
    async with tls_side() as (a, _, _), wire() as side_b:
        result = await uringloop.relay(a, side_b.transport, idle_timeout=0.05)
        assert result.reason is RelayEnd.IDLE_TIMEOUT
    async with tls_side() as (a, _, _), wire() as side_b:
        relay = uringloop.relay(a, side_b.transport)
        await turns(2)
        relay.cancel()
        with pytest.raises(asyncio.CancelledError):
            await relay
        assert side_b.protocol.calls[-1] == "lost"


async def test_a_reader_that_sleeps_behind_tls_bounds_what_is_held(loop):
    async with tls_side() as (a, _, peer_a), wire(buffer_bytes=4096) as side_b:
        relay = uringloop.relay(a, side_b.transport, limit=10_000)
        is_over = False

        def flood():
            with contextlib.suppress(OSError):
                while not is_over:
                    peer_a.sendall(bytes(65_536))

        flooding = in_thread(flood)
        await until_true(lambda: relay.buffers_held > 0)
        for _ in range(50):
            await asyncio.sleep(0.001)
            assert side_b.transport.get_write_buffer_size() <= 10_000 + 10_000
        is_over = True
        relay.cancel()
        with pytest.raises(asyncio.CancelledError):
            await relay
        await flooding


@pytest.mark.ours
async def test_a_child_may_be_one_side(loop):
    """Its stdout and stdin are two transports, and a pair of streams."""
    program = "import sys; sys.stdout.write(sys.stdin.read().upper())"
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    async with wire() as side:
        relay = uringloop.relay(side.transport, (child.stdout, child.stdin))
        await in_thread(side.peer.sendall, b"shout" * 20_000)
        side.peer.shutdown(socket.SHUT_WR)
        assert await in_thread(recv_until_eof, side.peer) == b"SHOUT" * 20_000
        result = await relay
        assert (result.bytes_a_to_b, result.bytes_b_to_a) == (100_000, 100_000)
        assert result.reason is RelayEnd.EOF
        assert await child.wait() == 0


@pytest.mark.ours
async def test_a_child_that_dies_is_a_reset(loop):
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", "", stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    async with wire() as side:
        relay = uringloop.relay(side.transport, (child.stdout, child.stdin))
        result = await relay
        assert (result.reason, result.failed_side) == (RelayEnd.RESET, "b")
        assert isinstance(result.error, BrokenPipeError)
        assert await child.wait() == 0


class Foreign(asyncio.Transport):
    """A transport of nobody's: what is written to it comes back to its protocol."""

    def __init__(self, protocol):
        super().__init__()
        self._protocol = protocol
        self._is_closing = False
        self.has_ended = False

    def set_protocol(self, protocol):
        self._protocol = protocol

    def get_protocol(self):
        return self._protocol

    def write(self, data):
        asyncio.get_running_loop().call_soon(self._protocol.data_received, bytes(data))

    def can_write_eof(self):
        return True

    def write_eof(self):
        self.has_ended = True
        asyncio.get_running_loop().call_soon(self._protocol.eof_received)

    def is_reading(self):
        return True

    def is_closing(self):
        return self._is_closing

    def get_write_buffer_size(self):
        return 0

    def get_write_buffer_limits(self):
        return (0, 1)

    def set_write_buffer_limits(self, high=None, low=None):
        pass

    def close(self):
        if not self._is_closing:
            self._is_closing = True
            asyncio.get_running_loop().call_soon(self._protocol.connection_lost, None)

    abort = close


async def test_a_transport_of_nobodys_will_do(loop):
    async with wire() as side:
        protocol = Recorder()
        relay = uringloop.relay(side.transport, Foreign(protocol))
        await in_thread(side.peer.sendall, b"echo")
        assert await in_thread(recv_exactly, side.peer, 4) == b"echo"
        side.peer.shutdown(socket.SHUT_WR)
        assert await in_thread(recv_until_eof, side.peer) == b""
        result = await relay
        assert (result.bytes_a_to_b, result.bytes_b_to_a) == (4, 4)
        assert result.reason is RelayEnd.EOF
        assert protocol.calls == ["lost"]


@pytest.mark.parametrize("kind", ["transports", "streams"])
def test_it_runs_on_uvloop(kind):
    pytest.importorskip("uvloop")
    program = textwrap.dedent(
        """
        import asyncio, socket, sys, uvloop, uringloop
        async def side():
            ours, peer = socket.socketpair()
            peer.settimeout(10)
            if KIND == "streams":
                return await asyncio.open_unix_connection(sock=ours), peer
            loop = asyncio.get_running_loop()
            return (await loop.create_unix_connection(asyncio.Protocol, sock=ours))[0], peer
        async def main():
            (a, peer_a), (b, peer_b) = await side(), await side()
            relay = uringloop.relay(a, b)
            loop = asyncio.get_running_loop()
            peer_a.sendall(b"x" * 100_000)
            peer_a.shutdown(socket.SHUT_WR)
            def read():
                data = b""
                while piece := peer_b.recv(65536):
                    data += piece
                return len(data)
            print(await loop.run_in_executor(None, read))
            peer_b.sendall(b"back")
            peer_b.close()
            print(await relay)
            peer_a.close()
            (a, peer_a), (b, peer_b) = await side(), await side()
            relay = uringloop.relay(a, b)
            await asyncio.sleep(0)
            relay.cancel()
            try:
                await relay
            except asyncio.CancelledError:
                print("cancelled")
            peer_a.close()
            peer_b.close()
        loop = uvloop.new_event_loop()
        loop.run_until_complete(main())
        loop.close()
        """
    ).replace("KIND", repr(kind))
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False
    )
    assert ran.stderr == ""
    count, result, cancelled = ran.stdout.splitlines()
    assert (count, cancelled) == ("100000", "cancelled")
    assert "bytes_a_to_b=100000, bytes_b_to_a=4, reason=<RelayEnd.EOF" in result


async def test_a_chain_of_both_ways_keeps_every_byte(loop):
    """One relay with TLS, one without, in a row."""
    async with (
        tls_side() as (a, _, peer_a),
        wire(family="unix") as middle,
        wire(family="unix") as end,
    ):
        middle.peer.setblocking(False)
        sock = socket.socket(fileno=middle.peer.detach())
        onward, _ = await loop.create_unix_connection(asyncio.Protocol, sock=sock)
        first = uringloop.relay(a, middle.transport)
        second = uringloop.relay(onward, end.transport)
        sending = in_thread(pour, end.peer, 7, 1_000_000)
        assert await in_thread(drink, peer_a, 7) == (await sending, 1_000_000)
        peer_a.close()
        assert (await first).reason is RelayEnd.EOF
        end.peer.close()
        await over(second)
