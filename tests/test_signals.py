"""Signals: handlers of the loop, plain Python handlers, Ctrl-C, the wake-up descriptor."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import socket
import sys
import threading
from asyncio import AbstractEventLoop
from collections.abc import Iterator
from typing import Any

import pytest
from children import run_program, started_program
from kernel_view import wait_until_asleep
from loops import LoopFactory
from peers import until_true

RUNNER = pytest.mark.skipif(
    sys.version_info < (3, 11), reason="Ctrl-C cancels the main task since 3.11"
)

# glibc's struct sigaction on 64 bits: the handler, a set of 1024 signals, the flags.
SIGACTION_BYTES = 152
SA_FLAGS_AT = 136
SA_RESTART = 0x10000000


def kill_self(number: int) -> None:
    os.kill(os.getpid(), number)


def kill_when_asleep(number: int) -> threading.Thread:
    """Sends a signal to this process once this thread waits in the kernel."""

    def send(native_id: int) -> None:
        wait_until_asleep(native_id)
        kill_self(number)

    thread = threading.Thread(target=send, args=(threading.get_native_id(),))
    thread.start()
    return thread


def test_a_handler_runs_with_its_arguments(loop: AbstractEventLoop) -> None:
    calls: list[tuple[int, str]] = []
    loop.add_signal_handler(
        signal.SIGUSR1, lambda *arguments: (calls.append(arguments), loop.stop()), 1, "two"
    )
    loop.call_soon(kill_self, signal.SIGUSR1)
    loop.run_forever()
    assert calls == [(1, "two")]
    assert loop.remove_signal_handler(signal.SIGUSR1)


def test_a_signal_wakes_an_idle_loop(loop: AbstractEventLoop) -> None:
    """Row 24."""
    loop.add_signal_handler(signal.SIGUSR1, loop.stop)
    thread = kill_when_asleep(signal.SIGUSR1)
    loop.run_forever()
    thread.join()
    loop.remove_signal_handler(signal.SIGUSR1)


def test_the_last_handler_set_is_the_one_that_runs(loop: AbstractEventLoop) -> None:
    calls: list[str] = []
    loop.add_signal_handler(signal.SIGUSR1, calls.append, "first")
    loop.add_signal_handler(signal.SIGUSR1, lambda: (calls.append("second"), loop.stop()))
    loop.call_soon(kill_self, signal.SIGUSR1)
    loop.run_forever()
    assert calls == ["second"]
    loop.remove_signal_handler(signal.SIGUSR1)


def test_each_signal_has_its_own_handler(loop: AbstractEventLoop) -> None:
    calls: list[int] = []
    numbers = [signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP]
    for number in numbers:
        loop.add_signal_handler(number, calls.append, number)
        loop.call_soon(kill_self, number)
    loop.call_later(0.01, loop.stop)
    loop.run_forever()
    assert sorted(calls) == sorted(numbers)
    for number in numbers:
        loop.remove_signal_handler(number)


def test_a_handler_runs_in_the_context_of_the_loop_not_between_bytecodes(
    loop: AbstractEventLoop,
) -> None:
    """A handler is an ordinary callback: it never interrupts another one."""
    order: list[str] = []

    def busy() -> None:
        kill_self(signal.SIGUSR1)
        sum(range(10_000))
        order.append("busy")

    loop.add_signal_handler(signal.SIGUSR1, lambda: (order.append("handler"), loop.stop()))
    loop.call_soon(busy)
    loop.run_forever()
    assert order == ["busy", "handler"]
    loop.remove_signal_handler(signal.SIGUSR1)


def test_an_exception_in_a_handler_is_reported(
    loop: AbstractEventLoop, reported: list[dict[str, Any]]
) -> None:
    loop.add_signal_handler(signal.SIGUSR1, divmod, 1, 0)
    loop.call_soon(kill_self, signal.SIGUSR1)
    loop.call_later(0.01, loop.stop)
    loop.run_forever()
    assert isinstance(reported.pop()["exception"], ZeroDivisionError)
    loop.remove_signal_handler(signal.SIGUSR1)


def test_removing_a_handler_restores_the_default(loop: AbstractEventLoop) -> None:
    loop.add_signal_handler(signal.SIGUSR1, loop.stop)
    loop.add_signal_handler(signal.SIGINT, loop.stop)
    assert loop.remove_signal_handler(signal.SIGUSR1)
    assert loop.remove_signal_handler(signal.SIGINT)
    assert not loop.remove_signal_handler(signal.SIGUSR1)
    assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_close_removes_the_handlers(new_loop: LoopFactory) -> None:
    loop = new_loop()
    loop.add_signal_handler(signal.SIGUSR1, loop.stop)
    loop.close()
    assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL
    assert signal.set_wakeup_fd(-1) == -1


def test_closing_the_loop_gives_signals_back_to_python(new_loop: LoopFactory) -> None:
    loop = new_loop()
    loop.add_signal_handler(signal.SIGINT, loop.stop)
    loop.add_signal_handler(signal.SIGCHLD, loop.stop)
    loop.close()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.getsignal(signal.SIGCHLD) == signal.SIG_DFL
    assert not loop.remove_signal_handler(signal.SIGINT)


def test_signals_that_came_between_runs_are_handled_in_the_next(
    loop: AbstractEventLoop,
) -> None:
    calls: list[int] = []
    loop.add_signal_handler(signal.SIGUSR1, lambda: (calls.append(1), loop.stop()))
    kill_self(signal.SIGUSR1)
    assert calls == []
    loop.run_forever()
    kill_self(signal.SIGUSR1)
    loop.run_forever()
    assert calls == [1, 1]
    loop.remove_signal_handler(signal.SIGUSR1)


def test_a_handler_may_remove_itself(loop: AbstractEventLoop) -> None:
    removed: list[bool] = []

    def handle() -> None:
        removed.append(loop.remove_signal_handler(signal.SIGUSR1))
        loop.stop()

    loop.add_signal_handler(signal.SIGUSR1, handle)
    loop.call_soon(kill_self, signal.SIGUSR1)
    loop.run_forever()
    assert removed == [True]
    assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL


def test_handlers_are_removed_by_the_loop_that_has_them(new_loop: LoopFactory) -> None:
    mine, other = new_loop(), new_loop()
    mine.add_signal_handler(signal.SIGUSR1, mine.stop)
    assert not other.remove_signal_handler(signal.SIGUSR1)
    assert mine.remove_signal_handler(signal.SIGUSR1)


def test_a_hundred_signals_in_one_turn_all_reach_their_handlers(
    loop: AbstractEventLoop,
) -> None:
    counts = {signal.SIGUSR1: 0, signal.SIGUSR2: 0}

    def count(number: signal.Signals) -> None:
        counts[number] += 1
        if sum(counts.values()) == 100:
            loop.stop()

    def send_all() -> None:
        for _ in range(50):
            signal.raise_signal(signal.SIGUSR1)
            signal.raise_signal(signal.SIGUSR2)

    for number in counts:
        loop.add_signal_handler(number, count, number)
    loop.call_soon(send_all)
    loop.run_forever()
    assert counts == {signal.SIGUSR1: 50, signal.SIGUSR2: 50}
    for number in counts:
        assert loop.remove_signal_handler(number)


@pytest.mark.difference("full_wakeup_pipe")
def test_thousands_of_one_signal_do_not_drown_another(loop: AbstractEventLoop) -> None:
    calls: list[int] = []

    def send_all() -> None:
        for _ in range(10_000):
            signal.raise_signal(signal.SIGUSR1)
        signal.raise_signal(signal.SIGUSR2)

    loop.add_signal_handler(signal.SIGUSR1, calls.append, 1)
    loop.add_signal_handler(signal.SIGUSR2, loop.stop)
    loop.call_soon(send_all)
    loop.run_forever()
    assert len(calls) == 10_000
    loop.remove_signal_handler(signal.SIGUSR1)
    loop.remove_signal_handler(signal.SIGUSR2)


def test_system_calls_go_on_after_a_signal_with_a_handler(loop: AbstractEventLoop) -> None:
    """signal.siginterrupt(): Python repeats a call that ended with EINTR, other code may not."""
    loop.add_signal_handler(signal.SIGUSR1, loop.stop)
    action = ctypes.create_string_buffer(SIGACTION_BYTES)
    assert ctypes.CDLL(None).sigaction(signal.SIGUSR1, None, action) == 0
    flags = int.from_bytes(action.raw[SA_FLAGS_AT : SA_FLAGS_AT + 4], sys.byteorder)
    assert flags & SA_RESTART
    loop.remove_signal_handler(signal.SIGUSR1)


def test_a_handler_for_sigchld_is_the_users(loop: AbstractEventLoop) -> None:
    """And subprocesses are waited for all the same."""
    calls: list[int] = []
    loop.add_signal_handler(signal.SIGCHLD, calls.append, 1)

    async def run_children() -> list[int]:
        children = [await asyncio.create_subprocess_exec("true") for _ in range(3)]
        return [await child.wait() for child in children]

    with default_loop(loop):
        assert loop.run_until_complete(run_children()) == [0, 0, 0]
    loop.run_until_complete(until_true(lambda: bool(calls)))
    assert loop.remove_signal_handler(signal.SIGCHLD)


@contextlib.contextmanager
def default_loop(loop: AbstractEventLoop) -> Iterator[None]:
    """asyncio's own child watchers ask for it up to Python 3.11."""
    asyncio.set_event_loop(loop)
    yield
    asyncio.set_event_loop(None)


