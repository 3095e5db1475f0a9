"""A soak: mixed load for a long time, during which nothing may fail, get lost, or grow.

    python -m tests.soak --engine io_uring --minutes 30

`ground` is what stands all the time, `loads` is what is done on it round after round,
`samples` is what is measured between two rounds and when that counts as growth, `soaking`
puts them together. A round is a fixed amount of work, not of time, and measured is when all of
it is over: then what is open, in flight or held must be exactly what it was after the first
round, so that a machine that is busy with other things changes nothing.
"""
