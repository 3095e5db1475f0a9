"""A process as in a container with its runtime's default seccomp profile: docker or podman."""

import sys

from container_profiles import contain

contain(sys.argv[1])

import uringloop  # noqa: E402

loop = uringloop.new_event_loop()
print(loop.backend, loop.backend_reason, sep="\n")
loop.close()

from smoke import run  # noqa: E402

run()
