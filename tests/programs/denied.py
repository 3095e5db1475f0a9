"""A process that may not use one system call: `denied.py NUMBER ERRNO [ARGUMENT VALUE]`.

With an argument's index and value, only calls with that are denied.
"""

import sys

from seccomp_filter import Rule, restrict

number, answer, *condition = map(int, sys.argv[1:])
if condition:
    restrict([Rule(number, answer, argument=condition[0], value=condition[1])])
else:
    restrict([Rule(number, answer)])

import uringloop  # noqa: E402

try:
    loop = uringloop.new_event_loop()
except RuntimeError as error:
    print(type(error).__name__, error, sep="\n")
    sys.exit(0)
loop.call_soon(loop.stop)
loop.run_forever()
print(loop.backend, loop.backend_reason, ",".join(loop.driver_state().features), sep="\n")
loop.close()

from smoke import run  # noqa: E402

run()
