"""The asyncio API as a table: each method and parameter, proven by live checks.

`surface` finds the API in the running Python by introspection, so that nothing is
forgotten. `checks` has one small program per method and parameter, grouped by subject; each
returns what it observed. `observing` runs one on a loop of asyncio's or ours, `table` sets the
answers side by side, and `python -m tests.api --write docs/api.md` writes them down.
tests/test_api_table.py asserts that each loop observes what asyncio's does.

Checks of behaviour in depth are elsewhere in tests/; here the question is only whether a method
and a parameter do the same.
"""
