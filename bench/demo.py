"""The demo: `uringloop proxy` in front of a small upstream, under load for a few seconds.

    python -m bench.demo
    python -m bench.demo --seconds 10 --connections 200 --size 65536

load client --> uringloop proxy --> echo server

Each is a process; the load compares every byte. On a terminal the proxy shows what it does
while it does it. At the end: what the load saw, and for comparison what it sees without a
proxy in between. The proxy takes io_uring where the kernel lets it, else epoll.

Exit status: 0 done, 1 the proxy or the load failed, 130 interrupted.
"""

from __future__ import annotations

import argparse
import contextlib
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

if not __package__:  # run as a file: let `import bench` find the package around it
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import uringloop
from bench import native, tables
from bench.children import READY_LIMIT_S, STOP_LIMIT_S, Child, choose_cores, die_with_parent
from bench.environment import describe_environment, one_line
from bench.errors import BenchError
from bench.load import Address, LoadPlan, run_load
from bench.options import parser_of, positive, positive_seconds, print_progress
from bench.scenario import Sample

HOST = "127.0.0.1"
LOOK_AGAIN_S = 0.02
HEADER = (
    "load",
    "requests/s",
    "p50 µs",
    "p99 µs",
    "MB/s each way",
    "CPU µs/request",
    "busy",
)


@contextlib.contextmanager
def running_proxy(upstream: Address) -> Iterator[tuple[Address, int]]:
    """The proxy on a free port, with our stderr, so that it shows what it does on a terminal.
    Its address and its process id."""
    address = ["tcp", HOST, str(_free_port())]
    arguments = ["proxy", "--log-level", "warning", _shown(address), _shown(upstream)]
    print_progress(f"$ uringloop {shlex.join(arguments)}")
    # A session of its own, so that Ctrl-C reaches the demo, which ends the others in order.
    with subprocess.Popen(
        [sys.executable, "-m", "uringloop", *arguments],
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=die_with_parent,
    ) as process:
        try:
            _wait_until_it_listens(process, address)
            yield address, process.pid
            process.send_signal(signal.SIGTERM)
            status = process.wait(STOP_LIMIT_S)
            if status != 0:
                raise BenchError(f"the proxy ended with status {status}")
        finally:
            process.kill()


def _free_port() -> int:
    with socket.create_server((HOST, 0)) as sock:
        return int(sock.getsockname()[1])


def _shown(address: Address) -> str:
    return ":".join(address[1:])


def _wait_until_it_listens(process: subprocess.Popen[bytes], address: Address) -> None:
    deadline = time.monotonic() + READY_LIMIT_S
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(ConnectionRefusedError):
            socket.create_connection((address[1], int(address[2]))).close()
            return
        time.sleep(LOOK_AGAIN_S)
    raise BenchError(f"the proxy does not listen, exit status {process.poll()}")


def measure(plan: LoadPlan, comparison: LoadPlan) -> list[tuple[str, Sample]]:
    """The load through the proxy, then straight to the upstream."""
    cores = choose_cores()
    with Child([str(native.built("echo_epoll")), "tcp", HOST, "0"], cores.load) as upstream:
        address: Address = upstream.read_answer()["address"]
        with running_proxy(address) as (proxy_address, proxy_pid):
            proxied = run_load(proxy_address, plan, proxy_pid, cores.load)
        direct = run_load(address, comparison, upstream.pid, cores.load)
    return [("through the proxy", proxied), ("without a proxy", direct)]


def row(label: str, sample: Sample, plan: LoadPlan) -> list[str]:
    return [
        label,
        f"{sample.rate_per_s:.0f}",
        f"{sample.p50_us:.0f}",
        f"{sample.p99_us:.0f}",
        f"{sample.rate_per_s * plan.size_bytes / 1e6:.1f}",
        f"{sample.cpu_us_per_operation:.1f}",
        f"{sample.busy:.0%}",
    ]


def demo_text(samples: Sequence[tuple[str, Sample]], plan: LoadPlan) -> str:
    """What is printed at the end."""
    found = uringloop.probe()
    lines = [
        one_line(describe_environment()),
        f"uringloop {uringloop.__version__} on {found.backend}: {found.reason}",
        (
            f"{tables.size(plan.size_bytes)} requests and answers, {plan.connections} connections, "
            f"{plan.duration_s:g} s, every byte compared; CPU and busy: the proxy's, then the "
            "upstream's"
        ),
        "",
        tables.aligned(HEADER, [row(label, sample, plan) for label, sample in samples]),
    ]
    return "\n".join(lines)


def parser() -> argparse.ArgumentParser:
    options = parser_of("bench.demo", __doc__)
    add = options.add_argument
    add("--connections", type=positive, default=50)
    add("--size", type=positive, default=1024, help="bytes of a request and of its answer")
    add("--seconds", type=positive_seconds, default=4.0, help="of load through the proxy")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)

    def plan_of(duration_s: float) -> LoadPlan:
        return LoadPlan(
            connections=options.connections,
            size_bytes=options.size,
            duration_s=duration_s,
            verify=True,
        )

    plan = plan_of(options.seconds)
    try:
        samples = measure(plan, plan_of(min(options.seconds, 1.0)))
    except BenchError as error:
        print_progress(f"bench.demo: {error}")
        return 1
    except KeyboardInterrupt:
        return 130
    print(demo_text(samples, plan))
    return 0


if __name__ == "__main__":
    sys.exit(main())
