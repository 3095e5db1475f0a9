"""Becomes another program, which ends with the benchmark however that ends.

    python -m bench.tethered PROGRAM ARGUMENT ...

For programs that do not ask the kernel for it themselves. The process keeps its id, and may
have as many open files as this user may.
"""

from __future__ import annotations

import os
import sys

from bench.children import die_with_parent
from bench.server import raise_descriptor_limit


def main(arguments: list[str]) -> None:
    die_with_parent()
    raise_descriptor_limit()
    os.execv(arguments[0], arguments)


if __name__ == "__main__":
    main(sys.argv[1:])
