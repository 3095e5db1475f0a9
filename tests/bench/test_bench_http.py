"""The HTTP scenarios: every answer is looked at or counted, and a wrong one ends the round."""

from __future__ import annotations

import http.server
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from bench.children import Cores
from bench.errors import BenchError, MissingError
from bench.load import Address
from bench.loops import NATIVE_SERVERS
from bench.scenarios import http_hello, http_server
from bench.scenarios.http_server import BODY, SERVERS
from bench.scenarios.wrk import HttpPlan, run_wrk, warm_up

ANYWHERE = Cores(None, None)
LIMIT_S = 20.0
SMALL_PLAN = HttpPlan(BODY, connections=3, warmup_requests=3)

needs_wrk = pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")

Handler = type[http.server.BaseHTTPRequestHandler]


@needs_wrk
@pytest.mark.parametrize("server", list(SERVERS))
def test_a_server_is_measured_under_wrk(loop_name: str, server: str) -> None:
    pytest.importorskip(server, reason=f"{server} is not installed")
    started = time.perf_counter()
    sample = http_hello.HttpHello(server, SMALL_PLAN).run_round(loop_name, ANYWHERE)
    assert sample.operations > 0 and sample.measured_cpu_s > 0
    # wrk starts its clock after its thread, a little late.
    assert 0.5 < sample.seconds < time.perf_counter() - started
    assert sample.p50_us is not None and sample.p99_us is not None and sample.p99_9_us is not None
    assert 0 < sample.p50_us <= sample.p99_us <= sample.p99_9_us


def test_each_server_has_a_table_and_the_quick_one_is_uvicorns() -> None:
    assert [each.title for each in http_hello.scenarios("full")] == [
        "HTTP hello, uvicorn with httptools, 50 connections",
        "HTTP hello, aiohttp, 50 connections",
    ]
    (quick,) = http_hello.scenarios("quick")
    assert quick.title == http_hello.scenarios("full")[0].title
    assert [quick.runs_on(name) for name in (*NATIVE_SERVERS, "uvloop")] == [False, False, True]


def test_a_missing_wrk_is_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(MissingError, match=r"wrk was not found .*apt-get install wrk"):
        run_wrk(["tcp", "127.0.0.1", "9"], SMALL_PLAN, os.getpid(), core=None)


def test_a_missing_server_is_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    def cannot_be_imported() -> http_server.Serve:
        raise ImportError("No module named 'uvicorn'")

    monkeypatch.setitem(SERVERS, "uvicorn", cannot_be_imported)
    with pytest.raises(MissingError, match=r"uvicorn: No module named .*pip install"):
        http_server.made("uvicorn")


def test_a_missing_loop_is_reported_by_the_server() -> None:
    with pytest.raises(MissingError, match="no_such_loop"):
        http_hello.HttpHello("uvicorn", SMALL_PLAN).run_round("no_such_loop", ANYWHERE)


@contextmanager
def server_with(handler: Handler) -> Iterator[Address]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = False
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield ["tcp", "127.0.0.1", str(server.server_port)]
    finally:
        server.shutdown()
        server.server_close()
        thread.join(LIMIT_S)


class Faithful(http.server.BaseHTTPRequestHandler):
    """Answers what is expected; `answers` counts them, over all connections."""

    protocol_version = "HTTP/1.1"
    answers: int
    fault_at = -1

    def setup(self) -> None:
        super().setup()
        self.connection.settimeout(LIMIT_S)

    def do_GET(self) -> None:  # the base class names it
        type(self).answers += 1
        if self.answers == self.fault_at:
            self.fail()
        else:
            self.answer(200, BODY)

    def fail(self) -> None:
        """What is wrong with answer number `fault_at`."""

    def answer(self, status: int, body: bytes) -> None:
        self.send_response_only(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def with_fault(at: int, fail: Callable[[Faithful], None]) -> Handler:
    return type("Faulty", (Faithful,), {"answers": 0, "fault_at": at, "fail": fail})


def refuse(handler: Faithful) -> None:
    handler.answer(503, BODY)


def redirect(handler: Faithful) -> None:
    handler.answer(302, BODY)


def change_the_body(handler: Faithful) -> None:
    handler.answer(200, BODY[::-1])


def lengthen_the_body(handler: Faithful) -> None:
    handler.answer(200, BODY + b"!")


def shorten_the_body(handler: Faithful) -> None:
    handler.answer(200, BODY[:-1])


def hang_up(handler: Faithful) -> None:
    handler.close_connection = True


@pytest.mark.parametrize(
    "fail", [refuse, redirect, change_the_body, lengthen_the_body, shorten_the_body, hang_up]
)
def test_a_wrong_answer_is_noticed_before_wrk_begins(fail: Callable[[Faithful], None]) -> None:
    with (
        server_with(with_fault(2, fail)) as address,
        pytest.raises(BenchError, match="the server answered"),
    ):
        warm_up(address, SMALL_PLAN)


@needs_wrk
def test_a_faithful_server_passes() -> None:
    with server_with(with_fault(-1, refuse)) as address:
        assert run_wrk(address, SMALL_PLAN, os.getpid(), core=None).operations > 0


@needs_wrk
@pytest.mark.parametrize(
    ("fail", "words"), [(refuse, "wrong ones: {'status': 1}"), (hang_up, "wrong ones: {'read': 1}")]
)
def test_a_wrong_answer_under_wrk_is_an_error(fail: Callable[[Faithful], None], words: str) -> None:
    with server_with(with_fault(10, fail)) as address, pytest.raises(BenchError, match=words):
        run_wrk(address, SMALL_PLAN, os.getpid(), core=None)


@needs_wrk
def test_answers_of_another_length_under_wrk_are_an_error() -> None:
    """Each from the tenth on: more than what begun answers could explain."""

    class Longer(Faithful):
        answers = 0

        def do_GET(self) -> None:
            type(self).answers += 1
            self.answer(200, BODY + b"!" * 100 * (self.answers > 10))

    with (
        server_with(Longer) as address,
        pytest.raises(BenchError, match=r"which have .* bytes each"),
    ):
        run_wrk(address, SMALL_PLAN, os.getpid(), core=None)


def test_a_server_that_cannot_be_reached_is_an_error() -> None:
    with server_with(with_fault(-1, refuse)) as address:
        pass  # and it has ended
    with pytest.raises(BenchError, match=r"did not answer: .*refused"):
        warm_up(address, SMALL_PLAN)
