"""HTTP servers that people use, each on the loop under test, under wrk.

Also measures the parser and the framework, which are most of a request's cost: what a
loop saves here is what its users would see.
"""

from __future__ import annotations

from bench.children import Child, Cores, python_command
from bench.errors import MissingError
from bench.loops import is_python
from bench.scenario import Sample, Scenario
from bench.scenarios.http_server import BODY
from bench.scenarios.wrk import HttpPlan, run_wrk

TITLES = {"uvicorn": "HTTP hello, uvicorn with httptools", "aiohttp": "HTTP hello, aiohttp"}


class HttpHello:
    """One server, kept-alive connections, one request under way on each."""

    operation = "request"

    def __init__(self, server: str, plan: HttpPlan) -> None:
        self.title = f"{TITLES[server]}, {plan.connections} connections"
        self._server = server
        self._plan = plan

    def runs_on(self, loop: str) -> bool:
        return is_python(loop)

    def run_round(self, loop: str, cores: Cores) -> Sample:
        command = python_command("bench.scenarios.http_server", loop, self._server)
        with Child(command, cores.measured) as server:
            answer = server.read_answer()
            if "missing" in answer:
                raise MissingError(answer["missing"])
            return run_wrk(answer["address"], self._plan, server.pid, cores.load)


def scenarios(extent: str) -> list[Scenario]:
    """Both servers, or uvicorn. A second each, the least that wrk can do."""
    servers = ["uvicorn"] if extent == "quick" else list(TITLES)
    return [HttpHello(server, HttpPlan(BODY)) for server in servers]
