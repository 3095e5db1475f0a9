"""A program that imports uringloop in a subinterpreter: `subinterpreter.py WHEN`.

WHEN is "first", or "later": when the main interpreter has imported it, and has a loop.
"""

import sys

if sys.version_info >= (3, 13):
    import _interpreters as interpreters
else:
    import _xxsubinterpreters as interpreters

IMPORT = f"""
import sys
sys.path[:0] = {sys.path}
try:
    import uringloop
except ImportError as error:
    print(error)
"""

loop = None
if sys.argv[1] == "later":
    import uringloop

    loop = uringloop.new_event_loop()
for _ in range(2):
    number = interpreters.create()
    assert interpreters.run_string(number, IMPORT) is None
    interpreters.destroy(number)
if loop is not None:
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.close()
import uringloop  # noqa: E402

print(uringloop.__name__)
