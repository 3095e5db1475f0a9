"""Short connections as scenarios: connect, 64 bytes there and back, end, and the next one.

The servers are those of the echo benchmark: bytes are cheap here, and what costs is
accepting, making a transport and its protocol or streams, and closing. The load is
native/churn.c.
"""

from __future__ import annotations

from bench.children import Child, Cores
from bench.echo import server_command
from bench.load import ChurnPlan, run_churn
from bench.loops import NATIVE_SERVERS, is_python
from bench.scenario import Sample, Scenario

ANY_PORT = ["tcp", "127.0.0.1", "0"]


class Churn:
    """One of the echo servers, and connections that come and go."""

    operation = "connection"

    def __init__(self, mode: str, plan: ChurnPlan) -> None:
        self.title = f"connect, {plan.size_bytes} B echo, close, {mode}, {plan.at_once} at once"
        self._mode = mode
        self._plan = plan

    def runs_on(self, loop: str) -> bool:
        """The C servers have no modes: they are the limit of the table of protocols."""
        return is_python(loop) or (loop in NATIVE_SERVERS and self._mode == "protocol")

    def run_round(self, loop: str, cores: Cores) -> Sample:
        with Child(server_command(loop, self._mode, ANY_PORT), cores.measured) as server:
            address = server.read_answer()["address"]
            return run_churn(address, self._plan, server.pid, cores.load)


def scenarios(extent: str) -> list[Scenario]:
    """Protocols and streams for half a second, or protocols for less."""
    if extent == "quick":
        return [Churn("protocol", ChurnPlan(warmup_s=0.05, duration_s=0.2))]
    return [Churn(mode, ChurnPlan()) for mode in ("protocol", "streams")]
