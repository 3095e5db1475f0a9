"""How a text file is written in bytes, and how its positions are numbers.

Encodings and newlines are the standard library's: codecs' incremental decoders and encoders,
and io.IncrementalNewlineDecoder. The arguments are checked by making an io.TextIOWrapper.

A position of a text file is a number that only seek() understands. Mostly it is an offset in
bytes. Where a decoder has a state there (a byte-order mark seen, a shift sequence, a carriage
return that may be half of a newline), the state is in the bits above; and where a position is
within what decodes together, so many characters are skipped after it.
"""

from __future__ import annotations

import codecs
import io
from typing import Any, NamedTuple

_OFFSET_BITS = 64
_FLAGS_BITS = 64


class TextPosition(NamedTuple):
    """Where to go on: at byte `offset`, the decoder being in state `flags` with no byte left
    over, and `skip` characters later."""

    offset: int
    flags: int = 0
    skip: int = 0

    def as_number(self) -> int:
        return self.offset | self.flags << _OFFSET_BITS | self.skip << _OFFSET_BITS + _FLAGS_BITS

    @classmethod
    def of_number(cls, number: int) -> TextPosition:
        rest, offset = divmod(number, 1 << _OFFSET_BITS)
        skip, flags = divmod(rest, 1 << _FLAGS_BITS)
        return cls(offset, flags, skip)


class TextFormat:
    """Encoding, error handling and newlines of text.

    raises   LookupError, ValueError, TypeError, as the builtin open does
    """

    def __init__(self, encoding: str | None, errors: str | None, newline: str | None) -> None:
        trial = io.TextIOWrapper(io.BytesIO(), encoding, errors, newline)
        self.encoding = trial.encoding
        self.errors = trial.errors or "strict"
        self.newline = newline
        self.chunk_bytes: int = trial._CHUNK_SIZE  # type: ignore[attr-defined]

    def new_decoder(self) -> Any:
        decoder = codecs.getincrementaldecoder(self.encoding)(self.errors)
        if self.newline:
            return decoder
        return io.IncrementalNewlineDecoder(decoder, translate=self.newline is None)

    def new_encoder(self) -> Any:
        return codecs.getincrementalencoder(self.encoding)(self.errors)

    def with_newlines(self, text: str) -> str:
        """As it is to be encoded. The newline of this system is "\\n"."""
        return text.replace("\n", self.newline) if self.newline else text

    def line_end(self, text: str, start: int) -> int:
        """Behind the first newline from `start` on; -1 where there is none."""
        if self.newline == "":
            return _universal_line_end(text, start)
        newline = self.newline or "\n"
        found = text.find(newline, start)
        return found if found < 0 else found + len(newline)

    def newline_overlap(self) -> int:
        """How many characters at the end of a text may be the beginning of a newline."""
        return len(self.newline) - 1 if self.newline else 0


def _universal_line_end(text: str, start: int) -> int:
    """Of "\\n", "\\r" and "\\r\\n". The decoder keeps back a "\\r" until it knows what follows."""
    feed = text.find("\n", start)
    carriage = text.find("\r", start, feed if feed >= 0 else len(text))
    if carriage < 0:
        return feed + 1 if feed >= 0 else -1
    return feed + 1 if feed == carriage + 1 else carriage + 1


def position_within(decoder: Any, begin: TextPosition, data: bytes, count: int) -> TextPosition:
    """The position `count` characters into what `data`, read at `begin`, decodes to.

    The decoder is as before afterwards.
    """
    state = decoder.getstate()
    try:
        return _position_within(decoder, begin, data, count)
    finally:
        decoder.setstate(state)


def _position_within(decoder: Any, begin: TextPosition, data: bytes, count: int) -> TextPosition:
    def decoded(size: int) -> tuple[int, bytes, int]:
        """Of so many bytes: the characters, and the state that they leave."""
        decoder.setstate((b"", begin.flags))
        characters = len(decoder.decode(data[:size]))
        left, flags = decoder.getstate()
        return characters, left, flags

    # The least number of bytes that give so many characters: more bytes never give fewer.
    low, high = 0, len(data)
    while low < high:
        middle = (low + high) // 2
        if decoded(middle)[0] < count:
            low = middle + 1
        else:
            high = middle
    # From there back to where nothing is left over in the decoder.
    characters, left, flags = decoded(low)
    while low and (left or characters > count):
        low -= 1
        characters, left, flags = decoded(low)
    if not low:
        characters, flags = 0, begin.flags
    return TextPosition(begin.offset + low, flags, count - characters)
