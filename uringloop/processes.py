"""Child processes: started by subprocess.Popen, waited for through a pidfd.

A pidfd (Linux 5.3) is a descriptor that names one process for good, and becomes readable when
that process ends. So a child is waited for like any other descriptor: by one POLL, in whatever
thread the loop runs, with as many loops as there are. SIGCHLD is neither needed nor touched;
a program may handle it as it likes.

Where no pidfd can be had (an older kernel, EPERM or ENOSYS from a seccomp filter, EMFILE) a
daemon thread per child waits in waitid, as asyncio's ThreadedChildWatcher does. Such a thread
also waits for a child that outlives its loop, so that it does not stay a zombie.

A child is reaped, under Popen's own lock, in the moment that its return code becomes known to
the transport: no signal goes to a number that may be somebody else's by now (cpython 127049).
"""

from __future__ import annotations

import asyncio
import functools
import os
import select
import subprocess
import sys
import threading
from asyncio.base_subprocess import (
    BaseSubprocessTransport,
    ReadSubprocessPipeProto,
    WriteSubprocessPipeProto,
)
from asyncio.log import logger
from contextvars import copy_context
from typing import Any

from uringloop.driver import binding
from uringloop.driver.in_flight import Operation

# What asyncio reports of a child whose status somebody else has taken.
_UNKNOWN_RETURNCODE = 255

_HAS_PIDFD = hasattr(os, "pidfd_open") and hasattr(os, "P_PIDFD")


class SubprocessTransport(BaseSubprocessTransport):
    """asyncio's subprocess transport, in the version of the running Python.

    Connecting the pipes may be cancelled at any moment, even before it began, and close() may
    come in its midst: all of them get closed, and who waits for the end is told of it
    (cpython 103847 and 125502).
    """

    # asyncio's own, which its type stubs do not show.
    _call_connection_lost: Any
    _closed: bool
    _finished: bool
    _loop: Any
    _pending_calls: Any
    _pipes: dict[int, Any]
    _proc: Any
    _protocol: Any
    _try_finish: Any

    def _start(
        self,
        args: Any,
        shell: bool,
        stdin: Any,
        stdout: Any,
        stderr: Any,
        bufsize: int,
        **kwargs: Any,
    ) -> None:
        self._proc = subprocess.Popen(
            args,
            shell=shell,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            universal_newlines=False,
            bufsize=bufsize,
            **kwargs,
        )

    def _connect_pipes(self, waiter: Any) -> Any:
        """Begins to connect what Popen opened; answers the coroutine that asyncio makes a task
        of, and then knows no more."""
        streams = (self._proc.stdin, self._proc.stdout, self._proc.stderr)
        self._unconnected = {fd: stream for fd, stream in enumerate(streams) if stream is not None}
        connecting = self._loop.create_task(self._connect())
        connecting.add_done_callback(functools.partial(self._connecting_ended, waiter))
        return _nothing()

    async def _connect(self) -> None:
        for fd, stream in tuple(self._unconnected.items()):
            factory = functools.partial(self._make_pipe_protocol, fd)
            if fd == 0:
                _, self._pipes[fd] = await self._loop.connect_write_pipe(factory, stream)
            else:
                _, self._pipes[fd] = await self._loop.connect_read_pipe(factory, stream)

    def _make_pipe_protocol(self, fd: int) -> Any:
        # From here on the stream is its pipe transport's to close.
        self._unconnected.pop(fd, None)
        make: Any = WriteSubprocessPipeProto if fd == 0 else ReadSubprocessPipeProto
        return make(self, fd)

    def _connecting_ended(self, waiter: Any, connecting: asyncio.Task[None]) -> None:
        self._pipes_connected = True  # 3.14 asks for it
        if connecting.cancelled():
            self._give_up()
            waiter.cancel()
        elif (error := connecting.exception()) is not None:
            self._give_up()
            if not waiter.cancelled():
                waiter.set_exception(error)
        else:
            self._connected()
            if not waiter.cancelled():
                waiter.set_result(None)

    def _connected(self) -> None:
        """The protocol hears of the connection, then of all that happened since."""
        loop = self._loop
        loop.call_soon(self._protocol.connection_made, self)
        for callback, arguments in self._pending_calls:
            loop.call_soon(callback, *arguments)
        self._pending_calls = None
        if self._closed:
            self._close_pipes()

    def _give_up(self) -> None:
        """Not all pipes could be connected. The protocol, which never heard of a connection,
        hears of nothing else either; who waits for the end will."""
        self._pending_calls = None
        self._protocol = asyncio.SubprocessProtocol()
        for stream in self._unconnected.values():
            stream.close()
        self._pipes = {fd: pipe for fd, pipe in self._pipes.items() if pipe is not None}
        self._close_pipes()
        if self._finished:
            self._call_connection_lost(None)  # it was among the pending calls
        else:
            self._try_finish()

    def _close_pipes(self) -> None:
        for pipe in self._pipes.values():
            pipe.pipe.close()

    def send_signal(self, signal: int) -> None:
        # Reaped, with its pipes still open: nobody is left to be sent anything.
        if self._proc is None or self._proc.returncode is None:
            super().send_signal(signal)

    def close(self) -> None:
        if not self._closed and self._loop is not None and self._loop.is_closed():
            # Their transports can do nothing any more; collected, they close their files.
            self._pipes = {}
        super().close()


async def _nothing() -> None:
    pass