def test_a_loop_closed_at_the_end_of_the_interpreter_leaves_its_handlers(loop_kind: str) -> None:
    """asyncio's own warning, for there is nobody to restore them for."""
    out = run_program("handlers_left.py", loop_kind)
    assert "skipping signal handlers removal" in out
    assert "Error" not in out


def test_impossible_handlers_are_refused(loop: AbstractEventLoop) -> None:
    async def coroutine_function() -> None:
        pass

    with pytest.raises(RuntimeError, match="sig 9 cannot be caught"):
        loop.add_signal_handler(signal.SIGKILL, print)
    with pytest.raises(ValueError, match="invalid signal number 1000"):
        loop.add_signal_handler(1000, print)
    with pytest.raises(TypeError, match="sig must be an int"):
        loop.add_signal_handler("SIGINT", print)
    with pytest.raises(TypeError, match="coroutines cannot be used with add_signal_handler"):
        loop.add_signal_handler(signal.SIGUSR1, coroutine_function)
    coroutine = coroutine_function()
    with pytest.raises(TypeError, match="coroutines cannot be used with add_signal_handler"):
        loop.add_signal_handler(signal.SIGUSR1, coroutine)
    coroutine.close()
    for number in (-1, 0, signal.NSIG):
        with pytest.raises(ValueError, match=f"invalid signal number {number}"):
            loop.add_signal_handler(number, print)
        with pytest.raises(ValueError, match=f"invalid signal number {number}"):
            loop.remove_signal_handler(number)
    with pytest.raises(TypeError, match="sig must be an int"):
        loop.remove_signal_handler(None)
    assert not loop.remove_signal_handler(signal.SIGKILL)
    assert signal.set_wakeup_fd(-1) == -1


