"""Fixtures: each test runs on each engine, and is audited.

The engines: io_uring with all that the kernel has, io_uring with one feature less (so that
each stand-in is tested on one kernel), io_uring with none of them, and epoll. io_uring is
left out only where the kernel denies it, with the probe's reason. A file about one operation
leaves out the features that have no part in it: `operation_kinds`.

`engine` has the default sizes. `sized_engine` runs a test also with queues and pools so
tiny that every shortage is met.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest
from uringloop.driver._engine import ffi, lib

from .engine_harness import HOSTS, LIMIT_S, TINY, Engine, open_descriptors
from .relay_harness import talk

FEATURES = [
    "single_issuer",
    "defer_taskrun",
    "coop_taskrun",
    "registered_ring",
    "buffer_ring",
    "incremental_buffers",
    "multishot_recv",
    "multishot_accept",
    "multishot_recvmsg",
    "quiet_sends",
    "restricted_ring",
    "zero_copy",
]
ALL_FEATURES = sum(getattr(lib, f"UL_FEATURE_{name.upper()}") for name in FEATURES)
DISABLED = {
    "io_uring": 0,
    **{f"io_uring-no-{n}": getattr(lib, f"UL_FEATURE_{n.upper()}") for n in FEATURES},
    "io_uring-plain": ALL_FEATURES,
    "epoll": lib.UL_FEATURE_IO_URING,
}
# What the ring itself can do is tested by test_turn, test_cancel, test_lifetime, test_fairness
# and test_steps, with each of the above. The tests of one operation are run with all that
# the kernel has, with nothing of it, and without each feature that this operation uses.
OPERATION_KINDS = ("io_uring", "io_uring-plain", "epoll")


def operation_kinds(*features: str, reason: str) -> pytest.MarkDecorator:
    """The mark of a file of tests of operations that use these features."""
    without = [f"io_uring-no-{feature}" for feature in features]
    return pytest.mark.engines(*OPERATION_KINDS, *without, reason=reason)


# The threads that os.fork() is warned of, since 3.15 also here, are those of the test runner: the
# child runs nothing that waits for them.
FORKS = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


def probe(disabled: int = 0) -> Any:
    result = ffi.new("struct ul_probe_result *")
    lib.ul_probe(disabled, result)
    return result


def io_uring_refusal() -> str | None:
    """Why the kernel denies io_uring, or None."""
    result = probe()
    if result.features & lib.UL_FEATURE_IO_URING:
        return None
    return f"io_uring: step {result.step}: {os.strerror(result.error)}"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("filterwarnings", "error")
    config.addinivalue_line(
        "markers", "engines(*kinds, reason): the kinds between which this test can differ"
    )
    config.addinivalue_line("markers", "undisturbed: times how long a wait takes")


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Runs an `undisturbed` test on epoll in a thread of its own.

    When the kernel has at last freed a ring that an earlier test closed, it interrupts a
    system call of the ring's thread. An epoll_wait of that thread ends with EINTR then, as
    after a signal: the contract allows that, but nothing can be timed there. (A ring's wait
    goes on.)
    """
    marked = pyfuncitem.get_closest_marker("undisturbed") is not None
    if not marked or pyfuncitem.funcargs["engine_kind"] != "epoll":
        return None
    names = pyfuncitem._fixtureinfo.argnames
    arguments = {name: pyfuncitem.funcargs[name] for name in names}
    with ThreadPoolExecutor(max_workers=1) as executor:
        executor.submit(pyfuncitem.obj, **arguments).result()
    return True


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "engine_kind" in metafunc.fixturenames:
        marker = metafunc.definition.get_closest_marker("engines")
        kinds = marker.args if marker else DISABLED
        metafunc.parametrize("engine_kind", [_parameter(kind) for kind in kinds])
    if "engine_size" in metafunc.fixturenames:
        metafunc.parametrize("engine_size", [{}, TINY], ids=["usual", "tiny"])


def _parameter(kind: str) -> Any:
    refusal = io_uring_refusal() if kind.startswith("io_uring") else None
    return pytest.param(kind, marks=[pytest.mark.skip(reason=refusal)] if refusal else [])


@pytest.fixture
def descriptors() -> Iterator[None]:
    """No descriptor may be left over, and none may be closed that was open before."""
    before = open_descriptors()
    yield
    assert open_descriptors() == before


