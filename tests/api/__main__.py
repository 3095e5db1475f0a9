"""Writes or checks the table of the asyncio API.

python -m tests.api --write docs/api.md   runs all checks and writes the table
python -m tests.api --check docs/api.md   says in what the file is out of date; status 1 if it is
"""

from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path

from tests.api import document


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.api", description=__doc__)
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--write", metavar="FILE", type=Path)
    action.add_argument("--check", metavar="FILE", type=Path)
    arguments = parser.parse_args()
    warnings.simplefilter("error")
    return _write(arguments.write) if arguments.write else _check(arguments.check)


def _write(path: Path) -> int:
    if not document.is_newest_python():
        print("this Python lacks a part of the API: use the newest one", file=sys.stderr)
        return 1
    path.parent.mkdir(exist_ok=True)
    path.write_text(document.render(), encoding="utf-8")
    return 0


def _check(path: Path) -> int:
    found = document.outdated(path.read_text(encoding="utf-8"), document.render())
    for each in found:
        print(each)
    return 1 if found else 0


sys.exit(main())
