"""All subjects, in the order of the document."""

from __future__ import annotations

from tests.api.checks.connections import CONNECTIONS
from tests.api.checks.datagrams import DATAGRAMS
from tests.api.checks.pipes import PIPES
from tests.api.checks.processes import PROCESSES, SIGNALS
from tests.api.checks.running import RUNNING
from tests.api.checks.servers import SERVERS
from tests.api.checks.sockets import READINESS, SENDFILE, SOCKETS
from tests.api.checks.streams import STREAMS, TLS_STREAMS
from tests.api.checks.tasks import EXCEPTIONS, EXECUTORS, TASKS
from tests.api.checks.timers import TIMERS
from tests.api.checks.tls import TLS
from tests.api.checks.unix import UNIX
from tests.api.registry import Check, Subject

SUBJECTS: tuple[Subject, ...] = (
    RUNNING,
    TIMERS,
    TASKS,
    EXECUTORS,
    EXCEPTIONS,
    CONNECTIONS,
    SERVERS,
    UNIX,
    STREAMS,
    TLS_STREAMS,
    TLS,
    DATAGRAMS,
    READINESS,
    SOCKETS,
    SENDFILE,
    PIPES,
    PROCESSES,
    SIGNALS,
)


def all_checks() -> list[Check]:
    return [check for subject in SUBJECTS for check in subject.checks]
