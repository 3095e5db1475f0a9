"""A process that may not use one system call: `denied.py NUMBER ERRNO`."""

import sys

from seccomp_filter import deny

deny({int(sys.argv[1]): int(sys.argv[2])})

import uringloop  # noqa: E402

try:
    loop = uringloop.new_event_loop()
except RuntimeError as error:
    print(type(error).__name__, error, sep="\n")
    sys.exit(0)
print(loop.backend, loop.backend_reason, sep="\n")
loop.close()

from echo_and_bulk import run  # noqa: E402

run()
