"""The third engine: a kernel made of Python, which does at once what a real one does in years.

`engine.py` answers engine.h's contract out of an in-memory kernel (`kernel.py`, `streams.py`,
`datagrams.py`) and writes its events into memory of engine.h's layout (`memory.py`), so that the
whole of uringloop runs on it, compiled or interpreted, behind a driver of the usual face
(`driver.py`). A seed decides everything (`chance.py`): the order of answers, how much is sent and
received at once, delays on a virtual clock, errors, who wins a cancel. `scenarios/` are small
programs with their own oracle; `world.py` runs one and audits what is left.

What is not simulated: descriptors. Each simulated socket stands on a real one, which Python's
socket objects cannot do without; nothing but its life (open, shut, closed) and what a program
sends past the engine is taken from there.
"""