def test_a_handler_cannot_be_added_outside_the_main_thread(loop: AbstractEventLoop) -> None:
    async def add_in_thread() -> None:
        with pytest.raises((RuntimeError, ValueError), match="main thread"):
            await loop.run_in_executor(None, loop.add_signal_handler, signal.SIGUSR1, print)

    loop.run_until_complete(add_in_thread())


@pytest.fixture
def python_handler() -> Iterator[list[int]]:
    """A handler set with signal.signal(), as any library may."""
    calls: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, frame: calls.append(number))
    yield calls
    signal.signal(signal.SIGUSR1, before)


def test_a_plain_python_handler_runs_while_the_loop_is_idle(
    loop: AbstractEventLoop, python_handler: list[int]
) -> None:
    """Row 24: the wait must return to Python, whichever system call it is."""
    seen = threading.Event()

    signal.signal(signal.SIGUSR1, lambda *_: (python_handler.append(1), seen.set()))
    thread = kill_when_asleep(signal.SIGUSR1)
    loop.run_in_executor(None, lambda: (seen.wait(10), loop.call_soon_threadsafe(loop.stop)))
    loop.run_forever()
    thread.join()
    assert python_handler == [1]


def test_an_exception_raised_by_a_python_handler_ends_the_run(loop: AbstractEventLoop) -> None:
    """Row 24: as Ctrl-C does before 3.11, and with every other handler still."""

    class AlarmError(Exception):
        pass

    def raise_alarm(*_: object) -> None:
        raise AlarmError

    before = signal.signal(signal.SIGUSR1, raise_alarm)
    thread = kill_when_asleep(signal.SIGUSR1)
    with pytest.raises(AlarmError):
        loop.run_forever()
    thread.join()
    signal.signal(signal.SIGUSR1, before)
    assert loop.run_until_complete(asyncio.sleep(0, "usable")) == "usable"


