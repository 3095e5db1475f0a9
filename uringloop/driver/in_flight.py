"""Operations that the kernel has not answered yet.

The engine is given a token, never a Python object. This table turns the token back into
its operation, and so keeps it, and whatever memory it owns, alive. An entry leaves only
with the operation's final event: cancelling a Future frees nothing.

Compiled by Cython together with in_flight.pxd. Imports nothing of ours but the shape of
an event.
"""

from __future__ import annotations

from typing import Any

_INDEX_BITS = 32
_INDEX_MASK = 0xFFFFFFFF
_GENERATION_MASK = 0xFFFFFF


class Operation:
    """Something that the engine answers. Owns the memory named in its command."""

    def completed(self, rings: Any, opcode: int, result: int, more: bool) -> None:
        """One event of this operation.

        rings    the Rings whose current event this is, for its address and bytes
        opcode   what was asked, as in the command
        result   as engine.h says for the opcode; negative: -errno
        more     False: this is the final event, the token is already given back
        raises   SystemExit and KeyboardInterrupt from users' code, and nothing else
        """
        raise NotImplementedError

    def abandoned(self) -> None:
        """The loop was closed with this in flight: no event will come. Let go of everything."""


class InFlight:
    """The table from token to operation. Slots are used again, with another generation."""

    def __init__(self) -> None:
        self._operations: list[Any] = []
        self._generations: list[int] = []
        self._free: list[int] = []
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, operation: Operation) -> int:
        """Keeps `operation` and answers its token, which is never 0."""
        free = self._free
        if free:
            index = free.pop()
            self._operations[index] = operation
        else:
            index = len(self._operations)
            self._operations.append(operation)
            self._generations.append(1)
        self._count += 1
        generation: int = self._generations[index]
        return (generation << _INDEX_BITS) | index

    def find(self, token: int) -> Any:
        """The operation in use under `token`; None when it was given back."""
        return self._operations[token & _INDEX_MASK]

    def release(self, token: int) -> None:
        """Forgets the operation: its final event is here."""
        index = token & _INDEX_MASK
        self._operations[index] = None
        generation: int = self._generations[index]
        # 0 is left out, so that no token is 0.
        self._generations[index] = (generation % _GENERATION_MASK) + 1
        self._free.append(index)
        self._count -= 1

    def forget_all(self) -> None:
        """Gives all tokens back: their engine is gone, and no event will come."""
        for index, operation in enumerate(self._operations):
            if operation is not None:
                self.release((self._generations[index] << _INDEX_BITS) | index)

    def operations(self) -> list[Any]:
        """All operations that wait for an answer; one may stand there twice."""
        return [operation for operation in self._operations if operation is not None]
