"""What a loop does in threads: the default executor, and name resolution."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import socket
import sys
import threading
from asyncio import AbstractEventLoop

import pytest


async def test_run_in_executor_runs_in_another_thread(loop: AbstractEventLoop) -> None:
    ident = await loop.run_in_executor(None, threading.get_ident)
    assert ident != threading.get_ident()


async def test_an_exception_in_the_executor_arrives(loop: AbstractEventLoop) -> None:
    with pytest.raises(ZeroDivisionError):
        await loop.run_in_executor(None, divmod, 1, 0)


async def test_a_given_executor_is_used(loop: AbstractEventLoop) -> None:
    with concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="given") as executor:
        thread = await loop.run_in_executor(executor, threading.current_thread)
    assert thread.name.startswith("given")


async def test_the_default_executor_can_be_set(loop: AbstractEventLoop) -> None:
    loop.set_default_executor(concurrent.futures.ThreadPoolExecutor(1, "own"))
    thread = await asyncio.to_thread(threading.current_thread)
    assert thread.name.startswith("own")


@pytest.mark.skipif(sys.version_info < (3, 11), reason="until 3.10 this was only deprecated")
async def test_a_default_executor_of_another_kind_is_refused(loop: AbstractEventLoop) -> None:
    with pytest.raises(TypeError, match="executor must be ThreadPoolExecutor instance"):
        loop.set_default_executor(object())


async def test_after_shutdown_the_default_executor_refuses_work(loop: AbstractEventLoop) -> None:
    await loop.run_in_executor(None, str)
    await loop.shutdown_default_executor()
    with pytest.raises(RuntimeError, match="Executor shutdown has been called"):
        loop.run_in_executor(None, str)


async def test_shutdown_waits_for_what_runs_in_the_executor(loop: AbstractEventLoop) -> None:
    released, ended = threading.Event(), threading.Event()

    def work() -> None:
        released.wait(5)
        ended.set()

    loop.run_in_executor(None, work)
    loop.call_soon(released.set)
    await loop.shutdown_default_executor()
    assert ended.is_set()


@pytest.mark.skipif(sys.version_info < (3, 12), reason="the timeout came with 3.12")
async def test_shutdown_of_the_executor_gives_up_after_its_timeout(
    loop: AbstractEventLoop,
) -> None:
    released = threading.Event()
    work = loop.run_in_executor(None, released.wait, 10)
    with pytest.warns(RuntimeWarning, match="executor did not finishing joining its threads"):
        await loop.shutdown_default_executor(timeout=0.01)
    released.set()
    assert await work


@pytest.mark.skipif(sys.version_info < (3, 12), reason="the timeout came with 3.12")
async def test_shutdown_of_the_executor_within_its_timeout_is_silent(
    loop: AbstractEventLoop,
) -> None:
    work = loop.run_in_executor(None, str, 5)
    await loop.shutdown_default_executor(timeout=10)
    assert await work == "5"


async def test_shutdown_of_an_executor_that_was_never_used_is_nothing(
    loop: AbstractEventLoop,
) -> None:
    await loop.shutdown_default_executor()
    await loop.shutdown_default_executor()
    with pytest.raises(RuntimeError, match="Executor shutdown has been called"):
        await asyncio.to_thread(str)


async def test_debug_mode_refuses_coroutines_for_the_executor(loop: AbstractEventLoop) -> None:
    async def coroutine_function() -> None:
        pass

    loop.set_debug(True)
    with pytest.raises(TypeError, match="coroutines cannot be used with run_in_executor"):
        loop.run_in_executor(None, coroutine_function)


async def test_the_executors_functions_see_no_context_but_those_of_to_thread_do(
    loop: AbstractEventLoop,
) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")
    variable.set("caller's")
    assert await loop.run_in_executor(None, variable.get) == "unset"
    assert await asyncio.to_thread(variable.get) == "caller's"


async def test_work_that_nobody_waits_for_any_more_goes_on_in_its_thread(
    loop: AbstractEventLoop,
) -> None:
    started, released, ended = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        started.set()
        released.wait(10)
        ended.set()

    future = loop.run_in_executor(None, work)
    await asyncio.to_thread(started.wait, 10)
    assert future.cancel()
    with pytest.raises(asyncio.CancelledError):
        await future
    released.set()
    await loop.shutdown_default_executor()
    assert ended.is_set()


async def test_many_results_from_the_executor_all_arrive(loop: AbstractEventLoop) -> None:
    """Row 23: each of them is a wake-up."""
    results = await asyncio.gather(*(loop.run_in_executor(None, abs, -n) for n in range(2000)))
    assert results == list(range(2000))


@pytest.mark.parametrize(
    ("host", "port", "family"),
    [
        ("127.0.0.1", 80, 0),
        ("127.0.0.1", 0, socket.AF_INET),
        ("::1", 443, 0),
        ("::1", 443, socket.AF_INET6),
        ("fe80::1%lo", 80, 0),
        ("fe80::1%lo", 80, socket.AF_INET6),
        ("ff02::1%lo", 5353, 0),
        ("::ffff:127.0.0.1", 80, 0),
        ("0.0.0.0", 80, 0),
        ("::", 80, 0),
        (b"127.0.0.1", 80, 0),
        ("127.0.0.1", "80", 0),
        ("127.0.0.1", "http", 0),
        ("127.0.0.1", None, 0),
        ("127.0.0.1", b"", 0),
        ("localhost", 80, socket.AF_INET),
        (None, 80, socket.AF_INET),
    ],
)
@pytest.mark.parametrize("type_", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
async def test_getaddrinfo_answers_as_the_resolver_does(
    host: str | bytes | None,
    port: int | str | bytes | None,
    family: int,
    type_: int,
    loop: AbstractEventLoop,
) -> None:
    """Numeric hosts take a fast path; their zones (`%lo`) must survive it."""
    if (port, type_) == ("http", socket.SOCK_DGRAM):
        port = "domain"  # http is not a UDP service everywhere
    expected = _resolve(host, port, family, type_)
    infos = await loop.getaddrinfo(host, port, family=family, type=type_)
    assert [(info[0], info[1], info[2], info[4]) for info in infos] == expected


def _resolve(
    host: str | bytes | None, port: int | str | bytes | None, family: int, type_: int
) -> list[tuple[object, ...]]:
    found = socket.getaddrinfo(host, port or None, family=family, type=type_)
    return [(info[0], info[1], info[2], info[4]) for info in found]


async def test_getaddrinfo_keeps_the_zone_of_a_link_local_address(loop: AbstractEventLoop) -> None:
    infos = await loop.getaddrinfo("fe80::1%lo", 80, type=socket.SOCK_STREAM)
    host, port, flowinfo, scope = infos[0][4]
    assert host.partition("%")[0] == "fe80::1"
    assert (port, flowinfo, scope) == (80, 0, socket.if_nametoindex("lo"))


@pytest.mark.parametrize("host", ["256.0.0.1", "127.0.0.1.5", ":::1", "fe80::1%no-such-zone"])
async def test_a_host_that_is_almost_numeric_is_an_error(
    host: str, loop: AbstractEventLoop
) -> None:
    with pytest.raises(socket.gaierror):
        await loop.getaddrinfo(host, 80, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)


async def test_a_family_that_does_not_fit_the_host_is_an_error(loop: AbstractEventLoop) -> None:
    with pytest.raises(socket.gaierror):
        await loop.getaddrinfo("::1", 80, family=socket.AF_INET, type=socket.SOCK_STREAM)


async def test_getaddrinfo_heeds_its_flags(loop: AbstractEventLoop) -> None:
    infos = await loop.getaddrinfo(
        "127.0.0.1",
        80,
        family=socket.AF_INET6,
        type=socket.SOCK_STREAM,
        flags=socket.AI_V4MAPPED | socket.AI_NUMERICHOST,
    )
    assert infos[0][4][0] == "::ffff:127.0.0.1"


async def test_getnameinfo_answers(loop: AbstractEventLoop) -> None:
    flags = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV
    assert await loop.getnameinfo(("127.0.0.1", 80), flags) == ("127.0.0.1", "80")


async def test_getnameinfo_answers_as_the_resolver_does(loop: AbstractEventLoop) -> None:
    for address in (("127.0.0.1", 80), ("::1", 443, 0, 0)):
        for flags in (0, socket.NI_NUMERICHOST, socket.NI_DGRAM | socket.NI_NUMERICSERV):
            assert await loop.getnameinfo(address, flags) == socket.getnameinfo(address, flags)
    assert await loop.getnameinfo(("127.0.0.1", 80)) == socket.getnameinfo(("127.0.0.1", 80), 0)


async def test_getnameinfo_refuses_a_name(loop: AbstractEventLoop) -> None:
    with pytest.raises(OSError):
        await loop.getnameinfo(("no.such.host.invalid", 80), socket.NI_NUMERICSERV)


async def test_debug_mode_resolves_the_same(loop: AbstractEventLoop) -> None:
    """It times look-ups, so numeric ones go through the executor too."""
    loop.set_debug(True)
    infos = await loop.getaddrinfo("127.0.0.1", 80, type=socket.SOCK_STREAM)
    assert [info[4] for info in infos] == [("127.0.0.1", 80)]


async def test_an_unknown_host_is_an_error(loop: AbstractEventLoop) -> None:
    with pytest.raises(socket.gaierror):
        await loop.getaddrinfo("name.invalid", 80, flags=socket.AI_NUMERICHOST)
