"""Several processes that serve, and their parent: starts, restarts and ends them.

The parent runs no loop. It waits for signals and for its children, forks, and has the last
word: the listening sockets are its own, so that no connection is refused while a worker is
being replaced. A worker that dies is followed by another, later and later if they die young.

Each worker has the reading end of a pipe, the parent the writing end: orders go through it,
and when the parent is no more, however it ended, the worker reads the end and drains.
"""

from __future__ import annotations

import logging
import os
import selectors
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from types import FrameType

from uringloop.proxy.back_off import BackOff
from uringloop.proxy.errors import ExitStatus, ProxyError
from uringloop.proxy.listening import Listeners
from uringloop.proxy.log import event
from uringloop.proxy.serving import CUT, DRAIN, STOP_SIGNALS
from uringloop.proxy.shared_status import SharedStatus

RESTART_FIRST_S = 0.25
RESTART_LONGEST_S = 30.0
# A worker that has lived so long was all right.
RESTART_FORGIVEN_S = 10.0
# Workers keep the limits themselves. One that is this late does not answer any more.
GRACE_S = 5.0
SHOW_EVERY_S = 0.5

# What a worker does: its number, its listening sockets, the pipe of its orders.
WorkerMain = Callable[[int, "list[socket.socket]", int], int]


@dataclass
class Worker:
    """One place for a worker, and who has it at the moment."""

    number: int
    sockets: list[socket.socket]
    back_off: BackOff = field(default_factory=lambda: BackOff(RESTART_FIRST_S, RESTART_LONGEST_S))
    pid: int = 0  # 0: nobody
    orders_fd: int = -1
    started: float = 0.0

    def started_as(self, pid: int, orders_fd: int, now: float) -> None:
        self.pid, self.orders_fd, self.started = pid, orders_fd, now

    def ended(self, now: float) -> float:
        """The process is no more. Returns the seconds until the next may start."""
        self.pid = 0
        os.close(self.orders_fd)
        self.orders_fd = -1
        if now - self.started >= RESTART_FORGIVEN_S:
            self.back_off.succeeded()
        return self.back_off.failed(now)

    def is_due(self, now: float) -> bool:
        return self.pid == 0 and self.back_off.is_over(now)

    def order(self, order: bytes) -> None:
        if self.pid:
            try:
                os.write(self.orders_fd, order)
            except BrokenPipeError:
                pass  # it has just ended; its status follows


