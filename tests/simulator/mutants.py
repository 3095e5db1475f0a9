"""Mistakes that the simulator must find: each a file of the package with one thing changed.

A copy of the package with the mistake is made in a folder, and a Python that is started there
imports it; see test_mutants.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent.parent / "uringloop"


@dataclass(frozen=True)
class Mutant:
    """In `file`, `wrong` in place of `right`, which must be there once.

    scenario   the one that meets it soonest; "": most do
    """

    name: str
    file: str
    right: str
    wrong: str
    scenario: str = ""


MUTANTS = [
    Mutant(
        "a pause's cancel is not followed by another receive",
        "transports/receiving.py",
        "            self._start_receiving()  # cancelled by a pause",
        "            pass  #",
    ),
    Mutant(
        "what was kept while paused is given in another order",
        "transports/receiving.py",
        "item = self._backlog.pop(0)",
        "item = self._backlog.pop()",
    ),
    Mutant(
        "what comes while something is kept overtakes it",
        "transports/receiving.py",
        "if not self._read_wanted or self._backlog is not None:\n            self._recv_paused",
        "if not self._read_wanted:\n            self._recv_paused",
    ),
    Mutant(
        "the rest of a full protocol's buffer is forgotten",
        "transports/receiving.py",
        "            if size < len(data):\n                self._backlog.insert(0, data[size:])\n",
        "",
    ),
    Mutant(
        "a protocol that pauses gets more of a large piece",
        "transports/receiving.py",
        "self._buffered and self._read_wanted and self._state < _DRAINING:",
        "self._buffered and self._state < _DRAINING:",
    ),
    Mutant(
        "a stream in bulk that was paused is not received from again",
        "transports/receiving.py",
        "            flags |= _READABLE\n",
        "            return\n",
    ),
    Mutant(
        "a short direct send is not counted",
        "write_queue.py",
        "self.append(piece[sent_bytes:] if sent_bytes else piece)",
        "self.append(piece)",
    ),
    Mutant(
        "what is written behind a send in flight is not sent",
        "transports/stream.py",
        "        if self._queue.queued_bytes:\n            if not self._will_flush:",
        "        if self._queue.queued_bytes and self._state != _DRAINING:\n"
        "            if not self._will_flush:",
    ),
    Mutant(
        "two sends at once",
        "transports/stream.py",
        "        if self._send_token or self._queue.queued_bytes == 0:\n            return\n"
        "        data = self._queue.take()\n        flags",
        "        if self._queue.queued_bytes == 0:\n            return\n"
        "        data = self._queue.take()\n        flags",
    ),
    Mutant(
        "a paused writer is not resumed",
        "transports/stream.py",
        "if self._protocol_paused and self._queue.queued_bytes <= self._low_bytes:",
        "if self._protocol_paused and self._queue.queued_bytes < 0:",
    ),
    Mutant(
        "the bytes of a send are freed while it goes on",
        "transports/stream.py",
        "            self._sending = data\n",
        "            data = bytes(bytearray(data))\n            self._sending = None\n",
    ),
    Mutant(
        "a failed send is taken for a good one",
        "transports/stream.py",
        '        if result < 0:\n            error = exception_of("send", result)',
        '        if result < -200:\n            error = exception_of("send", result)',
    ),
    Mutant(
        "a socket is closed under its send",
        "transports/stream_base.py",
        "if self._recv_token or self._send_token or",
        "if self._recv_token or",
    ),
    Mutant(
        "a socket is closed under its receive",
        "transports/stream_base.py",
        "if self._recv_token or self._send_token or",
        "if self._send_token or",
    ),
    Mutant(
        "the cancel of a closed connection's receive is forgotten",
        "transports/transport_base.py",
        "self._recv_cancelled = True\n            self._rings.stage",
        "self._recv_cancelled = True\n            return\n            self._rings.stage",
    ),
    Mutant(
        "an aborted connection's send is not cancelled",
        "transports/stream_base.py",
        "        if self._send_token:\n            self._rings.stage",
        "        if False:\n            self._rings.stage",
    ),
    Mutant(
        "what came for a receive that was given up is dropped",
        "socket_operations.py",
        "lane.keep(self._worth_keeping(data, name, result))",
        "pass",
    ),
    Mutant(
        "what was answered to a caller who gave up is dropped",
        "lanes.py",
        "self._lane.put_back(self, self.untaken())",
        "pass",
        "sock_cancel",
    ),
    Mutant(
        "a connection that came too late for its accept is dropped",
        "socket_operations.py",
        "            self._lane.keep(answer)\n            self._core._connection_kept()",
        "            pass",
    ),
    Mutant(
        "a server does not accept again after an error",
        "servers.py",
        "self._loop.call_later(_RETRY_DELAY_S, self.start)",
        "pass",
        "half_close",
    ),
    Mutant(
        "a connection that comes after the server was closed is leaked",
        "servers.py",
        "        if self._stopped:\n            os.close(fd)\n",
        "        if self._stopped:\n",
        "server_close",
    ),
    Mutant(
        "a datagram that did not fit goes behind the others",
        "transports/datagram.py",
        "self._queue.appendleft((data, address))",
        "self._queue.append((data, address))",
        "udp",
    ),
    Mutant(
        "an error ends the receiving of datagrams",
        "transports/datagram_receiving.py",
        'self._report(exception_of("recvmsg", result))\n        self._start_receiving()',
        'self._report(exception_of("recvmsg", result))',
    ),
    Mutant(
        "a token is given back by an event that is not final",
        "core.py",
        "            if not rings.more:\n                in_flight.release(token)",
        "            in_flight.release(token)",
    ),
    Mutant(
        "a timer waits too long",
        "core.py",
        "return int(wait_s * 1e9) + 1",
        "return int(wait_s * 1e9) + 2_000_000",
    ),
]


def mistaken(mutant: Mutant) -> str:
    """The text of its file with the mistake."""
    text = (PACKAGE / mutant.file).read_text()
    assert text.count(mutant.right) == 1, f"{mutant.name}: not once in {mutant.file}"
    return text.replace(mutant.right, mutant.wrong)


def write(mutant: Mutant, folder: Path) -> None:
    """Makes the package with this mistake in `folder`, interpreted but for the engine."""
    target = folder / "uringloop"
    shutil.copytree(PACKAGE, target, ignore=_is_compiled)
    (target / mutant.file).write_text(mistaken(mutant))


def _is_compiled(folder: str, names: list[str]) -> list[str]:
    """All but the sources and the engine: the interpreted rendering is what has the mistake."""
    compiled = [name for name in names if name.endswith((".so", ".c", ".pyc"))]
    return [name for name in compiled if not name.startswith("_engine")]