class Exit(Operation):
    """The end of one child, which its transport is told of."""

    def __init__(self, exits: Exits, core: Any, transport: Any) -> None:
        self._exits = exits
        self._core = core
        self._transport = transport
        self._process: subprocess.Popen[bytes] = transport.get_extra_info("subprocess")
        self._context = copy_context()
        self._pidfd = -1
        self._token = 0

    def start(self) -> None:
        """Begins to wait: by a pidfd, or else in a thread.

        raises   RuntimeError when neither can be had
        """
        self._pidfd = _open_pidfd(self._process.pid)
        if self._pidfd >= 0:
            self.arm()
        else:
            self._start_thread()

    def arm(self) -> None:
        """Gives the POLL command, to be taken by the next turn."""
        self._token = self._core._in_flight.add(self)
        self._core._rings.stage(
            binding.UL_OP_POLL, self._pidfd, self._token, 0, 0, select.POLLIN, 0
        )

    def arm_again(self) -> None:
        """Arms it where an exception out of a signal handler came before completed() could."""
        if self._pidfd >= 0 and self._core._in_flight.find(self._token) is not self:
            self.arm()

    def completed(self, rings: Any, opcode: int, result: int, more: bool) -> None:
        self._token = 0
        if result > 0:
            # Soon, not now: what callbacks of this turn have scheduled comes first.
            self._core.call_soon(self._ended, context=self._context)
        else:
            self._close_pidfd()
            self._start_thread()

    def _ended(self) -> None:
        """The child is a zombie, or was reaped behind our back."""
        try:
            returncode = self._reap()
        finally:
            self._close_pidfd()
            self._exits.remove(self)
        self._transport._process_exited(returncode)

    def _reap(self) -> int:
        """Ends the child's life as a zombie; its return code, negative for a signal."""
        process = self._process
        if process.returncode is not None:  # Popen's own methods reap, too
            return process.returncode
        returncode = self._look()
        if returncode is not None:
            process.wait()
            return returncode
        if process.returncode is not None:
            return process.returncode
        logger.warning(
            "child process pid %d exit status already read:  will report returncode %d",
            process.pid,
            _UNKNOWN_RETURNCODE,
        )
        return _UNKNOWN_RETURNCODE

    def _look(self) -> int | None:
        """The return code of the zombie, which stays one; None if it was reaped."""
        options = os.WEXITED | os.WNOHANG | os.WNOWAIT
        try:
            if self._pidfd >= 0:
                status = os.waitid(os.P_PIDFD, self._pidfd, options)
            else:
                status = os.waitid(os.P_PID, self._process.pid, options)
        except ChildProcessError:
            return None
        if status is None:  # the number is another child's by now
            return None
        return status.si_status if status.si_code == os.CLD_EXITED else -status.si_status

    def _close_pidfd(self) -> None:
        self._token = 0
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1

    # -- without a pidfd --------------------------------------------------------------

    def _start_thread(self) -> None:
        name = f"uringloop-waitid-{self._process.pid}"
        threading.Thread(target=self._wait, name=name, daemon=True).start()

    def _wait(self) -> None:
        """The thread: leaves the child a zombie, for the loop's thread to reap."""
        try:
            os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
        except ChildProcessError:
            pass  # reaped behind our back: _ended finds out
        try:
            self._core.call_soon_threadsafe(self._ended, context=self._context)
        except RuntimeError:  # the loop is closed
            self._process.wait()

    def abandoned(self) -> None:
        self._close_pidfd()
        self._transport = None
        if sys.is_finalizing():
            return  # starting a thread would hang before 3.12; the children become init's
        try:
            self._start_thread()
        except RuntimeError:
            pass  # no thread can be had: the child stays a zombie as long as this process lives


class Exits:
    """The children of one loop that have not ended."""

    def __init__(self, core: Any) -> None:
        self._core = core
        self._exits: set[Exit] = set()

    def add(self, transport: Any) -> None:
        """Has `transport` told when its process ends.

        raises   RuntimeError when it cannot be waited for
        """
        waiting = Exit(self, self._core, transport)
        waiting.start()
        self._exits.add(waiting)

    def remove(self, ended: Exit) -> None:
        """Forgets a child that was reaped."""
        self._exits.discard(ended)

    def arm_again(self) -> None:
        """Before a run: an exception may have ended the run before in the middle, or the engine
        may be a fresh one, in another thread."""
        for waiting in self._exits:
            waiting.arm_again()

    def close(self) -> None:
        """Forgets all children; the loop is being closed, and abandons them itself."""
        self._exits.clear()


def _open_pidfd(pid: int) -> int:
    """A descriptor of the process; -1 where there is none, for whatever reason."""
    if not _HAS_PIDFD:
        return -1
    try:
        return os.pidfd_open(pid)
    except OSError:
        return -1


async def start(core: Any, protocol: Any, *arguments: Any, extra: Any, **kwargs: Any) -> Any:
    """Starts a child and connects its pipes to `protocol`; its transport.

    arguments   args, shell, stdin, stdout, stderr, bufsize of SubprocessTransport._start
    kwargs      more of Popen's
    raises      what Popen raises
    """
    waiter = core.create_future()
    made: Any = SubprocessTransport  # whose constructor has no type stub
    transport = made(core, protocol, *arguments, waiter, extra, **kwargs)
    try:
        core._exits.add(transport)
    except RuntimeError:
        transport.close()
        raise
    try:
        await waiter
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException:
        transport.close()
        await transport._wait()
        raise
    return transport
