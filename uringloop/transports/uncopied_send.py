"""A send out of the caller's memory: who keeps that memory, and for how long.

The stream goes on with its next send as soon as this one's bytes are with the socket. The memory is
the kernel's until its second answer: over TCP, until the peer has acknowledged the bytes.
"""

from __future__ import annotations

from typing import Any

from uringloop.driver.in_flight import Operation

# What the kernel still had when its loop was closed. It goes on to send from there, and tells
# nobody any more when it is done; given back, the memory would be sent with what others write.
_kept_for_good: list[Any] = []


class UncopiedSend(Operation):
    """One SEND with UL_ZERO_COPY.

    transport   told uncopied_sent(result) when its next send may begin
    memory      what the command names
    """

    def __init__(self, transport: Any, memory: Any) -> None:
        self._transport = transport
        self._memory = memory

    def completed(self, rings: Any, opcode: int, result: int, more: bool) -> None:
        # The second answer is for the table of operations alone, which then lets go of this.
        transport = self._transport
        if transport is not None:
            self._transport = None
            transport.uncopied_sent(result)

    def abandoned(self) -> None:
        transport = self._transport
        self._transport = None
        _kept_for_good.append(self._memory)
        if transport is not None:
            transport.abandoned()
