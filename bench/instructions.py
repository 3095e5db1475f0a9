"""Instructions in user space for one operation, counted by valgrind: a figure without weather.

    python -m bench.instructions echo --loops uringloop,uvloop --connections 10
    python -m bench.instructions churn --loops uringloop,uvloop --mode streams
    python -m bench.instructions "call_soon chain" "gather of 100" --loops uringloop,uvloop
    python -m bench.instructions echo --loops uringloop --functions 40

The same on a busy machine as on an idle one, to about one in a hundred, so that a small
change shows at once; but the kernel's part, and what caches make of it, are not in it. Wants
valgrind (callgrind), at the cost of a server that runs fifty times more slowly.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

if not __package__:  # run as a file: let `import bench` find the package around it
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from bench import loops
from bench.bodies import BODIES
from bench.children import Child, python_command
from bench.echo import server_command
from bench.errors import BenchError, MissingError
from bench.extras import EXTRAS
from bench.load import Address, ChurnPlan, LoadPlan, run_churn, run_load

WARMUP_S = 0.5
COUNTED_S = 2.0
ALL_BODIES = {**BODIES, **EXTRAS}
ANY_PORT = ["tcp", "127.0.0.1", "0"]
BODY_ARGUMENT = "--run-body"

# Puts a load on the server for so many seconds and answers the operations.
Load = Callable[[Address, int, float], int]


def callgrind(file: Path, command: Sequence[str]) -> list[str]:
    return [
        "valgrind",
        "-q",
        "--tool=callgrind",
        "--instr-atstart=no",
        f"--callgrind-out-file={file}",
        *command,
    ]


def control(pid: int, *arguments: str) -> None:
    subprocess.run(
        ["callgrind_control", *arguments, str(pid)],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def annotated(file: Path, functions: int, operations: int) -> str:
    """The instructions of all, and of the functions that have most, for one operation."""
    command = ["callgrind_annotate", "--auto=no", "--threshold=100", str(file)]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    lines = []
    for line in text.splitlines():
        count, _, name = line.strip().partition(" (")
        if name and count.replace(",", "").isdigit():
            instructions = int(count.replace(",", "")) / operations
            lines.append(f"{instructions:10.1f}  {name.partition(')')[2].strip()}")
    if not lines:
        raise BenchError("valgrind counted nothing")
    return "\n".join(lines[: functions + 1])


def of_server(name: str, mode: str, load: Load, functions: int) -> str:
    """What a server of that loop needs for an operation of the load."""
    with tempfile.TemporaryDirectory(prefix="instructions-") as folder:
        file = Path(folder) / "counted"
        command = callgrind(file, server_command(name, mode, ANY_PORT))
        with Child(command) as server:
            address = server.read_answer()["address"]
            load(address, server.pid, WARMUP_S)
            control(server.pid, "--instr=on")
            operations = load(address, server.pid, COUNTED_S)
            control(server.pid, "--instr=off")
            control(server.pid, "--dump")
        dumped = max(Path(folder).iterdir(), key=lambda path: path.stat().st_size)
        return annotated(dumped, functions, operations)


def of_body(name: str, title: str, functions: int) -> str:
    """What a loop needs for an operation of one of bench/bodies.py or bench/extras.py."""
    with tempfile.TemporaryDirectory(prefix="instructions-") as folder:
        file = Path(folder) / "counted"
        body = python_command("bench.instructions", BODY_ARGUMENT, name, title)
        subprocess.run(callgrind(file, body), check=True, stderr=subprocess.DEVNULL)
        return annotated(file, functions, ALL_BODIES[title].count)


def run_body(name: str, title: str) -> None:
    """Inside valgrind: the body twice, and counted the second time."""
    loop = loops.new_event_loop(name)
    body = ALL_BODIES[title]
    try:
        loop.run_until_complete(body.run(body.count))
        control(os.getpid(), "--instr=on")
        loop.run_until_complete(body.run(body.count))
        control(os.getpid(), "--instr=off")
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()


def echo_load(options: argparse.Namespace) -> Load:
    def load(address: Address, pid: int, seconds: float) -> int:
        plan = LoadPlan(options.connections, options.size, warmup_s=0.001, duration_s=seconds)
        return run_load(address, plan, pid, None).operations

    return load


def churn_load(options: argparse.Namespace) -> Load:
    def load(address: Address, pid: int, seconds: float) -> int:
        plan = ChurnPlan(options.connections, warmup_s=0.001, duration_s=seconds)
        return run_churn(address, plan, pid, None).operations

    return load


LOADS = {"echo": echo_load, "churn": churn_load}


def parser() -> argparse.ArgumentParser:
    summary, _, rest = (__doc__ or "").partition("\n")
    options = argparse.ArgumentParser(
        "bench.instructions",
        description=summary,
        epilog=rest,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = options.add_argument
    add(
        "what", nargs="+", choices=[*LOADS, *ALL_BODIES], metavar="WHAT", help="echo, churn, a body"
    )
    add("--loops", default="uringloop,uringloop-epoll,uvloop")
    add("--mode", default="protocol", help="of echo and churn: protocol, streams, sock, ...")
    add("--connections", type=int, default=10)
    add("--size", type=int, default=1024, help="bytes of a message of echo")
    add("--functions", type=int, default=0, help="show so many functions too")
    return options


def main(arguments: Sequence[str]) -> int:
    if arguments[:1] == [BODY_ARGUMENT]:
        run_body(*arguments[1:])
        return 0
    options = parser().parse_args(arguments)
    for what in options.what:
        for name in options.loops.split(","):
            print(f"{what}, {name}: instructions for one operation", flush=True)
            try:
                if what in LOADS:
                    print(of_server(name, options.mode, LOADS[what](options), options.functions))
                else:
                    print(of_body(name, what, options.functions))
            except (BenchError, MissingError, OSError, subprocess.CalledProcessError) as error:
                print(f"bench.instructions: {error}", file=sys.stderr)
                return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
