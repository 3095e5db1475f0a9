"""How much the tests that take long do: little, or all of it with TESTS_EXTENT=all.

`./check --all` sets it.
"""

from __future__ import annotations

import os

IS_LONG = os.environ.get("TESTS_EXTENT") == "all"
