"""Child processes through asyncio's API: their streams, options, signals and return codes.

How their end is noticed, in masses, threads and adverse circumstances, is in test_children.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from children import assert_no_children, wait_for_end
from peers import in_thread, numbered_bytes, turns

PIPE, DEVNULL, STDOUT = subprocess.PIPE, subprocess.DEVNULL, subprocess.STDOUT
PIPE_BYTES = 65536


@pytest.fixture(autouse=True)
def no_child_is_left() -> Iterator[None]:
    yield
    assert_no_children()


async def sh(script: str, **options: Any) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec("sh", "-c", script, **options)


async def output_of(script: str, **options: Any) -> bytes:
    process = await sh(script, stdout=PIPE, **options)
    out, _ = await process.communicate()
    assert process.returncode == 0
    return out


# -- return codes and signals --------------------------------------------------------------


@pytest.mark.parametrize("status", [0, 1, 77, 255])
async def test_the_return_code_is_the_exit_status(loop, status: int):
    process = await sh(f"exit {status}")
    assert await process.wait() == status
    assert process.returncode == status


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGUSR1, signal.SIGSEGV])
async def test_the_return_code_of_a_signal_is_its_negative_number(loop, number: int):
    process = await sh(f"ulimit -c 0; kill -{int(number)} $$")
    assert await process.wait() == -number


async def test_popen_and_transport_agree_about_the_return_code(loop):
    transport, _ = await loop.subprocess_exec(asyncio.SubprocessProtocol, "sh", "-c", "exit 3")
    popen = transport.get_extra_info("subprocess")
    assert transport.get_pid() == popen.pid
    await transport._wait()
    assert transport.get_returncode() == popen.returncode == 3
    transport.close()


@pytest.mark.parametrize("send", ["kill", "terminate", "interrupt"])
async def test_signals_reach_the_child(loop, send: str):
    process = await asyncio.create_subprocess_exec("cat", stdin=PIPE)
    number = {"kill": signal.SIGKILL, "terminate": signal.SIGTERM, "interrupt": signal.SIGINT}[send]
    if send == "interrupt":
        process.send_signal(signal.SIGINT)
    else:
        getattr(process, send)()
    assert await process.wait() == -number


@pytest.mark.parametrize("send", ["kill", "terminate", "send_signal"])
async def test_a_signal_after_the_end_finds_no_process(loop, send: str):
    process = await asyncio.create_subprocess_exec("true")
    await process.wait()
    await turns(2)  # 3.10 tells who waits before it forgets the process
    with pytest.raises(ProcessLookupError):
        getattr(process, send)(*([signal.SIGTERM] if send == "send_signal" else []))


async def test_several_tasks_wait_for_one_child(loop):
    process = await asyncio.create_subprocess_exec("cat", stdin=PIPE)
    waiting = [asyncio.create_task(process.wait()) for _ in range(5)]
    await turns(2)
    waiting[2].cancel()
    process.stdin.close()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(result) for result in results].count(asyncio.CancelledError) == 1
    assert results.count(0) == 4
    assert await process.wait() == 0


async def test_a_wait_that_is_cancelled_leaves_the_child_alone(loop):
    process = await asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(process.wait(), 0.01)
    assert process.returncode is None
    assert await process.communicate(b"still here") == (b"still here", None)


async def test_communicate_that_is_cancelled_leaves_a_child_that_can_be_killed(loop):
    """communicate() closes stdin, which this child does not mind."""
    program = "head -c 5; exec sleep 60"
    process = await asyncio.create_subprocess_exec("sh", "-c", program, stdin=PIPE, stdout=PIPE)
    process.stdin.write(b"begun")
    assert await process.stdout.readexactly(5) == b"begun"
    talking = asyncio.create_task(process.communicate(None))
    await turns(3)
    talking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await talking
    process.kill()
    await process.wait()
    assert process.returncode == -signal.SIGKILL


# -- streams -------------------------------------------------------------------------------


async def test_communicate_carries_much_data_both_ways(loop):
    data = numbered_bytes(8 << 20)
    process = await asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
    out, err = await process.communicate(data)
    assert out == data
    assert err is None
    assert process.returncode == 0


async def test_stdout_and_stderr_are_read_at_the_same_time(loop):
    script = "head -c 1000000 /dev/zero >&2 & head -c 1000000 /dev/zero; wait"
    process = await sh(script, stdout=PIPE, stderr=PIPE)
    out, err = await process.communicate()
    assert (len(out), len(err)) == (1000000, 1000000)


async def test_stderr_can_go_where_stdout_goes(loop):
    out = await output_of("echo one; echo two >&2; echo three", stderr=STDOUT)
    assert out == b"one\ntwo\nthree\n"


async def test_a_child_may_end_before_its_output_is_read(loop):
    process = await sh(f"head -c {PIPE_BYTES} /dev/zero", stdout=PIPE)
    await in_thread(wait_for_end, process.pid)
    out, _ = await process.communicate()
    assert out == bytes(PIPE_BYTES)
    assert process.returncode == 0


async def test_communicate_with_a_child_that_does_not_read_is_no_error(loop):
    process = await asyncio.create_subprocess_exec("true", stdin=PIPE, stdout=PIPE)
    assert await process.communicate(bytes(1 << 20)) == (b"", None)
    assert process.returncode == 0


async def test_writing_to_a_child_that_has_gone_fails_in_drain(loop):
    process = await asyncio.create_subprocess_exec("true", stdin=PIPE)
    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        while True:
            process.stdin.write(bytes(PIPE_BYTES))
            await process.stdin.drain()
    with contextlib.suppress(BrokenPipeError):
        await process.stdin.wait_closed()
    assert await process.wait() == 0


async def test_a_line_each_way_at_a_time(loop):
    process = await sh("while read line; do echo got $line; done", stdin=PIPE, stdout=PIPE)
    for number in range(20):
        process.stdin.write(b"%d\n" % number)
        assert await process.stdout.readline() == b"got %d\n" % number
    process.stdin.write_eof()
    assert await process.stdout.read() == b""
    assert await process.wait() == 0


async def test_no_stream_is_nothing(loop):
    process = await sh(
        "cat; echo gone; echo gone >&2", stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL
    )
    assert (process.stdin, process.stdout, process.stderr) == (None, None, None)
    assert await process.wait() == 0


async def test_streams_can_be_files_and_descriptors(loop, tmp_path: Path):
    (tmp_path / "in").write_bytes(b"from a file\n")
    writer = os.open(tmp_path / "err", os.O_WRONLY | os.O_CREAT)
    try:
        with (tmp_path / "in").open() as stdin, (tmp_path / "out").open("w") as stdout:
            process = await sh("cat; echo bad >&2", stdin=stdin, stdout=stdout, stderr=writer)
            assert await process.wait() == 0
    finally:
        os.close(writer)
    assert (tmp_path / "out").read_bytes() == b"from a file\n"
    assert (tmp_path / "err").read_bytes() == b"bad\n"


async def test_streams_that_are_not_named_are_inherited(loop):
    out = await output_of("readlink /proc/$$/fd/0; readlink /proc/$$/fd/2")
    ours = [os.readlink(f"/proc/self/fd/{fd}") for fd in (0, 2)]
    assert out.decode().splitlines() == ours


async def test_pipes_are_pipes_that_can_be_opened_by_name(loop):
    """Not so with socket pairs (uvloop 505 and 532)."""
    process = await sh("cat /dev/stdin > /dev/stdout", stdin=PIPE, stdout=PIPE)
    assert await process.communicate(b"by name") == (b"by name", None)


async def test_the_childs_ends_of_the_pipes_block(loop):
    script = "cat /proc/$$/fdinfo/0 /proc/$$/fdinfo/1 /proc/$$/fdinfo/2"
    process = await sh(script, stdin=PIPE, stdout=PIPE, stderr=PIPE)
    out, _ = await process.communicate()
    flags = [int(line.split()[1], 8) for line in out.splitlines() if line.startswith(b"flags")]
    assert len(flags) == 3
    assert [value & os.O_NONBLOCK for value in flags] == [0, 0, 0]


async def test_descriptors_that_the_child_inherits_stay_as_they_are(loop):
    """uvloop 40: flags of 0, 1 and 2 were changed."""
    flags = [(fcntl.fcntl(fd, fcntl.F_GETFD), fcntl.fcntl(fd, fcntl.F_GETFL)) for fd in range(3)]
    assert await (await asyncio.create_subprocess_exec("true")).wait() == 0
    after = [(fcntl.fcntl(fd, fcntl.F_GETFD), fcntl.fcntl(fd, fcntl.F_GETFL)) for fd in range(3)]
    assert after == flags


async def test_a_child_does_not_hold_the_pipes_of_another(loop):
    first = await asyncio.create_subprocess_exec("cat", stdin=PIPE)
    second = await asyncio.create_subprocess_exec("cat", stdin=PIPE)
    first.stdin.close()
    assert await first.wait() == 0
    assert second.returncode is None
    second.stdin.close()
    assert await second.wait() == 0


# -- options of Popen ------------------------------------------------------------------------


async def test_environment_and_folder_are_the_callers_choice(loop, tmp_path: Path):
    env = {"PATH": os.environ["PATH"], "MARK": "grün"}
    assert (
        await output_of('echo "$MARK"; pwd', env=env, cwd=tmp_path)
        == f"grün\n{tmp_path}\n".encode()
    )


async def test_preexec_fn_runs_in_the_child(loop):
    here = os.getpid()
    assert await output_of("umask", preexec_fn=lambda: os.umask(0o027)) in (b"0027\n", b"027\n")
    assert os.getpid() == here


async def test_preexec_fn_that_fails_is_an_error(loop):
    def fail() -> None:
        raise RuntimeError("in the child")

    with pytest.raises(subprocess.SubprocessError, match="preexec_fn"):
        await sh("exit 0", preexec_fn=fail)


async def test_only_the_descriptors_passed_reach_the_child(loop):
    reader, writer = os.pipe()
    try:
        process = await sh(f"echo passed > /proc/self/fd/{writer}", pass_fds=[writer])
        assert await process.wait() == 0
        assert os.read(reader, 100) == b"passed\n"
        shown = await output_of("ls /proc/$$/fd")
        assert not {str(reader).encode(), str(writer).encode()} & set(shown.split())
    finally:
        os.close(reader)
        os.close(writer)


async def test_descriptors_can_be_left_open(loop):
    reader, writer = os.pipe()
    try:
        os.set_inheritable(writer, True)
        process = await sh(f"echo inherited > /proc/self/fd/{writer}", close_fds=False)
        assert await process.wait() == 0
        assert os.read(reader, 100) == b"inherited\n"
    finally:
        os.close(reader)
        os.close(writer)


async def test_a_new_session_is_the_childs_own(loop):
    process = await asyncio.create_subprocess_exec("cat", stdin=PIPE, start_new_session=True)
    assert os.getsid(process.pid) == process.pid != os.getsid(0)
    process.stdin.close()
    await process.wait()


async def test_a_shell_takes_text_and_bytes(loop):
    for command in ("echo $((6 * 7)) | cat", b"echo $((6 * 7)) | cat"):
        process = await asyncio.create_subprocess_shell(command, stdout=PIPE)
        assert await process.communicate() == (b"42\n", None)


REFUSED = {
    "universal_newlines": True,
    "text": True,
    "bufsize": 4096,
    "encoding": "utf-8",
    "errors": "strict",
}


@pytest.mark.parametrize("option", REFUSED)
async def test_text_and_buffers_are_refused(loop, option: str):
    with pytest.raises(ValueError, match=option):
        await loop.subprocess_exec(asyncio.SubprocessProtocol, "true", **{option: REFUSED[option]})
    with pytest.raises(ValueError, match=option):
        await loop.subprocess_shell(asyncio.SubprocessProtocol, "true", **{option: REFUSED[option]})


async def test_exec_has_no_shell_and_a_shell_has_one_command(loop):
    with pytest.raises(ValueError, match="shell must be False"):
        await loop.subprocess_exec(asyncio.SubprocessProtocol, "true", shell=True)
    with pytest.raises(ValueError, match="shell must be True"):
        await loop.subprocess_shell(asyncio.SubprocessProtocol, "true", shell=False)
    with pytest.raises(ValueError, match="cmd must be a string"):
        await loop.subprocess_shell(asyncio.SubprocessProtocol, ["true"])


async def test_a_program_that_cannot_be_started_leaves_nothing(loop, tmp_path: Path):
    """Also descriptors: uvloop 185."""
    (tmp_path / "data").write_text("no program")
    for _ in range(30):
        with pytest.raises(FileNotFoundError):
            await asyncio.create_subprocess_exec(tmp_path / "none", stdin=PIPE, stdout=PIPE)
        with pytest.raises(PermissionError):
            await asyncio.create_subprocess_exec(tmp_path / "data", stderr=PIPE)
        with pytest.raises(FileNotFoundError):
            await asyncio.create_subprocess_exec("true", cwd=tmp_path / "none")
    assert len(os.listdir("/proc/self/fd")) < 60
