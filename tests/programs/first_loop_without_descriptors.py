"""A process whose first loop fails for want of descriptors, and whose second does not."""

import errno
import os
import resource

import uringloop

resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
taken = []
try:
    while True:
        taken.append(os.dup(2))
except OSError as error:
    assert error.errno == errno.EMFILE
try:
    uringloop.new_event_loop()
except OSError as error:
    assert error.errno == errno.EMFILE, error
    print("refused")
for fd in taken:
    os.close(fd)
loop = uringloop.new_event_loop()
print(loop.backend)
loop.close()
