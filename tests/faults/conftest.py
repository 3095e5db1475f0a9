"""Without the border there is nothing to test here; see the package."""

from __future__ import annotations

from uringloop.driver.binding import lib

collect_ignore_glob = [] if hasattr(lib, "ub_begin") else ["test_*.py"]
