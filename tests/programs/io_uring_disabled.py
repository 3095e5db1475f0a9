"""A process that reads VALUE in kernel.io_uring_disabled, on a kernel that denies io_uring:
`io_uring_disabled.py VALUE`. Where it may not have mounts of its own, it says so and ends."""

import errno
import sys
import tempfile

from namespaces import cover, have_own_mounts
from seccomp_filter import IO_URING_SETUP, deny

SYSCTL = "/proc/sys/kernel/io_uring_disabled"

try:
    with tempfile.NamedTemporaryFile("w") as file:
        file.write(sys.argv[1] + "\n")
        file.flush()
        have_own_mounts()
        cover(SYSCTL, file.name)
except OSError as error:
    print("no mount:", error)
    sys.exit(0)
deny({IO_URING_SETUP: errno.EPERM})

import uringloop  # noqa: E402

found = uringloop.probe()
print(found.io_uring_disabled, found.backend, found.reason, sep="\n")

from smoke import run  # noqa: E402

run()
