"""Where uringloop means to differ from stdlib asyncio, each with its reason.

A test marked `difference("name")` runs on our loops alone. Everything else runs on
asyncio too, and must pass there.
"""

DIFFERENCES: dict[str, str] = {
    "refused_run_forever": (
        "CPython 3.13.0's run_forever() forgets that the loop is running when it refuses to "
        "run it again; ours changes nothing, as the other versions do"
    ),
    "nan_delay": (
        "asyncio hands a NaN delay to its selector, and the ValueError from there ends "
        "run_forever(); ours keeps running"
    ),
}
