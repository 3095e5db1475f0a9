"""CPython's asyncio tests on our loops, one class each: `test_events_TimerTests_io_uring`.

Row 15: users' own sockets are the subject of its test_sock_lowlevel.
"""

from __future__ import annotations

from .adapters import classes_under_test

for _loop_id in ("io_uring", "epoll"):
    for _case in classes_under_test(_loop_id):
        globals()[_case.__name__] = _case
