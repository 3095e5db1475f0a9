"""One of everything in each of several threads at once: `smoke_in_threads.py KIND`."""

import sys
from concurrent.futures import ThreadPoolExecutor

from loops import make_loop
from smoke import limited_smoke

THREADS = 4


def use_a_loop() -> str:
    loop = make_loop(sys.argv[1])
    try:
        loop.run_until_complete(limited_smoke())
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()
    return "smoke passed"


with ThreadPoolExecutor(THREADS) as threads:
    for result in [threads.submit(use_a_loop) for _ in range(THREADS)]:
        print(result.result())
