"""What a loop does with exceptions: the handler's contract, and those that pass through."""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
import weakref
from asyncio import AbstractEventLoop
from typing import Any

import pytest
from peers import turns
from watchable import SOURCES

Reported = list[dict[str, Any]]


def fail(error: BaseException) -> None:
    raise error


def turn(loop: AbstractEventLoop) -> None:
    loop.call_soon(loop.stop)
    loop.run_forever()


def test_an_exception_in_a_callback_is_reported_with_its_handle(
    loop: AbstractEventLoop, reported: Reported
) -> None:
    error = ValueError("in a callback")
    handle = loop.call_soon(fail, error)
    turn(loop)
    context = reported.pop()
    assert context["exception"] is error
    assert context["handle"] is handle
    assert "Exception in callback" in context["message"]
    assert "fail" in context["message"]


def test_an_exception_in_a_timer_is_reported(loop: AbstractEventLoop, reported: Reported) -> None:
    error = ValueError("in a timer")
    loop.call_later(0, fail, error)
    loop.call_later(0.001, loop.stop)
    loop.run_forever()
    assert reported.pop()["exception"] is error


def test_the_callbacks_after_one_that_fails_run(
    loop: AbstractEventLoop, reported: Reported
) -> None:
    ran: list[int] = []
    for number in range(10):
        loop.call_soon(fail, ValueError(number))
        loop.call_soon(ran.append, number)
    turn(loop)
    assert ran == list(range(10))
    assert [context["exception"].args[0] for context in reported] == list(range(10))
    reported.clear()


def test_an_exception_that_nobody_took_from_a_task_is_reported(
    loop: AbstractEventLoop, reported: Reported
) -> None:
    async def failing() -> None:
        raise LookupError("forgotten")

    loop.create_task(failing())
    turn(loop)
    turn(loop)
    gc.collect()
    context = reported.pop()
    assert "Task exception was never retrieved" in context["message"]
    assert isinstance(context["exception"], LookupError)


def test_without_a_handler_the_exception_is_logged(
    loop: AbstractEventLoop, caplog: pytest.LogCaptureFixture
) -> None:
    loop.set_exception_handler(None)
    assert loop.get_exception_handler() is None
    loop.call_soon(fail, ValueError("to the log"))
    turn(loop)
    record = caplog.records[-1]
    assert record.name == "asyncio"
    assert record.levelno == logging.ERROR
    assert "Exception in callback" in record.getMessage()
    assert "to the log" in caplog.text


def test_the_default_handler_can_be_called_by_a_custom_one(
    loop: AbstractEventLoop, caplog: pytest.LogCaptureFixture
) -> None:
    loop.set_exception_handler(lambda loop, context: loop.default_exception_handler(context))
    loop.call_exception_handler({"message": "passed on", "extra": 42})
    assert "passed on" in caplog.text
    assert "extra: 42" in caplog.text


def test_a_handler_that_fails_is_logged_and_the_loop_goes_on(
    loop: AbstractEventLoop, caplog: pytest.LogCaptureFixture
) -> None:
    def failing_handler(loop: AbstractEventLoop, context: dict[str, Any]) -> None:
        raise ZeroDivisionError("handler")

    loop.set_exception_handler(failing_handler)
    loop.call_soon(fail, ValueError("first"))
    turn(loop)
    assert "Unhandled error in exception handler" in caplog.text
    assert "ZeroDivisionError" in caplog.text


def test_a_handler_must_be_callable(loop: AbstractEventLoop) -> None:
    with pytest.raises(TypeError, match="A callable object or None is expected"):
        loop.set_exception_handler("no")


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3)], ids=repr)
def test_interrupts_in_a_callback_end_the_run_and_drop_nothing(
    error: BaseException, loop: AbstractEventLoop
) -> None:
    """Row 25."""
    ran: list[int] = []
    for number in range(5):
        loop.call_soon(ran.append, number)
    loop.call_soon(fail, error)
    for number in range(5, 10):
        loop.call_soon(ran.append, number)
    with pytest.raises(type(error)) as raised:
        loop.run_forever()
    assert raised.value is error
    assert not loop.is_running()
    turn(loop)
    assert ran == list(range(10))


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3)], ids=repr)
def test_interrupts_in_a_timer_drop_no_other_timer(
    error: BaseException, loop: AbstractEventLoop
) -> None:
    """Row 25: all of them are due in one turn."""
    ran: list[int] = []
    past = loop.time() - 1
    for number in range(10):
        loop.call_at(past + number * 0.01, ran.append, number)
    loop.call_at(past + 0.045, fail, error)
    with pytest.raises(type(error)):
        loop.run_forever()
    assert ran == [0, 1, 2, 3, 4]
    turn(loop)
    assert ran == list(range(10))


def test_an_interrupt_in_a_task_passes_and_the_loop_is_usable(loop: AbstractEventLoop) -> None:
    """Row 25."""

    async def interrupted() -> None:
        await asyncio.sleep(0)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(interrupted())
    assert loop.run_until_complete(asyncio.sleep(0, "usable")) == "usable"


def test_an_interrupt_raised_by_the_exception_handler_passes(loop: AbstractEventLoop) -> None:
    def handler(loop: AbstractEventLoop, context: dict[str, Any]) -> None:
        raise SystemExit(7)

    loop.set_exception_handler(handler)
    loop.call_soon(fail, ValueError())
    with pytest.raises(SystemExit) as raised:
        loop.run_forever()
    assert raised.value.code == 7


