"""CPython's own asyncio tests, run on our loops.

`test.test_asyncio` is installed with each Python, so its tests are of the version that
runs. `loops` names the loops under test, `adapters` turns a class of CPython's into one
per loop, `left_out` lists what cannot be asked of another loop and why, `test_cpython` is
what pytest collects, `test_left_out` keeps the list true.

No test of our own behaviour lives here.
"""
