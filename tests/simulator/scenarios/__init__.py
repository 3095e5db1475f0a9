"""The scenarios: small programs over the whole loop, each with an oracle of its own."""

from __future__ import annotations

from tests.simulator.scenarios.calls import accept_cancel, sendfile, sock_cancel
from tests.simulator.scenarios.closing import abort, accept_pause, server_close
from tests.simulator.scenarios.connecting import plain_connections
from tests.simulator.scenarios.datagrams import udp, udp_calls
from tests.simulator.scenarios.echoing import echo, half_close, proxy
from tests.simulator.scenarios.flow import bulk, pause_resume, pipes, streams
from tests.simulator.scenarios.relaying import relay
from tests.simulator.scenarios.timing import timers
from tests.simulator.scenarios.tls import start_tls, tls_echo
from tests.simulator.scenarios.waking import commands, wakes
from tests.simulator.world import Scenario

ALL: list[Scenario] = [
    echo,
    proxy,
    half_close,
    pause_resume,
    bulk,
    streams,
    pipes,
    start_tls,
    tls_echo,
    server_close,
    abort,
    accept_pause,
    sock_cancel,
    accept_cancel,
    sendfile,
    udp,
    udp_calls,
    timers,
    relay,
    plain_connections,
    wakes,
    commands,
]
