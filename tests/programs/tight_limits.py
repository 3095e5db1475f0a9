"""A process with tight limits and 64 loops alive."""

import resource
import sys

LIMITS = {"nofile": (resource.RLIMIT_NOFILE, 1024), "memlock": (resource.RLIMIT_MEMLOCK, 0)}

limit, value = LIMITS[sys.argv[1]]
resource.setrlimit(limit, (value, value))

from echo_and_bulk import run  # noqa: E402

import uringloop  # noqa: E402

loops = [uringloop.new_event_loop() for _ in range(64)]
for loop in loops:
    loop.call_soon(loop.stop)
    loop.run_forever()
print(len(loops), "loops")
run()
for loop in loops:
    loop.close()
