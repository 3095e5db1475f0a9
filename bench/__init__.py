"""Benchmarks: an echo benchmark over any event loops, a proxy demo, micro-benchmarks.

Each figure that the project publishes comes from a command in here. Not installed with
the package, and nothing of uringloop imports it.
"""