@pytest.fixture
def resources(descriptors: None) -> Iterator[ExitStack]:
    """What a test opens; closed after its engines, as their operations need it."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def features(engine_kind: str) -> int:
    return int(probe(DISABLED[engine_kind]).features) if engine_kind != "epoll" else 0


@pytest.fixture
def open_engine(features: int, resources: ExitStack) -> Iterator[Callable[..., Engine]]:
    """Opens engines of the kind under test; those the test does not close are audited."""
    opened: list[Engine] = []

    def factory(**config: int) -> Engine:
        opened.append(Engine(features=features, **config))
        return opened[-1]

    yield factory
    for engine in opened:
        if not engine.is_closed:
            engine.audit_and_close()


@pytest.fixture
def engine(open_engine: Callable[..., Engine]) -> Engine:
    return open_engine()


@pytest.fixture
def sized_engine(open_engine: Callable[..., Engine], engine_size: dict[str, int]) -> Engine:
    return open_engine(**engine_size)


@pytest.fixture
def in_thread(resources: ExitStack) -> Iterator[Callable[..., Any]]:
    """Runs a function beside the engine; answers a Future. Threads end with the test."""
    executor = ThreadPoolExecutor(max_workers=8)
    yield executor.submit
    executor.shutdown(wait=True, cancel_futures=True)


Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def new_pair(resources: ExitStack) -> Callable[..., Pair]:
    """Two connected Unix stream sockets: ours, blocking or not, and a blocking peer."""

    def factory(blocking: bool = False) -> Pair:
        ours, peer = socket.socketpair()
        resources.enter_context(ours)
        resources.enter_context(peer)
        ours.setblocking(blocking)
        peer.settimeout(LIMIT_S)
        return ours, peer

    return factory


@pytest.fixture
def pair(new_pair: Callable[..., Pair]) -> Pair:
    return new_pair()


@pytest.fixture
def new_listener(resources: ExitStack) -> Callable[..., socket.socket]:
    """A non-blocking TCP listener on a free port of the loopback."""

    def factory(backlog: int = 1024, family: int = socket.AF_INET) -> socket.socket:
        listener = resources.enter_context(socket.socket(family, socket.SOCK_STREAM))
        listener.bind(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0))
        listener.listen(backlog)
        listener.setblocking(False)
        return listener

    return factory


@pytest.fixture
def listener(new_listener: Callable[..., socket.socket]) -> socket.socket:
    return new_listener()


@pytest.fixture
def new_client(resources: ExitStack) -> Callable[..., socket.socket]:
    """A blocking TCP socket connected to a listener."""

    def factory(listener: socket.socket) -> socket.socket:
        client = resources.enter_context(socket.socket(listener.family, socket.SOCK_STREAM))
        client.settimeout(LIMIT_S)
        client.connect(listener.getsockname())
        return client

    return factory


@pytest.fixture
def tcp_pair(
    listener: socket.socket, new_client: Callable[..., socket.socket], resources: ExitStack
) -> Pair:
    """Two connected TCP sockets: ours, not blocking, and a blocking peer."""
    peer = new_client(listener)
    ours = resources.enter_context(listener.accept()[0])
    ours.setblocking(False)
    return ours, peer


@pytest.fixture
def new_socket(resources):
    """A bound datagram socket, not blocking; of the Unix family unbound without `name`."""

    def factory(family=socket.AF_INET, name=None, buffer_bytes=1 << 21):
        sock = resources.enter_context(socket.socket(family, socket.SOCK_DGRAM))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
        sock.setblocking(False)
        if family in HOSTS:
            sock.bind((HOSTS[family], 0))
        elif name is not None:
            sock.bind(name)
        return sock

    return factory


@pytest.fixture
def udp_pair(new_socket):
    """Two UDP sockets of the loopback, not connected."""
    return new_socket(), new_socket()


@pytest.fixture
def message_pair(resources):
    """Two connected Unix sockets whose messages have borders; ours does not block."""
    ours, peer = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for sock in (ours, peer):
        resources.enter_context(sock)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 21)
    ours.setblocking(False)
    peer.settimeout(LIMIT_S)
    return ours, peer


@pytest.fixture
def ends(new_pair):
    """(client, a, b, server): a relay goes between a and b."""
    a, client = new_pair()
    b, server = new_pair()
    return client, a, b, server


@pytest.fixture
def tcp_ends(new_listener, new_client, resources):
    """The same over TCP."""

    def connected():
        listener = new_listener()
        peer = new_client(listener)
        ours = resources.enter_context(listener.accept()[0])
        ours.setblocking(False)
        return ours, peer

    a, client = connected()
    b, server = connected()
    return client, a, b, server


@pytest.fixture(params=["unix", "tcp"])
def any_ends(request):
    return request.getfixturevalue("ends" if request.param == "unix" else "tcp_ends")


@pytest.fixture(params=[False, True], ids=["bulk", "talk"])
def begun(request):
    """Begins a relay; perhaps it has a conversation behind it. The relay, and the bytes so far."""

    def begin(engine, some_ends, limit=128 * 1024):
        client, a, b, server = some_ends
        relaying = engine.relay(a.fileno(), b.fileno(), limit)
        return relaying, talk(engine, client, server) if request.param else 0

    return begin