class Supervisor:
    """The parent of the workers.

    listeners    for each worker its sockets
    work         what a worker does, in the child; returns its exit status
    drain_s      the workers' own limit for draining
    ready        called as soon as signals are heard
    status       what a terminal shows of them; None where there is no terminal
    """

    def __init__(
        self,
        listeners: Listeners,
        work: WorkerMain,
        drain_s: float,
        ready: Callable[[], object],
        status: SharedStatus | None = None,
    ) -> None:
        self._listeners = listeners
        self._work = work
        self._drain_s = drain_s
        self._ready = ready
        self._shown = status
        self._show_at = 0.0
        self._workers = [Worker(number, group) for number, group in enumerate(listeners.sockets)]
        self._selector = selectors.DefaultSelector()
        self._stops = 0  # how often we were asked to stop
        self._kill_at = float("inf")
        self._status = ExitStatus.DRAINED

    def run(self) -> ExitStatus:
        """Until asked to stop and all workers have ended. From the main thread."""
        reading, writing = os.pipe()
        for fd in (reading, writing):
            os.set_blocking(fd, False)
        self._watch(reading, lambda: self._signalled(os.read(reading, 4096)))
        if self._shown is not None:
            self._watch(self._shown.lines_fd, self._shown.print_lines)
        before_fd = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        before = {number: signal.signal(number, _note) for number in _SIGNALS}
        try:
            self._ready()
            self._run()
            if self._shown is not None:
                self._shown.print_rest()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(before_fd)
            self._selector.close()
            os.close(reading)
            os.close(writing)
        return self._status

    def _watch(self, fd: int, readable: Callable[[], object]) -> None:
        self._selector.register(fd, selectors.EVENT_READ, readable)

    def _run(self) -> None:
        while not self._stops or any(worker.pid for worker in self._workers):
            now = time.monotonic()
            if not self._stops:
                for worker in self._workers:
                    if worker.is_due(now):
                        self._start(worker, now)
            elif now >= self._kill_at:
                self._kill()
            for key, _ in self._selector.select(self._wait_s(now)):
                key.data()
            if self._shown is not None and time.monotonic() >= self._show_at:
                self._show_at = time.monotonic() + SHOW_EVERY_S
                self._shown.show()

    def _wait_s(self, now: float) -> float | None:
        moments = [self._kill_at] if self._stops else []
        if not self._stops:
            moments += [each.back_off.until for each in self._workers if not each.pid]
        if self._shown is not None:
            moments.append(self._show_at)
        finite = [moment for moment in moments if moment != float("inf")]
        return max(min(finite) - now, 0.0) if finite else None

    # -- signals --------------------------------------------------------------------

    def _signalled(self, numbers: bytes) -> None:
        for number in numbers:
            if number in STOP_SIGNALS:
                self._stop()
        self._reap()

    def _stop(self) -> None:
        """The first time: drain. The second: cut. The third: do not wait for anybody."""
        self._stops += 1
        if self._stops == 1:
            event(logging.INFO, "stopping", workers=len(self._workers))
            self._listeners.close()
        if self._stops > 2:
            self._kill()
            return
        limit_s = self._drain_s if self._stops == 1 else 0.0
        self._kill_at = time.monotonic() + limit_s + GRACE_S
        for worker in self._workers:
            worker.order(DRAIN if self._stops == 1 else CUT)

    def _kill(self) -> None:
        self._kill_at = float("inf")
        for worker in self._workers:
            if worker.pid:
                event(logging.ERROR, "worker_killed", worker=worker.number, pid=worker.pid)
                os.kill(worker.pid, signal.SIGKILL)

    # -- children -------------------------------------------------------------------

    def _start(self, worker: Worker, now: float) -> None:
        try:
            pid, orders_fd = self._fork(worker)
        except OSError as error:  # out of descriptors, memory or processes: later, perhaps
            delay_s = worker.back_off.failed(now)
            event(
                logging.ERROR,
                "worker_failed",
                worker=worker.number,
                error=str(error),
                restart_s=delay_s,
            )
        else:
            worker.started_as(pid, orders_fd, now)
            event(logging.INFO, "worker_started", worker=worker.number, pid=pid)

    def _fork(self, worker: Worker) -> tuple[int, int]:
        """The child's process id, and where its orders are written."""
        reading, writing = os.pipe()
        # Until the child has handlers of its own, a signal would go through ours to our pipe.
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            pid = os.fork()
            if pid == 0:
                os._exit(self._be(worker, reading, writing))
        except BaseException:
            os.close(writing)
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
            os.close(reading)
        return pid, writing

    def _be(self, worker: Worker, reading: int, writing: int) -> int:
        """The child's life. Returns its exit status; nothing may leave this function."""
        try:
            self._forget_the_parent(worker, writing)
            return self._work(worker.number, worker.sockets, reading)
        except ProxyError as error:
            event(logging.ERROR, "worker_failed", worker=worker.number, error=str(error))
            return error.exit_status
        except BaseException:
            traceback.print_exc()
            return 70  # EX_SOFTWARE: a fault of ours
        finally:
            sys.stderr.flush()

    def _forget_the_parent(self, worker: Worker, writing: int) -> None:
        """Closes what is not this worker's: above all the writing ends of all pipes, or
        nobody would ever read that the parent is no more."""
        signal.set_wakeup_fd(-1)
        # Until its loop listens: what is sent to all of us reaches the parent, who tells us.
        for number in STOP_SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        for key in list(self._selector.get_map().values()):
            os.close(key.fd)
        self._selector.close()
        os.close(writing)
        for other in self._workers:
            if other.orders_fd >= 0:
                os.close(other.orders_fd)
            if other is not worker:
                for sock in other.sockets:
                    if sock not in worker.sockets:
                        sock.close()

    def _reap(self) -> None:
        for worker in self._workers:
            if worker.pid:
                pid, status = os.waitpid(worker.pid, os.WNOHANG)
                if pid:
                    self._ended(worker, os.waitstatus_to_exitcode(status))

    def _ended(self, worker: Worker, status: int) -> None:
        pid = worker.pid
        delay_s = worker.ended(time.monotonic())
        if self._shown is not None:
            self._shown.worker_ended(worker.number)
        if status == ExitStatus.ENGINE:
            self._status = ExitStatus.ENGINE  # as would be that of any other
            if not self._stops:
                self._stop()
        elif not self._stops:
            event(
                logging.ERROR,
                "worker_ended",
                worker=worker.number,
                pid=pid,
                status=status,
                restart_s=delay_s,
            )
        elif status != ExitStatus.DRAINED and self._status == ExitStatus.DRAINED:
            self._status = ExitStatus.CUT


_SIGNALS = (*STOP_SIGNALS, signal.SIGCHLD)


def _note(number: int, frame: FrameType | None) -> None:
    """The signal's number is in the pipe of set_wakeup_fd()."""
