"""How the end of child processes is noticed: in masses and threads, against cancellation,
against others who reap, without pidfds, and when the loop ends first."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import os
import signal
import subprocess
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from children import assert_no_children, run_program, wait_for_end
from loops import OURS, LoopFactory, io_uring_refusal
from peers import turns

PIPE = subprocess.PIPE
THREAD_LIMIT_S = 20
SYSCALL_PIDFD_OPEN = 434  # the same number on every architecture


@pytest.fixture(autouse=True)
def no_child_is_left() -> Iterator[None]:
    yield
    assert_no_children()


async def start_cat(**options: Any) -> asyncio.subprocess.Process:
    """A child that lives until its stdin is closed."""
    return await asyncio.create_subprocess_exec("cat", stdin=PIPE, **options)


async def end(process: asyncio.subprocess.Process) -> int:
    process.stdin.close()
    return await process.wait()


# -- masses ----------------------------------------------------------------------------------


async def test_64_children_at_once(loop):
    processes = await asyncio.gather(*(start_cat(stdout=PIPE) for _ in range(64)))
    texts = [b"%d" % number for number in range(64)]
    answers = await asyncio.gather(
        *(each.communicate(text) for each, text in zip(processes, texts, strict=True))
    )
    assert [out for out, _ in answers] == texts
    assert {each.returncode for each in processes} == {0}


@pytest.mark.timeout(120)
def test_2000_short_children_leave_neither_zombie_nor_descriptor(new_loop: LoopFactory):
    loop = new_loop()

    async def batch(count: int) -> None:
        async def one() -> None:
            process = await asyncio.create_subprocess_exec("true", stdout=PIPE)
            assert await process.communicate() == (b"", None)
            assert process.returncode == 0

        await asyncio.gather(*(one() for _ in range(count)))
        await turns(3)

    loop.run_until_complete(batch(1))
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(50):
        loop.run_until_complete(batch(40))
        assert_no_children()
        assert len(os.listdir("/proc/self/fd")) == before


# -- threads ---------------------------------------------------------------------------------


def run_in_threads(*functions: Callable[[], object]) -> list[object]:
    results: list[object] = [None] * len(functions)

    def call(place: int) -> None:
        try:
            results[place] = functions[place]()
        except BaseException as error:
            results[place] = error

    threads = [threading.Thread(target=call, args=[place]) for place in range(len(functions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(THREAD_LIMIT_S)
        assert not thread.is_alive()
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results


async def some_children(text: bytes) -> list[tuple[bytes, int | None]]:
    answers = []
    for _ in range(10):
        process = await start_cat(stdout=PIPE)
        out, _ = await process.communicate(text)
        answers.append((out, process.returncode))
    return answers


def test_two_loops_in_two_threads_have_children_at_the_same_time(new_loop: LoopFactory):
    loops = new_loop(), new_loop()
    texts = b"one", b"two"
    functions = [
        lambda loop=loop, text=text: loop.run_until_complete(some_children(text))
        for loop, text in zip(loops, texts, strict=True)
    ]
    assert run_in_threads(*functions) == [[(text, 0)] * 10 for text in texts]


def test_a_child_may_be_started_in_one_thread_and_awaited_in_another(new_loop: LoopFactory):
    """The loop moves to another thread, and takes along what it waits for."""
    loop = new_loop()
    reader, writer = os.pipe()

    async def start() -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec("cat", stdin=reader)

    (process,) = run_in_threads(lambda: loop.run_until_complete(start()))
    os.close(reader)
    os.close(writer)
    assert run_in_threads(lambda: loop.run_until_complete(process.wait())) == [0]


def test_a_child_may_end_while_the_loop_does_not_run(new_loop: LoopFactory):
    loop = new_loop()
    process = loop.run_until_complete(asyncio.create_subprocess_exec("true"))
    wait_for_end(process.pid)
    assert loop.run_until_complete(process.wait()) == 0


# -- cancellation ------------------------------------------------------------------------------


@pytest.mark.difference("cancelled_start")
@pytest.mark.parametrize("delay_turns", range(6))
@pytest.mark.parametrize("streams", [0, 3])
async def test_a_start_that_is_cancelled_leaves_no_child(loop, streams: int, delay_turns: int):
    """Whenever the cancel comes; the loop's audit sees to the descriptors."""
    options = {"stdin": PIPE, "stdout": PIPE, "stderr": PIPE} if streams else {}
    starting = asyncio.create_task(asyncio.create_subprocess_exec("sleep", "1000", **options))
    await turns(delay_turns)
    starting.cancel()
    try:
        process = await starting
    except asyncio.CancelledError:
        pass
    else:
        process.kill()
        await process.wait()


@pytest.mark.difference("cancelled_start")
async def test_cancelling_everything_amid_a_start_does_not_hang(loop):
    """As asyncio.run() does at its end (cpython 125502)."""
    others = asyncio.all_tasks()
    for delay_turns in range(5):
        starting = asyncio.create_task(asyncio.create_subprocess_exec("cat", stdin=PIPE))
        await turns(delay_turns)
        for task in asyncio.all_tasks() - others:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await end(await starting)


@pytest.mark.difference("cancelled_start")
async def test_a_cancelled_start_does_not_wait_for_grandchildren(loop):
    """They hold the pipes open, for a thousand seconds here."""
    starting = asyncio.create_task(
        asyncio.create_subprocess_shell("sleep 1000 & echo $!; wait", stdout=PIPE)
    )
    await turns(1)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting


