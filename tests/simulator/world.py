"""One run: a loop on the simulated kernel, a scenario, and the audit of what is left.

A scenario is a coroutine function that takes a World. It asks the world for sockets and servers,
and registers its protocols; what must hold in every scenario is looked at here.
"""

from __future__ import annotations

import asyncio
import random
import socket
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from tests.simulator.chance import Chance
from tests.simulator.driver import SimulatedDriver
from tests.simulator.engine import SimulatedEngine
from tests.simulator.kernel import Kernel
from tests.simulator.streams import Connection, Stream
from uringloop.loop import EventLoop

PATTERN_BYTES = 1 << 20
SIZES = (1, 100, 5_000, 70_000, 150_000)
ROOMFULS_MAX = 20
_PATTERN = random.Random("bytes that do not repeat").randbytes(PATTERN_BYTES)

# Virtual seconds after which nothing of a scenario may still be going on: longer than the pause
# of a listener that has run out of descriptors, any delay, and the patience of TLS.
SETTLE_S = 100.0


def payload(key: int, size: int) -> bytes:
    """Bytes that are a part of no other key's, and that fit nowhere else."""
    begin = key * 7_919 % (PATTERN_BYTES // 2)
    return _PATTERN[begin : begin + size]


class FailedError(AssertionError):
    """An invariant does not hold."""


class AtOnce(ThreadPoolExecutor):
    """An executor without threads: their moments would be nobody's choice."""

    def submit(self, function: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(function(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


class World:
    """What a scenario works with, whichever kernel is below.

    kernel      makes sockets, and tells of each connection what went wrong with it
    chance      the scenario's own choices
    protocols   all Tracked ones
    reports     what the loop's exception handler was told
    is_orderly  whether connections of this scenario fail only where the kernel lets them
    """

    loop_class: type[EventLoop] = EventLoop

    def __init__(self, seed: int, name: str, kernel: Any, driver: Any) -> None:
        self.chance = Chance(seed, f"{name}, the program")
        self.kernel = kernel
        self.driver = driver
        self.loop = self.loop_class(driver=driver)
        self.loop.set_default_executor(AtOnce())
        self.loop.set_exception_handler(lambda _, context: self.reports.append(context))
        self.protocols: list[Tracked] = []
        self.reports: list[dict[str, Any]] = []
        self.is_orderly = True

    # -- for scenarios ------------------------------------------------------------------

    def size(self) -> int:
        """How much to send: so much that it takes some time, and not too long."""
        return min(self.chance.pick(SIZES), self.kernel.chance.temper.room * ROOMFULS_MAX)

    async def pass_time(self, longest_s: float = 0.01) -> None:
        """Sleeps on the virtual clock, mostly not at all."""
        if self.chance.happens(400):
            await asyncio.sleep(longest_s * self.chance.between(0, 1000) / 1000)
        elif self.chance.happens(500):
            await asyncio.sleep(0)

    async def serve(self, factory: Callable[[], Any], **kwargs: Any) -> tuple[Any, str]:
        """A Server, and the address to connect to."""
        sock, address = self.kernel.listening_socket()
        return await self.loop.create_server(factory, sock=sock, **kwargs), address

    async def connect(self, address: str) -> socket.socket | None:
        """A connected socket; None where that failed, as kernels may let it."""
        sock = self.kernel.stream_socket()
        try:
            await self.loop.sock_connect(sock, address)
        except OSError as error:
            sock.close()
            self.expect_injected("connect", error)
            return None
        return sock

    async def connect_protocol(
        self, address: str, factory: Callable[[], Any], **kwargs: Any
    ) -> Any | None:
        """A protocol on a new connection; None where that failed."""
        sock = await self.connect(address)
        if sock is None:
            return None
        _, protocol = await self.loop.create_connection(factory, sock=sock, **kwargs)
        return protocol

    def mark_raw(self, sock: Any) -> None:
        """A program works this socket by sock_* calls, and may close it at any time."""

    def connection_of(self, sock: Any) -> Any:
        """What both ends have in common; its `faults` say in words what went wrong."""
        raise NotImplementedError

    def expect_injected(self, operation: str, error: OSError) -> None:
        if (operation, error.errno) not in self.kernel.injected:
            raise FailedError(f"{operation} failed by itself: {error!r}")

    def expect_bytes(self, received: bytes, sent: bytes, faults: list[str], what: str) -> None:
        """All of them, or a beginning where something went wrong, which it does not by itself."""
        if faults and self.is_orderly and not self.kernel.injected:
            raise FailedError(f"{what}: {faults}, and the kernel was calm")
        if faults:
            if not sent.startswith(received):
                raise FailedError(f"{what}: {_first_difference(received, sent)} (after {faults})")
        elif received != sent:
            raise FailedError(f"{what}: {_first_difference(received, sent)}")

    # -- the audit ----------------------------------------------------------------------

    def leftovers(self) -> Iterator[str]:
        """What may not be at the end of any run."""
        if len(self.loop._in_flight) != self.loop._watches.is_armed:
            yield f"{len(self.loop._in_flight)} tokens are in use"
        if self.driver.state().buffers_held:
            yield "receive buffers are held"
        yield from (f"a transport: {each!r}" for each in self.loop._transports.values())
        for protocol in self.protocols:
            yield from protocol.complaints()
        yield from (f"told: {each}" for each in self.reports if not self._is_injected(each))

    def _is_injected(self, report: dict[str, Any]) -> bool:
        """The reports that errors of the kernel lead to: of a server that cannot accept, and of
        the transports of pipes, as asyncio has it."""
        error = report.get("exception")
        if not isinstance(error, OSError) or not self.kernel.injected:
            return False
        is_pipes = "error on pipe transport" in report["message"]
        return is_pipes or ("accept", error.errno) in self.kernel.injected

    def close(self) -> None:
        """Ends the loop, and what of its kernel is not real."""
        self.loop.close()

    async def settle(self) -> None:
        """Waits until nothing can still be going on."""
        await asyncio.sleep(SETTLE_S)
        others = asyncio.all_tasks() - {asyncio.current_task()}
        if others:
            raise FailedError(f"tasks are left: {others}")


class SimulatedLoop(EventLoop):
    """A TCP socket that was connected is a Unix one below, to which TCP's options mean nothing."""

    def _make_socket_transport(self, sock: socket.socket, *args: Any, **kwargs: Any) -> Any:
        if sock.family != socket.AF_UNIX:
            sock = socket.socket(fileno=sock.detach())
            kwargs["extra"] = None  # was about the socket that it replaces
        return super()._make_socket_transport(sock, *args, **kwargs)


class SimulatedWorld(World):
    """On the simulated kernel.

    engine   what answers the commands; the class of it may be wrong on purpose
    """

    loop_class = SimulatedLoop

    def __init__(self, seed: int, name: str, engine: type[SimulatedEngine]) -> None:
        kernel = Kernel(Chance(seed, f"{name}, the kernel"))
        driver = SimulatedDriver(kernel, engine)
        super().__init__(seed, name, kernel, driver)
        self.engine = driver.engine

    def _stream_of(self, sock: Any) -> Stream:
        stream = self.kernel.target_of(sock.fileno())
        assert isinstance(stream, Stream)
        return stream

    def mark_raw(self, sock: Any) -> None:
        self._stream_of(sock).is_raw = True

    def connection_of(self, sock: Any) -> Connection:
        connection = self._stream_of(sock).connection
        assert connection is not None
        return connection

    def leftovers(self) -> Iterator[str]:
        yield from self.engine.violations
        requests = [each for each in self.engine.requests.values() if each.target.number]
        yield from (f"in flight: {each.name}" for each in requests)
        yield from super().leftovers()
        yield from (f"open: {each}" for each in self.kernel.left_open())
        yield from (f"not accepted: {each}" for each in self.kernel.waiting())

    def close(self) -> None:
        super().close()
        self.kernel.close()


def _first_difference(received: bytes, sent: bytes) -> str:
    same = sum(1 for _ in _common(received, sent))
    return f"{len(received)} bytes of {len(sent)}, of which {same} are right"


def _common(received: bytes, sent: bytes) -> Iterator[None]:
    for one, other in zip(received, sent, strict=False):
        if one != other:
            return
        yield None


class Tracked(asyncio.Protocol):
    """A protocol whose calls must come in the order that asyncio promises.

    received           all bytes
    lost               a Future of the connection's end
    may_be_forgotten   whether asyncio need not tell it of the end
    connection         the simulated one; its faults say what may be missing
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.received = bytearray()
        self.lost: asyncio.Future[Exception | None] = world.loop.create_future()
        self.calls: set[str] = set()
        self.latest: deque[str] = deque(maxlen=5)
        self.wrong: list[str] = []
        self.is_told_to_pause = False
        self.may_be_forgotten = False
        world.protocols.append(self)

    def connection_made(self, transport: Any) -> None:
        self._note("made", not self.calls)
        self.transport = transport
        file = transport.get_extra_info("socket") or transport.get_extra_info("pipe")
        self.connection = self.world.connection_of(file)

    def data_received(self, data: bytes) -> None:
        self._note("data", self._is_open() and "eof" not in self.calls and bool(data))
        self.received += data

    def eof_received(self) -> bool | None:
        self._note("eof", self._is_open() and "eof" not in self.calls)
        return None

    def pause_writing(self) -> None:
        self._note("pause", "made" in self.calls and not self.is_told_to_pause)
        self.is_told_to_pause = True

    def resume_writing(self) -> None:
        self._note("resume", self.is_told_to_pause)
        self.is_told_to_pause = False

    def connection_lost(self, exc: Exception | None) -> None:
        self._note("lost", self._is_open())
        if not self.lost.done():
            self.lost.set_result(exc)

    def _note(self, call: str, allowed: bool) -> None:
        if not allowed:
            self.wrong.append(f"{call} after {list(self.latest)}")
        self.calls.add(call)
        self.latest.append(call)

    def _is_open(self) -> bool:
        return "made" in self.calls and "lost" not in self.calls

    def complaints(self) -> Iterator[str]:
        """What the protocol was told against the rules."""
        yield from self.wrong
        if self._is_open() and not self.may_be_forgotten:
            yield f"{type(self).__name__} was never told of the end: {list(self.latest)}"


Scenario = Callable[[World], Awaitable[None]]


def run_in(world: World, scenario: Scenario) -> None:
    """Runs one scenario to its end, and looks at what is left.

    raises   FailedError, StuckError, or whatever came of a bug
    """
    with _closed_at_the_end(world):
        world.loop.run_until_complete(scenario(world))
        world.loop.run_until_complete(world.settle())
        leftovers = list(world.leftovers())
        if leftovers:
            raise FailedError("; ".join(leftovers))


def run(
    scenario: Scenario, seed: int, engine: type[SimulatedEngine] = SimulatedEngine
) -> SimulatedWorld:
    """Runs one scenario on one seed of the simulator; raises what run_in() does."""
    world = SimulatedWorld(seed, scenario.__name__, engine)
    run_in(world, scenario)
    return world


@contextmanager
def _closed_at_the_end(world: World) -> Iterator[None]:
    try:
        yield
    finally:
        world.close()


def command_of(scenario: Scenario, seed: int) -> str:
    """The line that runs this seed again."""
    return f"SIMULATOR_SEED={seed} pytest tests/simulator -k {scenario.__name__}"
