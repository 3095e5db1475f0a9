"""Faults at the border between the engines and the kernel, for the scenarios of tests/simulator.

An engine that is built with URINGLOOP_FAULTS=1 makes each of its system calls through the C files
here (border*.c; `border.py` is their face): they move less, interrupt, refuse, fail, let cancels
lose and completions come late, as a seed decides. `kernel.py` gives the scenarios real sockets and
knows what went wrong with which; `driver.py` has the engine under tiny queues and a clock that
does not wait; `world.py` runs a scenario and audits what is left.

./check builds such an engine together with the sanitizers, and runs these tests on it. On another
engine they are not collected: there is nothing that they could do.
"""
