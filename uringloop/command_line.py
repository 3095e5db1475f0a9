"""The commands of `uringloop`, by click; errors are one line each. See also proxy/command.py."""

from __future__ import annotations

import sys

import click

from uringloop import __version__
from uringloop.doctor import doctor
from uringloop.proxy.command import proxy
from uringloop.proxy.errors import ProxyError

_INTERRUPTED = 130  # as a shell says it: 128 and SIGINT


@click.group(name="uringloop", no_args_is_help=False)
@click.version_option(__version__, message="%(prog)s %(version)s")
def commands() -> None:
    """An asyncio event loop on io_uring, and a proxy that runs on it."""


@commands.command("doctor")
def _doctor() -> int:
    """Say which engine a loop would use here, why, and what would mend it.

    Exit status 0 when io_uring is in use and nothing needs mending, else 1.
    """
    return doctor()


commands.add_command(proxy)


def run(arguments: list[str]) -> int:
    """Runs one command; answers its exit status."""
    try:
        status = commands.main(arguments, prog_name="uringloop", standalone_mode=False)
    except click.ClickException as error:
        return _fail(error.format_message(), error.exit_code)
    except ProxyError as error:
        return _fail(str(error), error.exit_status)
    except click.Abort:
        return _INTERRUPTED
    return int(status or 0)


def _fail(message: str, status: int) -> int:
    print(f"uringloop: {' '.join(message.split())}", file=sys.stderr)
    return status
