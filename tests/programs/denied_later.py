"""A process that loses io_uring while it has a loop on it: an error is right, a hang is not."""

import asyncio
import errno

from echo_and_bulk import main
from seccomp_filter import deny

import uringloop

loop = uringloop.new_event_loop(backend="io_uring")
deny(dict.fromkeys((425, 426, 427), errno.EPERM))
loop.call_later(0.01, loop.stop)
try:
    loop.run_forever()
except OSError as error:
    assert error.errno == errno.EPERM
    print("refused")
else:
    loop.run_until_complete(asyncio.wait_for(main(), 30))
loop.close()