def test_ctrl_c_while_idle_raises_out_of_run_forever(loop: AbstractEventLoop) -> None:
    """Row 24."""
    thread = kill_when_asleep(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    thread.join()
    assert loop.run_until_complete(asyncio.sleep(0, "usable")) == "usable"


def test_many_signals_while_a_loop_is_busy_stop_nothing(
    loop: AbstractEventLoop, python_handler: list[int]
) -> None:
    """Row 24: EINTR in every system call of a turn."""

    is_busy = threading.Event()

    def send_many() -> None:
        assert is_busy.wait(10)
        for _ in range(500):
            kill_self(signal.SIGUSR1)

    async def work() -> None:
        sending = loop.run_in_executor(None, send_many)
        is_busy.set()
        while not sending.done():
            await asyncio.sleep(0)
            await asyncio.sleep(0.0001)
        await sending

    loop.run_until_complete(work())
    assert python_handler


def test_the_applications_wake_up_descriptor_is_restored_after_a_run(
    loop: AbstractEventLoop,
) -> None:
    """Row 24."""
    reading, writing = socket.socketpair()
    with reading, writing:
        writing.setblocking(False)
        before = signal.set_wakeup_fd(writing.fileno())
        loop.run_until_complete(asyncio.sleep(0))
        after = signal.set_wakeup_fd(before)
        assert after == writing.fileno()


@pytest.mark.difference("wakeup_descriptor")
def test_the_applications_wake_up_descriptor_outlives_the_loops_handlers(
    loop: AbstractEventLoop,
) -> None:
    """Set before the handler, and in force again when the last one is removed."""
    reading, writing = socket.socketpair()
    with reading, writing:
        writing.setblocking(False)
        before = signal.set_wakeup_fd(writing.fileno())
        loop.add_signal_handler(signal.SIGUSR1, loop.stop)
        loop.call_soon(kill_self, signal.SIGUSR1)
        loop.run_forever()
        assert reading.recv(10) == bytes([signal.SIGUSR1])
        loop.remove_signal_handler(signal.SIGUSR1)
        after = signal.set_wakeup_fd(before)
        assert after == writing.fileno()


def test_the_applications_wake_up_descriptor_is_written_to_during_a_run(
    loop: AbstractEventLoop, python_handler: list[int]
) -> None:
    reading, writing = socket.socketpair()
    with reading, writing:
        writing.setblocking(False)
        reading.settimeout(10)
        before = signal.set_wakeup_fd(writing.fileno())
        loop.call_soon(kill_self, signal.SIGUSR1)
        loop.run_until_complete(asyncio.sleep(0))
        loop.run_until_complete(asyncio.sleep(0))
        assert reading.recv(10) == bytes([signal.SIGUSR1])
        assert signal.set_wakeup_fd(before) == writing.fileno()
    assert python_handler


def test_a_wake_up_descriptor_set_during_a_run_stays(loop: AbstractEventLoop) -> None:
    reading, writing = socket.socketpair()
    with reading, writing:
        writing.setblocking(False)
        loop.call_soon(signal.set_wakeup_fd, writing.fileno())
        loop.run_until_complete(asyncio.sleep(0))
        assert signal.set_wakeup_fd(-1) == writing.fileno()


@pytest.mark.ours
def test_a_wake_up_descriptor_closed_during_a_run_is_not_restored(
    loop: AbstractEventLoop, python_handler: list[int]
) -> None:
    reading, writing = socket.socketpair()
    writing.setblocking(False)
    signal.set_wakeup_fd(writing.fileno())
    loop.call_soon(reading.close)
    loop.call_soon(writing.close)
    loop.call_soon(kill_self, signal.SIGUSR1)
    loop.run_until_complete(asyncio.sleep(0))
    assert signal.set_wakeup_fd(-1) == -1
    assert python_handler


def test_a_handler_of_a_loop_at_rest_is_called_though_another_loop_ran_meanwhile(
    new_loop: LoopFactory,
) -> None:
    resting, running = new_loop(), new_loop()
    calls: list[int] = []
    resting.add_signal_handler(signal.SIGUSR1, lambda: (calls.append(1), resting.stop()))
    running.call_soon(kill_self, signal.SIGUSR1)
    running.run_until_complete(asyncio.sleep(0))
    resting.run_forever()
    assert calls == [1]
    assert resting.remove_signal_handler(signal.SIGUSR1)


def test_no_wake_up_descriptor_is_left_after_a_run(loop: AbstractEventLoop) -> None:
    """Row 24: also when the run ends with an exception."""
    loop.run_until_complete(asyncio.sleep(0))
    assert signal.set_wakeup_fd(-1) == -1
    loop.call_soon(signal.raise_signal, signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    assert signal.set_wakeup_fd(-1) == -1


def test_loops_outside_the_main_thread_leave_signals_alone(new_loop: LoopFactory) -> None:
    loop = new_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    assert signal.set_wakeup_fd(-1) == -1
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    loop.close()


@pytest.mark.parametrize("state", ["idle", "busy", "sleeping", "executor", "receiving"])
def test_ctrl_c_ends_a_program_in_any_state(state: str, loop_kind: str) -> None:
    """Row 24: the program prints how it ended; its status is that of an interrupt."""
    with started_program("interrupted.py", loop_kind, state) as child:
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=20)
    assert err == ""
    assert out.splitlines() == ["cleaned up", "interrupted"]
    assert child.returncode == 0


@RUNNER
def test_ctrl_c_cancels_the_main_task_which_may_go_on(loop_kind: str) -> None:
    """Row 24: the second Ctrl-C is the one that ends it."""
    with started_program("interrupted_twice.py", loop_kind) as child:
        child.send_signal(signal.SIGINT)
        assert child.stdout is not None
        assert child.stdout.readline() == "cancelled once\n"
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=20)
    assert (out, err) == ("interrupted\n", "")
