"""Checks: child processes and signals."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import AsyncIterator
from typing import Any

from tests.api.ends import ChildNotes, child, ended, folder, refusal, refusal_of
from tests.api.registry import Subject
from tests.peers import in_thread, turns

Loop = asyncio.AbstractEventLoop

PROCESSES = Subject("Child processes")
SIGNALS = Subject("Signals")

SH = "/bin/sh"
# Arguments of Popen that transports of bytes cannot honour.
REFUSED = {
    "universal_newlines": True,
    "bufsize": 1,
    "text": True,
    "encoding": "ascii",
    "errors": "strict",
}
PIPE, DEVNULL, STDOUT = subprocess.PIPE, subprocess.DEVNULL, subprocess.STDOUT


@contextlib.asynccontextmanager
async def _executed(loop: Loop, *command: str, **arguments: Any) -> AsyncIterator[Any]:
    """(transport, protocol) of a program"""
    transport, protocol = await loop.subprocess_exec(ChildNotes, *command, **arguments)
    async with ended(transport, protocol):
        yield transport, protocol


async def _written(loop: Loop, script: str, **arguments: Any) -> Any:
    """(exit status, standard output, standard error) of a script of the shell"""
    async with _executed(loop, SH, "-c", script, **arguments) as (transport, protocol):
        stdin = transport.get_pipe_transport(0)
        if stdin is not None:
            stdin.close()
        await protocol.lost  # once the child has gone and its pipes are at their end
        return transport.get_returncode(), protocol.written[1], protocol.written[2]


@PROCESSES.check("subprocess_exec", "protocol_factory", "program", "args")
async def a_program_runs_with_its_arguments(loop: Loop) -> Any:
    async with _executed(loop, SH, "-c", 'echo "$0 $1"; exit 7', "one", "two") as (
        transport,
        protocol,
    ):
        await protocol.lost
        calls = protocol.calls[0], sorted(protocol.calls)
        return transport.get_returncode(), protocol.written[1], calls


@PROCESSES.check("subprocess_exec", "program")
async def a_program_that_is_not_there_is_an_error(loop: Loop) -> Any:
    return [
        await refusal(loop.subprocess_exec(ChildNotes, "/nothing/there")),
        await refusal(loop.subprocess_exec(ChildNotes, 42)),
    ]


@PROCESSES.check("subprocess_exec", "stdin")
async def standard_input_may_be_anything(loop: Loop) -> Any:
    async with _executed(loop, "cat") as (transport, protocol):
        stdin = transport.get_pipe_transport(0)
        stdin.write(b"by a pipe")
        stdin.close()
        await protocol.lost
        seen = [protocol.written[1]]
    with folder() as place:
        (place / "file").write_bytes(b"from a file")
        with (place / "file").open("rb") as file:
            seen.append((await _written(loop, "cat", stdin=file))[1])
    seen.append((await _written(loop, "cat", stdin=DEVNULL))[1])
    return seen


@PROCESSES.check("subprocess_exec", "stdout", "stderr")
async def standard_output_and_error_may_go_anywhere(loop: Loop) -> Any:
    script = "echo out; echo err >&2"
    with folder() as place:
        with (place / "file").open("wb") as file:
            to_file = await _written(loop, script, stdout=file, stderr=file.fileno())
        content = (place / "file").read_bytes()
    return [
        await _written(loop, script),
        await _written(loop, script, stderr=STDOUT),
        await _written(loop, script, stdout=DEVNULL, stderr=DEVNULL),
        (to_file, content),
    ]


@PROCESSES.check("subprocess_exec", "shell", *REFUSED)
async def arguments_of_popen_that_make_no_sense_are_refused(loop: Loop) -> Any:
    return [
        await refusal(loop.subprocess_exec(ChildNotes, "true", **{name: value}))
        for name, value in REFUSED.items()
    ] + [await refusal(loop.subprocess_exec(ChildNotes, "true", shell=True))]


@PROCESSES.check("subprocess_exec", "kwargs")
async def arguments_of_popen_are_passed_on(loop: Loop) -> Any:
    with folder() as place:
        pwd = await _written(loop, "pwd", cwd=place)
        in_place = pwd[1].decode().strip() == str(place.resolve())
    reading, writing = os.pipe()
    os.write(writing, b"inherited")
    os.close(writing)
    passed = await _written(loop, f"cat <&{reading}", pass_fds=[reading])
    os.close(reading)
    return [
        in_place,
        await _written(loop, "echo $VARIABLE", env={"VARIABLE": "value"}),
        passed,
        await _written(loop, "umask", preexec_fn=lambda: os.umask(0o77) and None),
        await _written(loop, "exit 3", start_new_session=True),
    ]


@PROCESSES.check("subprocess_exec", "program")
def a_program_runs_on_a_loop_in_another_thread(new_loop: Any) -> Any:
    seen: list[Any] = []

    def in_other_thread() -> None:
        loop = new_loop()
        seen.append(loop.run_until_complete(_written(loop, "echo out; exit 3")))
        loop.close()

    thread = threading.Thread(target=in_other_thread)
    thread.start()
    thread.join()
    return seen


@PROCESSES.check("subprocess_shell", "protocol_factory", "cmd")
async def the_shell_runs_a_command(loop: Loop) -> Any:
    seen = []
    for command in ("echo $((1 + 1)); exit 7", b"echo bytes"):
        transport, protocol = await loop.subprocess_shell(ChildNotes, command)
        async with ended(transport, protocol):
            await protocol.lost
            seen.append((transport.get_returncode(), protocol.written[1]))
    return seen, await refusal(loop.subprocess_shell(ChildNotes, 42))


@PROCESSES.check("subprocess_shell", "stdin", "stdout", "stderr")
async def the_streams_of_a_command_may_go_anywhere(loop: Loop) -> Any:
    seen: list[Any] = []
    for arguments in ({}, {"stderr": STDOUT}, {"stdout": DEVNULL, "stderr": DEVNULL}):
        async with child("cat; echo err >&2", stdin=DEVNULL, **arguments) as link:
            await link.protocol.lost
            pipes = [link.transport.get_pipe_transport(fd) is not None for fd in (0, 1, 2)]
            seen.append((pipes, link.protocol.written))
    return seen


@PROCESSES.check("subprocess_shell", "shell", *REFUSED)
async def arguments_that_make_no_sense_are_refused_by_the_shell(loop: Loop) -> Any:
    return [
        await refusal(loop.subprocess_shell(ChildNotes, "true", **{name: value}))
        for name, value in REFUSED.items()
    ] + [await refusal(loop.subprocess_shell(ChildNotes, "true", shell=False))]


@PROCESSES.check("subprocess_shell", "kwargs")
async def the_shell_gets_arguments_of_popen(loop: Loop) -> Any:
    async with child("echo $VARIABLE", env={"VARIABLE": "value"}) as link:
        await link.protocol.lost
        return link.protocol.written


# -- SubprocessTransport ----------------------------------------------------------------------


@PROCESSES.check("SubprocessTransport.get_pid")
@PROCESSES.check("SubprocessTransport.get_extra_info", "name", "default")
async def a_child_has_a_number_and_its_popen(loop: Loop) -> Any:
    async with child("echo $$") as link:
        await link.protocol.lost
        info = link.transport.get_extra_info
        return int(link.protocol.written[1]) == link.transport.get_pid(), info("nothing", "default")


@PROCESSES.check("SubprocessTransport.get_returncode")
async def the_return_code_is_none_until_the_child_has_ended(loop: Loop) -> Any:
    async with child("cat; exit 7") as link:
        seen = [link.transport.get_returncode()]
        link.transport.get_pipe_transport(0).close()
        await link.protocol.exited
        return [*seen, link.transport.get_returncode()], link.protocol.calls[:1]


@PROCESSES.check("SubprocessTransport.get_pipe_transport", "fd")
async def a_child_has_a_transport_for_each_pipe(loop: Loop) -> Any:
    async with child("exec cat") as link:
        pipes = [link.transport.get_pipe_transport(fd) for fd in (0, 1, 2, 3)]
        kinds = [isinstance(pipes[0], asyncio.WriteTransport), pipes[3]]
        kinds += [isinstance(pipe, asyncio.ReadTransport) for pipe in pipes[1:3]]
        pipes[0].write(b"echoed")
        pipes[0].write_eof()
        await link.protocol.lost
        return kinds, link.protocol.written


@PROCESSES.check("SubprocessTransport.get_protocol")
@PROCESSES.check("SubprocessTransport.set_protocol", "protocol")
async def another_protocol_hears_of_the_child(loop: Loop) -> Any:
    async with child("exec cat") as link:
        second = ChildNotes()
        was = link.transport.get_protocol() is link.protocol
        link.transport.set_protocol(second)
        now = link.transport.get_protocol() is second
        link.transport.get_pipe_transport(0).close()
        link.transport.set_protocol(link.protocol)
        await link.protocol.lost
        return was, now, sorted(link.protocol.calls)


@PROCESSES.check("SubprocessTransport.send_signal", "signal")
async def a_child_takes_a_signal(loop: Loop) -> Any:
    async with child("trap 'exit 7' USR1; echo ready; while :; do read line; done") as link:
        await link.protocol.until_written(1, b"ready\n")
        link.transport.send_signal(signal.SIGUSR1)
        await link.protocol.lost
        code = link.transport.get_returncode()
        return code, refusal_of(link.transport.send_signal, signal.SIGUSR1).partition(":")[0]


@PROCESSES.check("SubprocessTransport.terminate")
@PROCESSES.check("SubprocessTransport.kill")
async def a_child_is_ended_by_a_signal(loop: Loop) -> Any:
    seen = []
    for method in ("terminate", "kill"):
        async with child("exec cat") as link:
            getattr(link.transport, method)()
            await link.protocol.lost
            again = refusal_of(getattr(link.transport, method)).partition(":")[0]
            seen.append((link.transport.get_returncode(), again))
    return seen


@PROCESSES.check("SubprocessTransport.is_closing")
@PROCESSES.check("SubprocessTransport.close")
async def close_kills_the_child(loop: Loop) -> Any:
    async with child("exec cat") as link:
        before = link.transport.is_closing()
        link.transport.close()
        link.transport.close()
        after = link.transport.is_closing()
        await link.protocol.lost
        return before, after, link.transport.get_returncode(), sorted(link.protocol.calls)


# -- asyncio's own functions ------------------------------------------------------------------


async def _communicated(process: Any, data: bytes | None = None) -> Any:
    out, err = await process.communicate(data)
    return out, err, process.returncode


@PROCESSES.check("asyncio.create_subprocess_exec", "program", "args", "stdin", "stdout", "stderr")
async def a_program_is_talked_to(loop: Loop) -> Any:
    script = "cat; echo err >&2; exit 7"
    pipes = {"stdin": PIPE, "stdout": PIPE, "stderr": PIPE}
    process = await asyncio.create_subprocess_exec(SH, "-c", script, **pipes)
    seen = [await _communicated(process, b"hello")]
    quiet = await asyncio.create_subprocess_exec(SH, "-c", "exit 3", stdin=DEVNULL)
    return seen, await quiet.wait(), quiet.stdout


@PROCESSES.check("asyncio.create_subprocess_exec", "limit")
async def a_line_beyond_the_limit_of_a_child(loop: Loop) -> Any:
    process = await asyncio.create_subprocess_exec("echo", "twelve bytes", stdout=PIPE, limit=8)
    refused = await refusal(process.stdout.readline())
    return refused, await process.wait()


@PROCESSES.check("asyncio.create_subprocess_exec", "kwds")
async def a_program_gets_arguments_of_popen(loop: Loop) -> Any:
    process = await asyncio.create_subprocess_exec(
        SH, "-c", "echo $VARIABLE", stdout=PIPE, env={"VARIABLE": "value"}
    )
    return await _communicated(process)


@PROCESSES.check("asyncio.create_subprocess_shell", "cmd", "stdin", "stdout", "stderr", "kwds")
async def a_command_is_talked_to(loop: Loop) -> Any:
    process = await asyncio.create_subprocess_shell(
        "cat; echo $VARIABLE >&2",
        stdin=PIPE,
        stdout=PIPE,
        stderr=STDOUT,
        env={**os.environ, "VARIABLE": "value"},
    )
    return await _communicated(process, b"hello ")


@PROCESSES.check("asyncio.create_subprocess_shell", "limit")
async def a_line_beyond_the_limit_of_a_command(loop: Loop) -> Any:
    process = await asyncio.create_subprocess_shell("echo twelve bytes", stdout=PIPE, limit=8)
    refused = await refusal(process.stdout.readline())
    return refused, await process.wait()


# -- signals ----------------------------------------------------------------------------------


@SIGNALS.check("add_signal_handler", "sig", "callback", "args")
@SIGNALS.check("remove_signal_handler", "sig")
async def a_signal_calls_its_handler(loop: Loop) -> Any:
    came: asyncio.Future[Any] = loop.create_future()

    def handler(*args: Any) -> None:
        came.set_result(args)

    loop.add_signal_handler(signal.SIGUSR1, handler, "argument")
    os.kill(os.getpid(), signal.SIGUSR1)
    seen = await came
    removed = [loop.remove_signal_handler(signal.SIGUSR1) for _ in range(2)]
    return seen, removed, signal.getsignal(signal.SIGUSR1).name


@SIGNALS.check("add_signal_handler", "callback")
async def another_handler_replaces_the_first(loop: Loop) -> Any:
    came: asyncio.Future[str] = loop.create_future()
    loop.add_signal_handler(signal.SIGUSR1, came.set_result, "first")
    loop.add_signal_handler(signal.SIGUSR1, came.set_result, "second")
    signal.raise_signal(signal.SIGUSR1)
    seen = await came
    loop.remove_signal_handler(signal.SIGUSR1)
    return seen


@SIGNALS.check("add_signal_handler", "sig", "callback")
async def signals_that_cannot_be_handled_are_refused(loop: Loop) -> Any:
    async def coroutine() -> None: ...

    return [
        refusal_of(loop.add_signal_handler, signal.SIGKILL, int),
        refusal_of(loop.add_signal_handler, 1000, int),
        refusal_of(loop.add_signal_handler, "SIGUSR1", int),
        refusal_of(loop.add_signal_handler, signal.SIGUSR1, coroutine),
        await in_thread(refusal_of, loop.add_signal_handler, signal.SIGUSR1, int),
    ]


@SIGNALS.check("remove_signal_handler", "sig")
async def the_handler_of_interrupts_comes_back(loop: Loop) -> Any:
    loop.add_signal_handler(signal.SIGINT, int)
    loop.remove_signal_handler(signal.SIGINT)
    back = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    await turns(1)
    return back, refusal_of(loop.remove_signal_handler, 1000)
