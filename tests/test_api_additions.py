"""What asyncio's loops have gained since 3.10, version by version.

Only what no other module asks for: servers, connections, TLS, flow control and the rest
have theirs, with the version that brought a parameter beside its test.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import os
import socket
import sys
import threading
from asyncio import AbstractEventLoop
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from certificates import UNCLOSED_ON_3_10, contexts
from loops import make_loop
from peers import Recorder, in_thread, recv_exactly, turns, until_true, wire

pytestmark = pytest.mark.filterwarnings(*UNCLOSED_ON_3_10)
JOIN_LIMIT_S = 10
VAR: contextvars.ContextVar[str] = contextvars.ContextVar("VAR", default="unset")


def since(major: int, minor: int, what: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(
        sys.version_info < (major, minor), reason=f"{what} came with {major}.{minor}"
    )


# -- 3.11 --------------------------------------------------------------------------------


@since(3, 11, "sock_recvfrom")
async def test_datagrams_go_through_plain_sockets(loop: AbstractEventLoop) -> None:
    with bound_datagrams() as ours, bound_datagrams() as peer:
        ours.setblocking(False)
        assert await loop.sock_sendto(ours, b"to the peer", peer.getsockname()) == 11
        assert await in_thread(peer.recvfrom, 64) == (b"to the peer", ours.getsockname())
        peer.sendto(b"to us", ours.getsockname())
        assert await loop.sock_recvfrom(ours, 64) == (b"to us", peer.getsockname())
        buffer = bytearray(b"........")
        peer.sendto(b"again", ours.getsockname())
        assert await loop.sock_recvfrom_into(ours, buffer) == (5, peer.getsockname())
        assert buffer == b"again..."
        peer.sendto(b"cut off", ours.getsockname())
        assert await loop.sock_recvfrom_into(ours, buffer, 3) == (3, peer.getsockname())
        assert buffer == b"cutin..."


def bound_datagrams() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    sock.settimeout(JOIN_LIMIT_S)
    return sock


WITHOUT_TLS: dict[str, Callable[[AbstractEventLoop, socket.socket], Any]] = {
    "create_connection": lambda loop, sock: loop.create_connection(
        Recorder, sock=sock, ssl_shutdown_timeout=1
    ),
    "create_server": lambda loop, _: loop.create_server(
        Recorder, "127.0.0.1", 0, ssl_shutdown_timeout=1
    ),
    "create_unix_connection": lambda loop, _: loop.create_unix_connection(
        Recorder, "/nowhere", ssl_shutdown_timeout=1
    ),
    "create_unix_server": lambda loop, _: loop.create_unix_server(
        Recorder, "/nowhere", ssl_shutdown_timeout=1
    ),
    "connect_accepted_socket": lambda loop, sock: loop.connect_accepted_socket(
        Recorder, sock, ssl_shutdown_timeout=1
    ),
}


@since(3, 11, "ssl_shutdown_timeout")
@pytest.mark.parametrize("method", WITHOUT_TLS)
async def test_a_limit_on_tlss_goodbye_is_refused_without_tls(
    method: str, loop: AbstractEventLoop
) -> None:
    refused = pytest.raises(ValueError, match="ssl_shutdown_timeout is only meaningful with ssl")
    with socket.socket() as sock, refused:
        await WITHOUT_TLS[method](loop, sock)


@since(3, 11, "ssl_shutdown_timeout")
async def test_start_tls_limits_the_goodbye(loop: AbstractEventLoop) -> None:
    """The peer shakes hands and then says nothing more: it must not hold up close()."""
    async with wire() as connection:
        shaken = in_thread(
            functools.partial(contexts().server.wrap_socket, connection.peer, server_side=True)
        )
        upgraded = await loop.start_tls(
            connection.transport,
            connection.protocol,
            contexts().client,
            server_hostname="tls.test",
            ssl_shutdown_timeout=0.05,
        )
        with await shaken:
            upgraded.close()
            assert isinstance(await connection.protocol.lost, TimeoutError)


@since(3, 11, "create_task(context=)")
async def test_a_task_runs_in_the_context_it_is_given(loop: AbstractEventLoop) -> None:
    context = contextvars.copy_context()
    context.run(VAR.set, "given")

    async def look() -> str:
        await asyncio.sleep(0)
        seen = VAR.get()
        VAR.set("changed by the task")
        return seen

    assert await loop.create_task(look(), context=context) == "given"
    assert context[VAR] == "changed by the task"
    assert VAR.get() == "unset"


@since(3, 11, "the end of reuse_address")
async def test_a_datagram_endpoint_does_not_know_reuse_address(loop: AbstractEventLoop) -> None:
    with pytest.raises(TypeError, match="reuse_address"):
        await loop.create_datagram_endpoint(
            asyncio.DatagramProtocol, ("127.0.0.1", 0), reuse_address=True
        )


@since(3, 11, "timeout, TaskGroup and Barrier")
async def test_timeouts_groups_and_barriers_work(loop: AbstractEventLoop) -> None:
    barrier = asyncio.Barrier(3)
    async with asyncio.TaskGroup() as group:
        positions = [group.create_task(barrier.wait()) for _ in range(3)]
    assert sorted(task.result() for task in positions) == [0, 1, 2]
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await loop.create_future()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout_at(loop.time() + 0.01):
            await loop.create_future()


@since(3, 11, "TaskGroup")
async def test_a_task_group_cancels_the_others_when_one_fails(loop: AbstractEventLoop) -> None:
    async def fail() -> None:
        raise LookupError("one of them")

    try:
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(asyncio.sleep(3600))
            group.create_task(fail())
    except Exception as group_of_errors:
        assert [str(each) for each in group_of_errors.exceptions] == ["one of them"]
    else:
        raise AssertionError("the error of the task was lost")
    assert waiting.cancelled()


@since(3, 11, "uncancel")
async def test_a_cancel_can_be_taken_back(loop: AbstractEventLoop) -> None:
    async def stubborn() -> str:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            assert asyncio.current_task().uncancel() == 0
        return "went on"

    task = loop.create_task(stubborn())
    await asyncio.sleep(0)
    task.cancel()
    assert task.cancelling() == 1
    assert await task == "went on"
    assert task.cancelling() == 0


# -- 3.12 --------------------------------------------------------------------------------


@since(3, 12, "shutdown_default_executor(timeout=)")
def test_shutdown_gives_up_a_thread_that_does_not_end(loop: AbstractEventLoop) -> None:
    may_end = threading.Event()

    async def main() -> None:
        started = threading.Event()
        future = loop.run_in_executor(None, lambda: (started.set(), may_end.wait(JOIN_LIMIT_S)))
        assert started.wait(JOIN_LIMIT_S)
        with pytest.warns(RuntimeWarning, match=r"did not finish(ing)? joining its threads within"):
            await loop.shutdown_default_executor(timeout=0.05)
        may_end.set()
        await future

    loop.run_until_complete(main())


@since(3, 12, "create_eager_task_factory")
async def test_a_factory_of_eager_tasks_takes_the_class(loop: AbstractEventLoop) -> None:
    class Special(asyncio.Task):  # type: ignore[type-arg]
        pass

    loop.set_task_factory(asyncio.create_eager_task_factory(Special))
    task = loop.create_task(asyncio.sleep(0, "done"), name="named")
    loop.set_task_factory(None)
    assert type(task) is Special
    assert task.get_name() == "named"
    assert await task == "done"


@since(3, 12, "get_context")
async def test_a_task_tells_its_context(loop: AbstractEventLoop) -> None:
    context = contextvars.copy_context()
    task = loop.create_task(asyncio.sleep(0), context=context)
    assert task.get_context() is context
    await task


@since(3, 12, "StreamWriter.start_tls(ssl_shutdown_timeout=)")
async def test_streams_upgrade_with_a_limit_on_the_goodbye(loop: AbstractEventLoop) -> None:
    served = loop.create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await writer.start_tls(contexts().server, ssl_shutdown_timeout=5)
        writer.write(await reader.readexactly(4))
        writer.close()
        await writer.wait_closed()
        served.set_result(None)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    await writer.start_tls(contexts().client, server_hostname="tls.test", ssl_shutdown_timeout=5)
    writer.write(b"ping")
    assert await reader.read() == b"ping"
    writer.close()
    await writer.wait_closed()
    await served
    server.close()


# -- 3.13 --------------------------------------------------------------------------------


@since(3, 13, "cleanup_socket")
async def test_a_servers_path_that_is_somebody_elses_by_now_stays(
    tmp_path: Path, loop: AbstractEventLoop
) -> None:
    path = tmp_path / "socket"
    server = await loop.create_unix_server(Recorder, path)
    os.rename(path, tmp_path / "moved")
    path.write_text("somebody else's")
    server.close()
    await server.wait_closed()
    assert path.read_text() == "somebody else's"


@since(3, 13, "Queue.shutdown")
async def test_a_queue_that_is_shut_down_wakes_who_waits(loop: AbstractEventLoop) -> None:
    queue: asyncio.Queue[int] = asyncio.Queue()
    waiting = loop.create_task(queue.get())
    await asyncio.sleep(0)
    queue.shutdown()
    with pytest.raises(asyncio.QueueShutDown):
        await waiting


@since(3, 13, "readuntil with several separators")
async def test_streams_read_until_the_first_of_several_separators(loop: AbstractEventLoop) -> None:
    ours, peer = socket.socketpair()
    reader, writer = await asyncio.open_unix_connection(sock=ours)
    with peer:
        peer.sendall(b"one;two,three")
        assert await reader.readuntil((b",", b";")) == b"one;"
        assert await reader.readuntil((b",", b";")) == b"two,"
    writer.close()
    await writer.wait_closed()


@since(3, 13, "as_completed as an asynchronous iterator")
async def test_tasks_come_as_they_complete(loop: AbstractEventLoop) -> None:
    gates = [loop.create_future() for _ in range(3)]
    tasks = [asyncio.ensure_future(asyncio.wait_for(gate, 5)) for gate in gates]
    for position in (2, 0, 1):
        loop.call_soon(gates[position].set_result, position)
    assert {task async for task in asyncio.as_completed(tasks)} == set(tasks)
    assert [task.result() for task in tasks] == [0, 1, 2]


# -- create_task, whose parameters and calls of the factory changed in 3.11, 3.13.4 and 3.14 --


def options_of_factory(loop: AbstractEventLoop, options: dict[str, Any]) -> Any:
    """The keywords that a task factory gets of create_task(**options), and the task's name."""
    got: list[set[str]] = []

    def factory(loop: AbstractEventLoop, coroutine: Any, **keywords: Any) -> asyncio.Task[None]:
        got.append(set(keywords))
        return asyncio.Task(coroutine, loop=loop, **keywords)

    async def main() -> str | None:
        loop.set_task_factory(factory)
        sleeping = asyncio.sleep(0)
        try:
            task = loop.create_task(sleeping, **options)
        except TypeError:
            sleeping.close()
            raise
        loop.set_task_factory(None)
        await task
        return task.get_name() if "name" in options else None

    return got, loop.run_until_complete(main())


