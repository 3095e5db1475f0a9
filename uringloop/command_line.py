"""The commands of `uringloop`, by click; errors are one line each. See also proxy/command.py.

click reads the command line and nothing else: a program of somebody else's (`run`) is started
when it has returned.
"""

from __future__ import annotations

import sys

import click

from uringloop import __version__
from uringloop.colours import coloured
from uringloop.doctor import doctor
from uringloop.program import Program, ProgramError
from uringloop.proxy.command import proxy
from uringloop.proxy.errors import ProxyError

_INTERRUPTED = 130  # as a shell says it: 128 and SIGINT
_WIDTH = {"max_content_width": 100}

_EXAMPLES = """\b
Examples:
  uringloop doctor
  uringloop run server.py --port 8080
  uringloop proxy :8080 127.0.0.1:9000
  uringloop proxy --help

\b
Completion, for this shell:
  bash   eval "$(_URINGLOOP_COMPLETE=bash_source uringloop)"
  zsh    eval "$(_URINGLOOP_COMPLETE=zsh_source uringloop)"
  fish   _URINGLOOP_COMPLETE=fish_source uringloop | source

Exit status: 2 wrong usage, 130 interrupted; each command's --help lists its own.
"""

_DOCTOR_EXAMPLES = """\b
Examples:
  uringloop doctor
  URINGLOOP_BACKEND=io_uring uringloop doctor

Exit status: 0 io_uring is in use and nothing needs mending, 1 anything else.
"""

_RUN_EXAMPLES = """\b
Examples:
  uringloop run server.py --port 8080
  uringloop run -m package.server
  URINGLOOP_BACKEND=epoll uringloop run server.py

Exit status: the program's own, as `python TARGET` gives it; 2 if TARGET cannot be opened, 1 if
there is no such module.
"""


@click.group(name="uringloop", no_args_is_help=False, epilog=_EXAMPLES, context_settings={**_WIDTH})
@click.version_option(__version__, message="%(prog)s %(version)s")
def commands() -> None:
    """An asyncio event loop on io_uring, and a proxy that runs on it."""


@commands.command("doctor", epilog=_DOCTOR_EXAMPLES, context_settings=_WIDTH)
def _doctor() -> int:
    """Say which engine a loop would use here, and why.

    What would mend it is said, too.
    """
    return doctor()


@commands.command(
    "run",
    epilog=_RUN_EXAMPLES,
    # What stands behind TARGET is the program's.
    context_settings={"allow_interspersed_args": False, **_WIDTH},
)
@click.option("-m", "is_module", is_flag=True, help="TARGET is the name of a module.")
@click.argument("target", type=click.Path())
@click.argument(
    "arguments", nargs=-1, type=click.UNPROCESSED, metavar="[ARGUMENTS...]", required=False
)
def _run(target: str, arguments: tuple[str, ...], is_module: bool) -> Program:
    """Run any asyncio program on uringloop, unchanged.

    TARGET is a script, or a folder or zip file with a __main__.py. asyncio.run(),
    asyncio.Runner and asyncio.new_event_loop() make uringloop's loops in it, unless it asks
    for others itself; all else is as with `python TARGET ARGUMENTS...`.
    """
    return Program(target, arguments, is_module)


commands.add_command(proxy)


def run(arguments: list[str]) -> int:
    """Runs one command; answers its exit status."""
    try:
        outcome = commands.main(arguments, prog_name="uringloop", standalone_mode=False)
    except click.ClickException as error:
        return _fail(error.format_message(), error.exit_code)
    except ProxyError as error:
        return _fail(str(error), error.exit_status)
    except click.Abort:
        return _INTERRUPTED
    if isinstance(outcome, Program):
        return _run_program(outcome)
    return int(outcome or 0)


def _run_program(program: Program) -> int:
    """0 after its last line; whatever else ends it goes on to the interpreter."""
    try:
        program.run()
    except ProgramError as error:
        return _fail(str(error), error.exit_status)
    return 0


def _fail(message: str, status: int) -> int:
    name = coloured("uringloop:", "error", sys.stderr)
    print(f"{name} {' '.join(message.split())}", file=sys.stderr)
    return status
