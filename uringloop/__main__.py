"""The entry to the command line: `python -m uringloop`, and the script `uringloop`.

The commands are in command_line.py, which needs click. `doctor` also runs without it.
"""

from __future__ import annotations

import sys

from uringloop.doctor import doctor

_USAGE = 2  # click's exit status for what it cannot understand


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line; answers the exit status."""
    if arguments is None:
        arguments = sys.argv[1:]
    try:
        from uringloop.command_line import run
    except ModuleNotFoundError as error:
        if error.name != "click":
            raise
        if arguments == ["doctor"]:
            return doctor()
        print("uringloop: this needs click: pip install 'uringloop[cli]'", file=sys.stderr)
        return _USAGE
    return run(arguments)


if __name__ == "__main__":
    sys.exit(main())