OPTIONS = [{}, {"name": "a name"}, {"context": contextvars.Context()}, {"eager_start": False}]


@pytest.mark.ours
@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "".join(options) or "none")
def test_a_task_factory_gets_what_asyncios_loop_hands_over(
    options: dict[str, Any], loop: AbstractEventLoop
) -> None:
    oracle = make_loop("asyncio")
    try:
        try:
            expected = options_of_factory(oracle, options)
        except TypeError as refused:
            with pytest.raises(TypeError, match="got an unexpected keyword"):
                options_of_factory(loop, options)
            assert "got an unexpected keyword" in str(refused)
        else:
            assert options_of_factory(loop, options) == expected
    finally:
        oracle.set_task_factory(None)
        oracle.close()


# -- 3.14 --------------------------------------------------------------------------------


@since(3, 14, "create_task(eager_start=)")
async def test_a_task_starts_eagerly_when_asked_to(loop: AbstractEventLoop) -> None:
    steps: list[str] = []

    async def body(name: str) -> None:
        steps.append(name)
        await asyncio.sleep(0)

    tasks = [loop.create_task(body("of the loop"), eager_start=True)]
    tasks.append(asyncio.create_task(body("of asyncio"), eager_start=True))
    async with asyncio.TaskGroup() as group:
        group.create_task(body("of a group"), eager_start=True)
        assert steps == ["of the loop", "of asyncio", "of a group"]
    for task in tasks:
        await task