def reap(pid: int) -> None:
    os.waitpid(pid, 0)


# -- others who reap, and SIGCHLD ----------------------------------------------------------------


@pytest.mark.difference("reaped_elsewhere")
async def test_a_child_that_somebody_else_reaped_has_return_code_255(loop, caplog):
    process = await start_cat()
    process.kill()
    reap(process.pid)  # in one go with the kill: the loop has no turn to be first
    assert await process.wait() == 255
    assert f"child process pid {process.pid} exit status already read" in caplog.text


@pytest.mark.difference("reaped_by_popen")
async def test_a_child_that_its_popen_reaped_keeps_its_return_code(loop, caplog):
    """close(), and send_signal() before 3.13, look at the process through its Popen."""
    transport, _ = await loop.subprocess_exec(asyncio.SubprocessProtocol, "sh", "-c", "exit 9")
    assert transport.get_extra_info("subprocess").wait() == 9
    transport.close()
    assert await transport._wait() == 9
    assert caplog.records == []


def test_a_child_of_popen_is_left_to_popen(new_loop: LoopFactory):
    loop = new_loop()
    popen = subprocess.Popen(["sh", "-c", "exit 7"])
    wait_for_end(popen.pid)
    process = loop.run_until_complete(asyncio.create_subprocess_exec("true"))
    loop.run_until_complete(process.wait())
    assert popen.wait() == 7


async def test_a_handler_of_sigchld_is_the_users(loop):
    heard = asyncio.Event()
    loop.add_signal_handler(signal.SIGCHLD, heard.set)
    process = await asyncio.create_subprocess_exec("sh", "-c", "exit 4")
    assert await process.wait() == 4
    await heard.wait()
    assert loop.remove_signal_handler(signal.SIGCHLD)


async def test_children_need_no_handler_of_sigchld(loop):
    before = signal.getsignal(signal.SIGCHLD)
    process = await start_cat()
    assert signal.getsignal(signal.SIGCHLD) is before
    await end(process)
    assert signal.getsignal(signal.SIGCHLD) is before


async def test_where_sigchld_is_ignored_return_codes_are_unknown(loop, caplog):
    """The kernel reaps by itself then."""
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        process = await start_cat()
        assert await end(process) == 255
    finally:
        signal.signal(signal.SIGCHLD, before)
    assert "255" in caplog.text


# -- without pidfds ---------------------------------------------------------------------------


@pytest.mark.parametrize("backend", OURS)
@pytest.mark.parametrize("error", ["ENOSYS", "EPERM", "EMFILE"])
def test_a_thread_waits_where_there_is_no_pidfd(error: str, backend: str):
    if backend == "io_uring" and (refusal := io_uring_refusal()):
        pytest.skip(refusal)
    number = str(getattr(errno, error))
    out = run_program("children_without_pidfd.py", backend, str(SYSCALL_PIDFD_OPEN), number)
    assert out.splitlines() == ["no pidfd", "waited in threads"]


# -- the loop ends first ------------------------------------------------------------------------


def reaping_threads() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name.startswith("uringloop-waitid")]


@contextlib.contextmanager
def resource_warnings() -> Iterator[list[str]]:
    """What they say; pytest.warns() would keep alive what they are about."""
    heard: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("always", ResourceWarning)
        warnings.showwarning = lambda message, *_: heard.append(str(message))
        yield heard


@pytest.mark.ours
def test_a_child_that_outlives_its_loop_is_no_zombie(new_loop: LoopFactory):
    loop = new_loop()
    reader, writer = os.pipe()

    async def start() -> asyncio.BaseTransport:
        return (
            await loop.subprocess_exec(
                asyncio.SubprocessProtocol, "cat", stdin=reader, stdout=None, stderr=None
            )
        )[0]

    transport = loop.run_until_complete(start())
    loop.close()
    os.close(reader)
    os.kill(transport.get_pid(), 0)  # it lives
    os.close(writer)
    for thread in reaping_threads():
        thread.join(THREAD_LIMIT_S)
    assert_no_children()
    transport.close()


@pytest.mark.difference("close_after_loop")
@pytest.mark.parametrize("streams", [None, PIPE])
def test_a_transport_that_is_forgotten_with_its_loop_kills_its_child(
    new_loop: LoopFactory, streams: int | None
):
    """With a ResourceWarning, as asyncio; cpython 114177 is that it failed to kill."""
    loop = new_loop()

    async def start() -> asyncio.BaseTransport:
        options = {"stdin": streams, "stdout": streams, "stderr": None}
        return (await loop.subprocess_exec(asyncio.SubprocessProtocol, "sleep", "1000", **options))[
            0
        ]

    transport = loop.run_until_complete(start())
    loop.close()
    with resource_warnings() as heard:
        del transport
        gc.collect()
    assert any(each.startswith("unclosed transport <SubprocessTransport pid=") for each in heard)
    for thread in reaping_threads():
        thread.join(THREAD_LIMIT_S)
    assert_no_children()


@pytest.mark.difference("close_after_loop")
def test_a_transport_can_be_closed_after_its_loop(new_loop: LoopFactory):
    loop = new_loop()
    process = loop.run_until_complete(start_cat(stdout=PIPE))
    loop.close()
    with resource_warnings() as heard:
        process._transport.close()
        del process
        gc.collect()
    assert not any("SubprocessTransport" in each for each in heard)
    for thread in reaping_threads():
        thread.join(THREAD_LIMIT_S)
    assert_no_children()
