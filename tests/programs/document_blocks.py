"""Runs the Python blocks of a page, read as JSON from stdin, one after the other in one
namespace, as a reader would. Where a block awaits at its top level it is run on a loop."""

import ast
import inspect
import json
import sys

import uringloop

namespace: dict[str, object] = {"__name__": "__main__"}
for name, line, code in json.load(sys.stdin):
    # A traceback then names the page and the line in it.
    padded = "\n" * line + code
    compiled = compile(padded, name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    outcome = eval(compiled, namespace)
    if inspect.iscoroutine(outcome):
        uringloop.run(outcome)
print("all blocks ran")