@since(3, 14, "a get_event_loop() that makes no loop")
def test_there_is_no_current_loop_outside_of_a_run(loop: AbstractEventLoop) -> None:
    asyncio.set_event_loop(None)
    with pytest.raises(RuntimeError, match="no current event loop"):
        asyncio.get_event_loop()
    asyncio.set_event_loop(loop)
    assert asyncio.get_event_loop() is loop
    asyncio.set_event_loop(None)


@since(3, 14, "waiting for a callback while cancelling it")
def test_cancel_waits_for_a_callback_that_another_thread_runs(loop: AbstractEventLoop) -> None:
    """The callback begins, a thread cancels it: cancel() must not return before the end."""
    events: list[str] = []
    runs = threading.Event()
    about_to_cancel = threading.Event()

    def callback() -> None:
        runs.set()
        assert about_to_cancel.wait(JOIN_LIMIT_S)
        events.append("ended")

    def cancel() -> None:
        assert runs.wait(JOIN_LIMIT_S)
        about_to_cancel.set()
        handle.cancel()
        events.append("cancelled")
        loop.call_soon_threadsafe(loop.stop)

    handle = loop.call_soon_threadsafe(callback)
    canceller = threading.Thread(target=cancel)
    canceller.start()
    loop.run_forever()
    canceller.join(JOIN_LIMIT_S)
    assert events == ["ended", "cancelled"]
    assert handle.cancelled()