def test_debug_mode_finds_calls_from_the_wrong_thread(loop: AbstractEventLoop) -> None:
    async def call_from_thread() -> None:
        for call in (lambda: loop.call_soon(print), lambda: loop.call_later(0, print)):
            with pytest.raises(RuntimeError, match="Non-thread-safe operation"):
                await loop.run_in_executor(None, call)

    loop.set_debug(True)
    loop.run_until_complete(call_from_thread())


@pytest.mark.parametrize("name", ["call_soon", "call_soon_threadsafe", "call_later", "call_at"])
def test_debug_mode_refuses_coroutines_as_callbacks(name: str, loop: AbstractEventLoop) -> None:
    async def coroutine_function() -> None:
        pass

    loop.set_debug(True)
    when = (0,) if name in ("call_later", "call_at") else ()
    coroutine = coroutine_function()
    for callback in (coroutine_function, coroutine):
        with pytest.raises(TypeError, match="coroutines cannot be used with"):
            getattr(loop, name)(*when, callback)
    coroutine.close()


def test_debug_mode_refuses_what_cannot_be_called(loop: AbstractEventLoop) -> None:
    loop.set_debug(True)
    with pytest.raises(TypeError, match="a callable object was expected"):
        loop.call_soon("text")


def test_debug_mode_logs_slow_callbacks(
    loop: AbstractEventLoop, caplog: pytest.LogCaptureFixture
) -> None:
    loop.set_debug(True)
    loop.slow_callback_duration = 0.0
    loop.call_soon(sum, [1, 2])
    turn(loop)
    records = [record for record in caplog.records if "Executing" in record.getMessage()]
    assert "sum" in records[0].getMessage()
    assert "seconds" in records[0].getMessage()
    assert records[0].levelno == logging.WARNING


def test_a_callback_is_slow_from_a_tenth_of_a_second_on(loop: AbstractEventLoop) -> None:
    assert loop.slow_callback_duration == 0.1


@pytest.mark.parametrize("debug", [True, False])
def test_quick_callbacks_and_those_outside_debug_mode_are_not_logged(
    debug: bool, loop: AbstractEventLoop, caplog: pytest.LogCaptureFixture
) -> None:
    loop.set_debug(debug)
    loop.slow_callback_duration = 60.0 if debug else 0.0
    loop.call_soon(sum, [1, 2])
    turn(loop)
    assert [record for record in caplog.records if "Executing" in record.getMessage()] == []


def test_debug_mode_logs_slow_readers_timers_and_tasks(
    loop: AbstractEventLoop, caplog: pytest.LogCaptureFixture
) -> None:
    async def slow_task() -> None:
        with SOURCES["pipe"]() as source:
            read = asyncio.Event()
            loop.add_reader(source.watched, lambda: (source.consume(), read.set()))
            source.make_ready()
            await read.wait()
            loop.remove_reader(source.watched)

    loop.set_debug(True)
    loop.slow_callback_duration = 0.0
    loop.call_later(0, sum, [1, 2])
    loop.run_until_complete(slow_task())
    messages = [record.getMessage() for record in caplog.records]
    slow = [message for message in messages if message.startswith("Executing")]
    assert any("slow_task" in message for message in slow)
    assert any("TimerHandle" in message and "sum" in message for message in slow)
    assert any("lambda" in message for message in slow)


def test_debug_mode_tells_where_a_handle_was_made(
    loop: AbstractEventLoop, reported: Reported
) -> None:
    loop.set_debug(True)
    loop.call_soon(fail, ValueError("traced"))
    turn(loop)
    context = reported.pop()
    assert context["source_traceback"][-1].name.startswith("test_debug_mode_tells_where")


def test_debug_mode_can_change_between_and_within_runs(loop: AbstractEventLoop) -> None:
    assert not loop.get_debug()
    loop.call_soon(loop.set_debug, True)
    turn(loop)
    assert loop.get_debug()
    loop.run_until_complete(asyncio.sleep(0))
    loop.set_debug(False)
    loop.run_until_complete(asyncio.sleep(0))
    assert not loop.get_debug()


def test_the_environment_turns_debug_mode_on(
    new_loop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONASYNCIODEBUG", "1")
    assert new_loop().get_debug()


class Failing(asyncio.Protocol):
    """Ends its connection by an exception whose traceback leads to its transport."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.BaseTransport | None = transport
        self.lost = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        raise ValueError(data)

    def connection_lost(self, exc: Exception | None) -> None:
        assert isinstance(exc, ValueError)
        self.transport = None
        self.lost.set_result(None)


@pytest.mark.ours
async def test_a_transport_that_failed_needs_no_garbage_collector(
    loop: AbstractEventLoop, reported: Reported
) -> None:
    ours, peer = socket.socketpair()
    with peer:
        transport, protocol = await loop.create_unix_connection(Failing, sock=ours)
        gone = weakref.ref(transport)
        del transport
        gc.disable()
        try:
            peer.send(b"data")
            await protocol.lost
            reported.clear()
            await turns(4)
            assert gone() is None
        finally:
            gc.enable()
