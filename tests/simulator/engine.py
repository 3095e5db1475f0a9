"""The simulated engine: engine.h's contract, out of the simulated kernel, as a seed decides.

Everything that the contract allows happens here, and nothing that it does not. What the program
does against its side of the contract goes into `violations`.
"""

from __future__ import annotations

import errno
from collections import Counter
from typing import Any

from tests.simulator.chance import MICROSECOND, MILLISECOND, NEVER
from tests.simulator.kernel import Kernel, Outside, Target
from tests.simulator.memory import Command, Memory
from tests.simulator.requests import KINDS, NAMES, TARGETS, Answer, RelayRequest, Request
from tests.simulator.streams import Stream
from uringloop.driver.binding import UL_LAZY, UL_OP_CANCEL, ffi, lib
from uringloop.errors import ANSWERS

FAILS_WITHIN = 20 * MILLISECOND
SHORTAGE = 100 * MICROSECOND
LATE_ANSWERS_MAX = 3

RECEIVES = frozenset({lib.UL_OP_RECV, lib.UL_OP_RECVMSG})
SENDS = frozenset({lib.UL_OP_SEND, lib.UL_OP_SENDFILE, lib.UL_OP_RELAY})

# How a turn says that it failed as no engine does; see driver.SimulatedDriver.explain().
FAILED = -errno.EPROTO


class StuckError(Exception):
    """The loop waits for ever, and nothing will happen."""


