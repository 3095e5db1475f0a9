"""A program that forgets a loop with a signal handler until the interpreter ends.

What Python complains of then goes to stdout: it is what is asked for.
"""

import os
import signal
import sys
import warnings

from loops import make_loop

os.dup2(1, 2)
warnings.simplefilter("always")
loop = make_loop(sys.argv[1])
loop.add_signal_handler(signal.SIGUSR1, print)
