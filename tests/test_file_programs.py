"""Random programs on a file, run by the builtin open and by uringloop.open on equal files.

The builtin is the oracle: each operation must answer the same or fail with the same type of
exception, the position must be the same after each, and so must the content in the end.
"""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import inspect
import os
import tempfile
from pathlib import Path
from typing import Any

from extent import IS_LONG
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import uringloop

Operation = tuple[Any, ...]

BYTES_MODES = ("rb", "wb", "ab", "xb", "r+b", "w+b", "a+b", "x+b")
TEXT_MODES = ("r", "w", "a", "x", "r+", "w+", "a+")
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "latin-1", "shift_jis", "utf-7")
NEWLINES = (None, "", "\n", "\r", "\r\n")

PROGRAMS = settings(
    max_examples=400 if IS_LONG else 60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

small = st.integers(min_value=-1, max_value=40)
# The builtin answers readline(0) without a look at the mode.
limits = small.filter(bool)
offsets = st.integers(min_value=0, max_value=60)
content = st.binary(max_size=80).map(lambda data: data.replace(b"a", b"\n"))
# Longer than any buffer of the builtin's, so that both meet the end of theirs.
long_content = st.builds(lambda line, count: line * count, content, st.integers(1, 4000))
bytes_operations = st.one_of(
    st.tuples(st.just("read"), small),
    st.tuples(st.sampled_from(["readline", "readlines"]), limits),
    st.tuples(st.just("readinto"), offsets),
    st.tuples(st.just("write"), st.one_of(content, long_content)),
    st.tuples(st.just("writelines"), st.lists(content, max_size=3)),
    st.tuples(st.just("seek"), st.integers(-5, 60), st.integers(0, 3)),
    st.tuples(st.just("truncate"), st.one_of(st.none(), offsets)),
    st.sampled_from([("flush",), ("tell",), ("readall_lines",), ("read",)]),
)
# Where a carriage return may be half of a newline, seek() reads one byte more, and truncate() ends
# the file behind it.
CUT_BETWEEN_NEWLINES: list[Operation] = [("read", 3), ("seek", 0, 1), ("truncate", None)]
letters = st.text("ab\n\r é€あ", max_size=60)
text_operations = st.one_of(
    st.tuples(st.just("read"), small),
    st.tuples(st.sampled_from(["readline", "readlines"]), limits),
    st.tuples(st.just("write"), letters),
    st.tuples(st.just("writelines"), st.lists(letters, max_size=3)),
    st.tuples(st.just("seek_to_told"), st.integers(0, 5)),
    st.tuples(st.just("seek"), st.sampled_from([0, 0, -1, 3]), st.integers(0, 3)),
    st.tuples(st.just("truncate"), st.one_of(st.none(), offsets)),
    st.sampled_from([("flush",), ("tell",), ("readall_lines",), ("read",)]),
)


def is_text(file: Any) -> bool:
    return hasattr(file, "newlines")


def is_universal(mode: str, newline: str | None) -> bool:
    """Whether the file is read and changed with every kind of newline being one.

    Beside a carriage return the builtin is no oracle then: which byte it takes to be its position
    depends on how large its chunks are (the same program ends in other bytes with a _CHUNK_SIZE
    of 16), and that it has to read on there makes seek() fail where a file was cut meanwhile.
    """
    return "+" in mode and newline in (None, "")


def without_returns(thing: Any) -> Any:
    """The text, or the operations and texts in it, with no carriage return."""
    if isinstance(thing, str):
        return thing.replace("\r", "\n")
    if isinstance(thing, (list, tuple)):
        return type(thing)(without_returns(each) for each in thing)
    return thing


class Player:
    """Plays operations on one file, the builtin's or ours."""

    def __init__(self, file: Any) -> None:
        self.file = file
        self.told = [0]

    async def play(self, operation: Operation) -> Any:
        """What the operation answered, or what it raised."""
        name, *arguments = operation
        try:
            return await getattr(self, name, self._call)(*arguments, **self._named(name))
        except (OSError, ValueError, TypeError, LookupError) as error:
            return type(error), getattr(error, "errno", None)

    def _named(self, name: str) -> dict[str, str]:
        return {} if hasattr(self, name) else {"name": name}

    async def _call(self, *arguments: Any, name: str) -> Any:
        answer = getattr(self.file, name)(*arguments)
        return await answer if inspect.isawaitable(answer) else answer

    async def readinto(self, size: int) -> Any:
        target = bytearray(size)
        return await self._call(target, name="readinto"), target

    async def readall_lines(self) -> list[Any]:
        if hasattr(self.file, "__anext__"):
            return [line async for line in self.file]
        # The builtin's text cannot tell() once it was iterated.
        return list(iter(self.file.readline, "" if is_text(self.file) else b""))

    async def tell(self) -> str:
        """Where we are is a number that only seek() understands: what is read there counts."""
        self.told.append(await self._call(name="tell"))
        return "told"

    async def seek_to_told(self, index: int) -> str:
        await self._call(self.told[index % len(self.told)], name="seek")
        return "there"

    async def seek(self, offset: int, whence: int) -> Any:
        if is_text(self.file):
            await self._call(offset, whence, name="seek")
            return "there"
        return await self._call(offset, whence, name="seek")


async def play_all(ours: Any, theirs: Any, operations: list[Operation]) -> None:
    players = Player(ours), Player(theirs)
    for operation in operations:
        answers = [await player.play(operation) for player in players]
        assert answers[0] == answers[1], operation
        if is_text(theirs):
            # The builtin of 3.11 reads without a look at what is still to be written.
            assert await players[0].play(("flush",)) == await players[1].play(("flush",))
        else:
            assert await players[0].play(("seek", 0, 1)) == await players[1].play(("seek", 0, 1))


async def compare(mode: str, before: bytes, operations: list[Operation], **options: Any) -> None:
    """Plays the operations on two files that begin with `before`; both end the same."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, name) for name in ("ours", "theirs")]
        if "x" not in mode:
            for path in paths:
                path.write_bytes(before)
        theirs = builtins.open(paths[1], mode, **options)
        ours = await uringloop.open(paths[0], mode, **options)
        try:
            await play_all(ours, theirs, operations)
            assert await Player(ours).play(("close",)) == await Player(theirs).play(("close",))
        finally:
            with contextlib.suppress(OSError, ValueError):
                theirs.close()
            await ours.close()
        assert ours.closed and theirs.closed
        assert paths[0].read_bytes() == paths[1].read_bytes()


def test_a_file_of_bytes_does_what_the_builtin_does(loop: asyncio.AbstractEventLoop) -> None:
    @PROGRAMS
    @given(
        st.sampled_from(BYTES_MODES),
        st.sampled_from([-1, 2, 16, 8192]),
        st.one_of(content, long_content),
        st.lists(bytes_operations, max_size=12),
    )
    def run(mode: str, buffering: int, before: bytes, operations: list[Operation]) -> None:
        loop.run_until_complete(compare(mode, before, operations, buffering=buffering))

    run()


def test_a_file_without_a_buffer_does_what_the_builtin_does(
    loop: asyncio.AbstractEventLoop,
) -> None:
    @PROGRAMS
    @given(st.sampled_from(BYTES_MODES), content, st.lists(bytes_operations, max_size=12))
    def run(mode: str, before: bytes, operations: list[Operation]) -> None:
        loop.run_until_complete(compare(mode, before, operations, buffering=0))

    run()


def test_a_file_of_text_does_what_the_builtin_does(loop: asyncio.AbstractEventLoop) -> None:
    @PROGRAMS
    @given(
        st.sampled_from(TEXT_MODES),
        st.sampled_from(ENCODINGS),
        st.sampled_from(NEWLINES),
        st.one_of(
            letters, st.builds(lambda text, count: text * count, letters, st.integers(1, 999))
        ),
        st.lists(text_operations, max_size=12),
    )
    def run(
        mode: str, encoding: str, newline: str | None, before: str, operations: list[Operation]
    ) -> None:
        if is_universal(mode, newline):
            before, operations = without_returns(before), without_returns(operations)
        data = before.encode(encoding, "replace")
        options = {"encoding": encoding, "newline": newline, "errors": "replace"}
        loop.run_until_complete(compare(mode, data, operations, **options))

    run()


def test_text_is_cut_between_newlines_where_the_builtin_cuts_it(
    loop: asyncio.AbstractEventLoop,
) -> None:
    """Here the builtin's chunks make no difference; see is_universal()."""
    options = {"encoding": "utf-8", "newline": None}
    loop.run_until_complete(compare("r+", b"\r\r\raa", CUT_BETWEEN_NEWLINES, **options))


def test_text_that_is_not_what_it_says_fails_alike(loop: asyncio.AbstractEventLoop) -> None:
    @PROGRAMS
    @given(
        st.sampled_from(["strict", "ignore", "replace", "surrogateescape", "backslashreplace"]),
        st.sampled_from(["utf-8", "ascii", "utf-16"]),
        st.binary(max_size=60),
        st.sampled_from([("read", -1), ("read", 5), ("readall_lines",), ("readlines", 9)]),
    )
    def run(errors: str, encoding: str, before: bytes, operation: Operation) -> None:
        program = [operation, ("read", -1)] if errors != "strict" else [operation]
        options = {"encoding": encoding, "errors": errors}
        loop.run_until_complete(compare("r", before, program, **options))

    run()


def test_a_position_can_be_told_within_lines_of_a_file_larger_than_the_buffer(
    loop: asyncio.AbstractEventLoop, tmp_path: Path
) -> None:
    """Each told position leads back to the line it was told before."""
    path = tmp_path / "lines"
    lines = [f"{number} é あ\r\n" for number in range(20_000)]
    path.write_bytes("".join(lines).encode())

    async def main() -> None:
        told: dict[int, int] = {}
        async with uringloop.open(path, encoding="utf-8", newline="") as file:
            for number in range(len(lines)):
                if number % 997 == 0:
                    told[number] = await file.tell()
                assert await file.readline() == lines[number]
            for number in sorted(told, key=lambda each: each * 7919 % len(lines)):
                assert await file.seek(told[number]) == told[number]
                assert await file.readline() == lines[number]
        assert told[997] == len("".join(lines[:997]).encode())

    loop.run_until_complete(main())


def test_the_descriptor_shares_its_file_with_the_builtin(
    loop: asyncio.AbstractEventLoop, tmp_path: Path
) -> None:
    """What one has flushed the other reads, also what it read ahead of before."""
    path = tmp_path / "shared"
    path.write_bytes(b"first\n")

    async def main() -> None:
        async with uringloop.open(path, "r+b") as file:
            assert await file.readline() == b"first\n"
            with builtins.open(path, "ab") as other:
                other.write(b"second\n")
            assert await file.readline() == b"second\n"
            await file.write(b"third\n")
            await file.flush()
            assert path.read_bytes() == b"first\nsecond\nthird\n"
            await file.fsync()
            await file.fsync(data_only=True)
            assert os.fstat(file.fileno()).st_size == 19

    loop.run_until_complete(main())