def test_a_callback_from_a_thread_can_cancel_itself(loop: AbstractEventLoop) -> None:
    def callback() -> None:
        handle.cancel()
        loop.stop()

    handle = loop.call_soon_threadsafe(callback)
    loop.run_forever()
    assert handle.cancelled()
    assert isinstance(handle, asyncio.Handle)


def test_a_callback_from_a_thread_that_was_cancelled_does_not_run(loop: AbstractEventLoop) -> None:
    ran: list[str] = []
    handle = loop.call_soon_threadsafe(ran.append, "cancelled before")
    handle.cancel()
    loop.call_soon_threadsafe(loop.stop)
    loop.run_forever()
    assert ran == []


@since(3, 14, "the end of clients with serve_forever()")
async def test_the_end_of_serve_forever_closes_the_clients(loop: AbstractEventLoop) -> None:
    clients: list[Recorder] = []

    def client() -> Recorder:
        clients.append(Recorder())
        return clients[-1]

    server = await loop.create_server(client, "127.0.0.1", 0)
    serving = loop.create_task(server.serve_forever())
    await turns(1)  # a task that never began has nothing to close
    with socket.socket() as peer:
        peer.setblocking(False)
        await loop.sock_connect(peer, server.sockets[0].getsockname())
        await until_true(lambda: bool(clients))
        await clients[0].made
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving
        assert await clients[0].lost is None


# -- 3.15 --------------------------------------------------------------------------------


@since(3, 15, "TaskGroup.cancel")
async def test_a_task_group_can_be_cancelled_as_a_whole(loop: AbstractEventLoop) -> None:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(asyncio.sleep(3600)) for _ in range(3)]
        loop.call_soon(group.cancel)
        await asyncio.sleep(3600)
    assert all(task.cancelled() for task in tasks)


async def test_delays_and_limits_may_be_any_real_number(loop: AbstractEventLoop) -> None:
    ran = loop.create_future()
    loop.call_later(Fraction(1, 1000), ran.set_result, "later")
    assert await asyncio.wait_for(ran, Fraction(5)) == "later"
    ran = loop.create_future()
    loop.call_at(Fraction(loop.time()), ran.set_result, "at")
    assert await ran == "at"
    assert await asyncio.sleep(Fraction(1, 1000), "slept") == "slept"


@pytest.mark.parametrize("size", [1, 70_000])
async def test_what_streams_read_is_bytes(size: int, loop: AbstractEventLoop) -> None:
    """3.15 takes them out of the reader's buffer without a copy."""
    ours, peer = socket.socketpair()
    reader, writer = await asyncio.open_unix_connection(sock=ours)
    with peer:
        sent = in_thread(peer.sendall, b"x" * 2 * size)
        data = await reader.readexactly(size)
        assert type(data) is bytes
        await sent
        writer.write(data)
        assert await in_thread(recv_exactly, peer, size) == data
    assert await reader.read() == b"x" * size
    writer.close()
    await writer.wait_closed()
