"""Files of text: what uringloop.open() gives for a mode without "b".

Decoding is the standard library's (text_format.py); here is what was decoded and not yet handed
over, and the bytes it came from, out of which tell() finds a position. As in io.TextIOWrapper,
a write after a read goes to where the last piece that was read ended: seek() comes between.
"""

from __future__ import annotations

import io
import operator
import os
from typing import Any, NamedTuple

from uringloop.async_files.binary import BinaryFile
from uringloop.async_files.buffer import DEFAULT_BYTES, Buffer
from uringloop.async_files.file_base import FileBase, size_of
from uringloop.async_files.modes import Mode
from uringloop.async_files.text_format import TextFormat, TextPosition, position_within


class _Piece(NamedTuple):
    """Bytes that were decoded at once.

    end         where they end in the file
    flags       the decoder's, before them
    data        with those before that the decoder had kept back
    characters  how many they gave
    """

    end: int
    flags: int
    data: bytes
    characters: int


class TextFile(FileBase[str]):
    """A file of text; the methods are those of io.TextIOWrapper, as coroutines."""

    def __init__(self, buffer: Buffer, mode: Mode, text: TextFormat, by_lines: bool) -> None:
        super().__init__(buffer, mode)
        self._format = text
        self._by_lines = by_lines
        self._decoder: Any = text.new_decoder() if mode.is_readable else None
        self._encoder: Any = text.new_encoder() if mode.is_writable else None
        # Where both are done, a write goes behind a piece of the builtin's size.
        self._chunk_bytes = text.chunk_bytes if mode.is_updating else DEFAULT_BYTES
        self._forget_decoded()
        if self._encoder is not None and buffer.is_seekable and buffer.tell():
            self._encoder.setstate(0)

    def _forget_decoded(self) -> None:
        # What was decoded: [_used:] is not handed over yet.
        self._decoded = ""
        self._used = 0
        # What it came from, in order.
        self._pieces: list[_Piece] = []

    @property
    def encoding(self) -> str:
        return self._format.encoding

    @property
    def errors(self) -> str:
        return self._format.errors

    @property
    def newlines(self) -> Any:
        """The kinds of newline that were met; None for none, or where they are not looked for."""
        return getattr(self._decoder, "newlines", None)

    @property
    def line_buffering(self) -> bool:
        return self._by_lines

    @property
    def buffer(self) -> BinaryFile:
        """The same file as one of bytes. What was decoded already is not in it."""
        return BinaryFile(self._buffer, self._mode)

    async def readable(self) -> bool:
        self._check_open()
        return self._mode.is_readable

    async def read(self, size: int | None = -1, /) -> str:
        """`size` characters, fewer at the end of the file only; all that is left without one."""
        self._check_readable()
        wanted = size_of(size)
        async with self._buffer:
            if wanted < 0:
                return await self._read_all()
            while (missing := wanted - self._left()) > 0:
                if not await self._read_chunk(missing):
                    break
            return self._take(wanted)

    async def _read_all(self) -> str:
        data = await self._buffer.read_all()
        last: str = self._decoder.decode(data, final=True)
        text = self._decoded[self._used :] + last
        self._forget_decoded()
        return text

    async def write(self, text: str, /) -> int:
        """Takes all of the text, and answers how many characters that are."""
        self._check_writable()
        async with self._buffer:
            return await self._write(text)

    async def tell(self) -> int:
        """A number that seek() takes back here."""
        self._check_seekable()
        async with self._buffer as buffer:
            await buffer.flush()
            return self._position().as_number() if self._pieces else buffer.tell()

    def _position(self) -> TextPosition:
        """Where the next character is."""
        used = self._used
        for piece in self._pieces:
            if used <= piece.characters:
                break
            used -= piece.characters
        begin = TextPosition(piece.end - len(piece.data), piece.flags)
        return position_within(self._decoder, begin, piece.data, used) if used else begin

    async def seek(self, cookie: int, whence: int = os.SEEK_SET, /) -> int:
        """To a number from tell(), or 0 from the beginning, here (whence 1) or the end (2)."""
        self._check_seekable()
        number = operator.index(cookie)
        if whence == os.SEEK_SET:
            if number < 0:
                raise ValueError(f"negative seek position {number}")
            return await self._seek_to(TextPosition.of_number(number))
        if whence not in (os.SEEK_CUR, os.SEEK_END):
            raise ValueError(f"invalid whence ({whence}, should be 0, 1 or 2)")
        if number:
            relative = "cur" if whence == os.SEEK_CUR else "end"
            raise io.UnsupportedOperation(f"can't do nonzero {relative}-relative seeks")
        if whence == os.SEEK_CUR:
            return await self._seek_to(TextPosition.of_number(await self.tell()))
        async with self._buffer as buffer:
            position = await buffer.seek(0, os.SEEK_END)
            self._start_at(TextPosition(position))
            if self._decoder is not None:
                self._decoder.reset()
        return position

    async def _seek_to(self, position: TextPosition) -> int:
        async with self._buffer as buffer:
            await buffer.seek(position.offset, os.SEEK_SET)
            self._start_at(position)
            # No more bytes than it takes: truncate() cuts behind them, as the builtin's does.
            while self._left() < position.skip:
                if not await self._decode_next(1):
                    break
            if self._left() < position.skip:
                raise OSError("can't restore logical file position")
            self._used = position.skip
        return position.as_number()

    def _start_at(self, position: TextPosition) -> None:
        """The buffer is there: so are decoder and encoder now."""
        is_start = not position.offset and not position.flags
        self._forget_decoded()
        if self._decoder is not None:
            if is_start:
                self._decoder.reset()
            else:
                self._decoder.setstate((b"", position.flags))
        if self._encoder is not None:
            if is_start:
                self._encoder.reset()
            else:
                self._encoder.setstate(0)

    # -- characters -------------------------------------------------------------------

    def _left(self) -> int:
        """Characters that are here and not handed over yet."""
        return len(self._decoded) - self._used

    def _take(self, size: int) -> str:
        begin = self._used
        text = self._decoded[begin : begin + size]
        self._used += len(text)
        return text

    async def _read_chunk(self, hint: int) -> bool:
        """Decodes one more piece of about `hint` bytes; False: that was the end of the file."""
        return await self._decode_next(max(self._chunk_bytes, hint))

    async def _decode_next(self, size: int) -> bool:
        """Decodes at most `size` bytes more; False: that was the end of the file."""
        data = await self._buffer.read_once(size)
        left, flags = self._decoder.getstate()
        text = self._decoder.decode(data, final=not data)
        self._drop_used()
        self._pieces.append(_Piece(self._buffer.offset, flags, left + data, len(text)))
        self._decoded += text
        return bool(data or text)

    def _drop_used(self) -> None:
        """Forgets pieces of which all characters were handed over."""
        while self._pieces and self._pieces[0].characters <= self._used:
            count = self._pieces.pop(0).characters
            self._decoded = self._decoded[count:]
            self._used -= count

    def _take_line(self) -> str | None:
        end = self._format.line_end(self._decoded, self._used)
        return None if end < 0 else self._take(end - self._used)

    async def _read_line(self, limit: int) -> str:
        looked = 0
        is_more = True
        while True:
            end = self._format.line_end(self._decoded, self._used + looked)
            size = end - self._used if end >= 0 else self._left()
            if 0 <= limit <= size:
                return self._take(limit)
            if end >= 0:
                return self._take(size)
            if not is_more:
                last = self._take(size)
                self._forget_decoded()
                return last
            looked = max(0, size - self._format.newline_overlap())
            is_more = await self._read_chunk(size)

    async def _write(self, text: Any) -> int:
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        state = self._encoder.getstate()
        data = self._encoder.encode(self._format.with_newlines(text))
        if not self._buffer.has_room(len(data)):
            try:
                await self._buffer.flush()
            except BaseException:
                self._encoder.setstate(state)  # nothing was taken
                raise
        is_due = self._buffer.put(data)
        self._forget_decoded()
        if self._decoder is not None:
            self._decoder.reset()
        if is_due or (self._by_lines and ("\n" in text or "\r" in text)):
            await self._buffer.flush()
        return len(text)
