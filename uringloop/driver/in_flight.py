"""Operations that the kernel has not answered yet.

The engine is given a token, never a Python object. This table turns the token back into
its operation, and so keeps it, and whatever memory it owns, alive. An entry leaves only
with the operation's final event: cancelling a Future frees nothing.

Compiled by Cython together with in_flight.pxd. Imports nothing of ours but the shape of
an event.
"""

from __future__ import annotations

from array import array
from typing import Any

_INDEX_MASK = 0xFFFFFFFF
_NO_SLOT = _INDEX_MASK
_FIRST_GENERATION = 1 << 32
_LAST_GENERATION = 0xFFFFFF << 32
_SLOTS_MIN = 64


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

    def flush(self) -> None:
        """Stage what was collected since the last turn: the core was asked for this call."""
        raise NotImplementedError

    def abandoned(self) -> None:
        """The loop was closed with this in flight: no event will come. Let go of everything."""


class InFlight:
    """The table from token to operation. Slots are used again, with another generation.

    A token is its slot's index below and the slot's generation above. `_links` has a word for
    each slot: of one in use its token, of a free one the generation that it is used with next,
    and below that the next free slot. So nothing is allocated for an operation.
    """

    def __init__(self) -> None:
        self._operations: list[Any] = []
        self._links = array("Q")
        self._first_free = _NO_SLOT
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, operation: Operation) -> int:
        """Keeps `operation` and answers its token, which is never 0."""
        if self._first_free == _NO_SLOT:
            self._add_slots()
        index = self._first_free
        link = self._links[index]
        self._first_free = link & _INDEX_MASK
        token: int = (link & ~_INDEX_MASK) | index
        self._links[index] = token
        self._operations[index] = operation
        self._count += 1
        return token

    def _add_slots(self) -> None:
        """Doubles the table; the new slots are free, the first of them first."""
        begin = len(self._operations)
        end = 2 * begin or _SLOTS_MIN
        links = array("Q", self._links)
        links.extend(_FIRST_GENERATION | (index + 1) for index in range(begin, end - 1))
        links.append(_FIRST_GENERATION | _NO_SLOT)
        self._links = links
        self._operations.extend([None] * (end - begin))
        self._first_free = begin

    def find(self, token: int) -> Any:
        """The operation in use under `token`; None when it was given back."""
        return self._operations[token & _INDEX_MASK]

    def release(self, token: int) -> None:
        """Forgets the operation: its final event is here."""
        index = token & _INDEX_MASK
        generation = (token & ~_INDEX_MASK) + _FIRST_GENERATION
        if generation > _LAST_GENERATION:
            generation = _FIRST_GENERATION  # 0 is left out, so that no token is 0
        self._links[index] = generation | self._first_free
        self._first_free = index
        self._operations[index] = None
        self._count -= 1

    def forget_all(self) -> None:
        """Gives all tokens back: their engine is gone, and no event will come."""
        for index, operation in enumerate(self._operations):
            if operation is not None:
                self.release(self._links[index])

    def operations(self) -> list[Any]:
        """All operations that wait for an answer; one may stand there twice."""
        return [operation for operation in self._operations if operation is not None]
