"""The contract of engine.h as tests: the same ones for each engine.

They drive the built module directly, without a loop above it.
"""