class SimulatedEngine:
    """An engine as Rings sees it: `memory` and the C function pointer `turn_pointer`.

    turn_number   counts the turns
    met           how often what the simulator is for came about, by words
    failure       what ended the last turn by an exception
    trace         what happened, in order: equal for equal seeds
    """

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.chance = kernel.chance
        self.memory = Memory(self.chance.temper.capacity)
        self.requests: dict[int, Request] = {}
        self.violations: list[str] = []
        self.trace: list[str] = []
        self.failure: BaseException | None = None
        self.turn_number = 0
        self.is_woken = False
        self.met: Counter[str] = Counter()
        self._counting = 0
        self._closed: list[Target] = []
        # Kept here: cffi frees a callback with its object.
        self.turn_pointer = ffi.callback(
            "int(struct ul_engine *, int64_t)", self._turn, error=FAILED, onerror=self._turn_failed
        )

    def _turn_failed(self, kind: Any, error: BaseException, traceback: Any) -> None:
        self.failure = error

    # -- a turn -------------------------------------------------------------------------

    def _turn(self, engine: Any, timeout_ns: int) -> int:
        shared = self.memory.shared
        self.turn_number += 1
        shared.counters.turns += 1
        self._counting = 0
        self.memory.begin_turn()
        self._look()
        self._take_commands()
        if self.chance.happens(self.chance.temper.interrupts):
            self.met["a turn without a look"] += 1
        else:
            self._wait(NEVER if timeout_ns < 0 else self.kernel.now_ns + timeout_ns)
        self.is_woken = False
        self.kernel.tick()
        shared.in_flight = len(self.requests)
        relays = [each for each in self.requests.values() if isinstance(each, RelayRequest)]
        shared.relay_buffers_held = sum(1 for each in relays if each.held)
        shared.counters.events += shared.event_count
        return int(shared.event_count)

    def _wait(self, deadline: int) -> None:
        """Gathers events, until one counts; the virtual clock goes on meanwhile."""
        while True:
            self.kernel.let_others_run()
            self.kernel.move_streams()
            self._step_all()
            if self._counting or self.is_woken or self.memory.is_full():
                return
            at = self._next_at()
            if at >= deadline:
                if deadline == NEVER:
                    raise StuckError(self._waiting())
                self._pass_time_until(deadline)
                return
            if self.chance.happens(self.chance.temper.interrupts):
                self.met["a wait that ended early"] += 1
                self.kernel.now_ns = self.chance.between(
                    self.kernel.now_ns, max(at, self.kernel.now_ns)
                )
                return
            self.kernel.now_ns = max(at, self.kernel.now_ns)

    def _pass_time_until(self, deadline: int) -> None:
        """Nothing comes before the timeout; sometimes a wake-up does."""
        if self.chance.happens(self.chance.temper.interrupts):
            deadline = self.chance.between(self.kernel.now_ns, deadline)
        self.kernel.now_ns = deadline

    def _next_at(self) -> int:
        """When there is something to do."""
        times = [self._at(request) for request in self.requests.values()]
        times.append(self.kernel.next_at())
        times += [each.full_until for each in self.kernel.datagrams if each.is_full()]
        return min(times)

    def _at(self, request: Request) -> int:
        moves = request.is_ready() or request.cancelled
        return min(request.at if moves else NEVER, request.fails_at)

    def _waiting(self) -> str:
        named = [f"{each.name} of {each.target.number}" for each in self.requests.values()]
        return f"nothing can happen any more; in flight: {', '.join(named) or 'nothing'}"

    # -- commands -----------------------------------------------------------------------

    def _look(self) -> None:
        """Descriptors that were closed: a transport's only after the last answer. What sock_* calls
        are about may be closed at any time, and a listener with the cancel on its way."""
        for target in self.kernel.look():
            if isinstance(target, Stream) and not target.is_raw:
                self._closed_under(self._requests_of(target))
            else:
                self._closed.append(target)

    def _requests_of(self, target: Target) -> list[Request]:
        return [each for each in self.requests.values() if target in each.targets()]

    def _closed_under(self, requests: list[Request]) -> None:
        for request in requests:
            if not request.is_once:
                self.violations.append(f"{request.target.number} closed under {request.name}")

    def _check_closed(self) -> None:
        """Once all commands were taken, with the cancels among them."""
        for target in self._closed:
            self._closed_under([each for each in self._requests_of(target) if not each.cancelled])
        self._closed.clear()

    def _take_commands(self) -> None:
        cancels = Counter(self.memory.arguments_of(UL_OP_CANCEL))
        while (command := self.memory.take_command()) is not None:
            self.memory.shared.counters.commands += 1
            if command.opcode == UL_OP_CANCEL:
                cancels[command.argument] -= 1
                self._cancel(command.argument)
            elif cancels[command.token]:
                self._refuse(command, errno.ECANCELED)
                self.met["a cancel of what no turn had taken"] += 1
            else:
                self._start(command)
        if not self.memory.shared.command_count:
            self._check_closed()

    def _refuse(self, command: Command, error: int) -> None:
        """Answers a command that is not carried out."""
        self.memory.give(command, -error, 0, more=False)
        self._counting += 1

    def _cancel(self, token: int) -> None:
        request = self.requests.get(token)
        if request is None or request.cancelled:
            self.met["a cancel of nothing"] += request is None
            return
        self.trace.append(f"cancel {request.name} {request.target.number}")
        request.cancelled = True
        if self.chance.happens(self.chance.temper.losing):
            request.late_answers = self.chance.between(1, LATE_ANSWERS_MAX)
        request.at = self.kernel.now_ns + self.chance.delay_ns()

    def _start(self, command: Command) -> None:
        target = self.kernel.target_of(command.fd)
        if isinstance(target, Outside) and command.opcode == lib.UL_OP_CONNECT:
            target = self.kernel.adopt(command.fd)
        if not isinstance(target, TARGETS.get(command.opcode, object)) or target is None:
            self.violations.append(f"{NAMES.get(command.opcode)} of descriptor {command.fd}")
            self._refuse(command, errno.EBADF)
            return
        request = KINDS[command.opcode](self, command, target)
        self._check(request)
        self.trace.append(f"start {request.name} {target.number} {command.length}")
        self.requests[command.token] = request
        request.at = self.kernel.now_ns + self.chance.delay_ns()
        if not isinstance(target, Outside) and self.chance.happens(self.chance.temper.errors):
            request.fails_at = self.kernel.now_ns + self.chance.between(0, FAILS_WITHIN)

    def _check(self, request: Request) -> None:
        command = request.command
        if command.token in self.requests:
            self.violations.append(f"{request.name}: its token is in use")
        sent_to = [self._sent_to(each) for each in self.requests.values()]
        if command.opcode in SENDS and self._sent_to(request) in sent_to:
            self.violations.append(f"a second send on {self._sent_to(request).number}")

    @staticmethod
    def _sent_to(request: Request) -> Any:
        """The stream that it sends to; None where it does not."""
        return request.targets()[-1] if request.command.opcode in SENDS else None

    # -- answers ------------------------------------------------------------------------

    def _step_all(self) -> None:
        """Moves what can be moved now: each once, some twice or three times."""
        for _ in range(self.chance.between(1, 3)):
            for request in self.chance.shuffled(self._movable()):
                if self.memory.is_full():
                    self.met["more events than fit"] += 1
                    return
                self._move(request)

    def _movable(self) -> list[Request]:
        return [each for each in self.requests.values() if self._at(each) <= self.kernel.now_ns]

    def _move(self, request: Request) -> None:
        if self._at(request) > self.kernel.now_ns:
            return
        if request.fails_at > self.kernel.now_ns and self._lacks_buffer(request):
            return
        answer = self._answer(request)
        request.at = self.kernel.now_ns + self.chance.delay_ns()
        if answer is None:
            self.met["progress without an event"] += 1
        else:
            self._give(request, answer)

    def _answer(self, request: Request) -> Answer | None:
        if request.fails_at <= self.kernel.now_ns:
            self.met["an error"] += 1
            return request.fail(self.pick_error(request))
        if request.cancelled and not self._comes_too_late(request):
            self.met["a cancel that won"] += 1
            return Answer(-errno.ECANCELED, request.done)
        return request.step()

    def pick_error(self, request: Request) -> int:
        """What it fails with."""
        return self.kernel.pick_error(request.name, ANSWERS[request.name])

    def _comes_too_late(self, request: Request) -> bool:
        """Whether the kernel had an answer before it heard of the cancel."""
        if not request.late_answers or not request.is_ready():
            return False
        request.late_answers -= 1
        self.met["a cancel that lost"] += 1
        return True

    def _lacks_buffer(self, request: Request) -> bool:
        """Whether a receive must wait for receive buffers: an ENOBUFS met inside."""
        if request.command.opcode not in RECEIVES:
            return False
        shared, temper = self.memory.shared, self.chance.temper
        if shared.buffers_held >= temper.buffers:
            self.met["no receive buffer left"] += 1
            return True
        if not self.chance.happens(temper.shortages):
            return False
        shared.counters.buffer_shortages += 1
        self.met["receive buffers that were short"] += 1
        request.at = self.kernel.now_ns + self.chance.between(1, SHORTAGE)
        return True

    def _give(self, request: Request, answer: Answer) -> None:
        self.trace.append(
            f"{self.kernel.now_ns} {request.name} {request.target.number}"
            f" {self._shown(request, answer)}{'' if answer.final else ' more'}"
        )
        command = request.command
        self.memory.give(command, answer.result, answer.address, more=not answer.final)
        is_lazy = command.flags & UL_LAZY and request.turn == self.turn_number
        self._counting += answer.result < 0 or not is_lazy
        if answer.final:
            del self.requests[command.token]
            request.ended()

    @staticmethod
    def _shown(request: Request, answer: Answer) -> str:
        """Descriptors are not the same in another run."""
        if request.name == "accept" and answer.result >= 0:
            return "a connection"
        return str(answer.result)
