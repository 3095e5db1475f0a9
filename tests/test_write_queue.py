"""What a send carries: the write queue, without kernel or loop."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uringloop.write_queue import WriteQueue, exact_bytes


def drained(queue: WriteQueue) -> list[object]:
    """All that take() gives, one after the other."""
    sends = []
    while queue.queued_bytes:
        sends.append(queue.take())
    return sends


def test_a_single_piece_is_sent_as_the_object_that_was_written() -> None:
    queue = WriteQueue()
    data = bytes(100_000)
    queue.append(data)
    assert queue.take() is data
    assert queue.queued_bytes == 0


def test_small_pieces_become_one_object() -> None:
    queue = WriteQueue()
    for piece in (b"head", b"er", b"body"):
        queue.append(piece)
    assert queue.take() == b"headerbody"


def test_large_pieces_stay_where_they_are() -> None:
    queue = WriteQueue()
    pieces = [bytes(50_000), bytes(60_000)]
    for piece in pieces:
        queue.append(piece)
    taken = queue.take()
    assert [id(piece) for piece in taken] == [id(piece) for piece in pieces]


def test_a_vector_is_no_longer_than_the_kernel_takes() -> None:
    queue = WriteQueue()
    for _ in range(1500):
        queue.append(bytes(5000))
    assert [len(send) for send in drained(queue)] == [1024, 476]


def test_many_tiny_pieces_are_joined_however_many_bytes_they_are() -> None:
    queue = WriteQueue()
    for _ in range(50_000):
        queue.append(b"12345")
    assert drained(queue) == [b"12345" * 50_000]


def test_a_cleared_queue_is_empty() -> None:
    queue = WriteQueue()
    queue.append(b"data")
    queue.clear()
    assert queue.queued_bytes == 0
    queue.append(b"more")
    assert queue.take() == b"more"


@pytest.mark.parametrize(("size", "single"), [(10, True), (11, False)])
def test_is_single_asks_for_one_piece_up_to_a_size(size: int, single: bool) -> None:
    queue = WriteQueue()
    queue.append(bytes(size))
    assert queue.is_single(10) is single
    queue.append(b"x")
    assert queue.is_single(100) is False


@given(st.lists(st.binary(min_size=1, max_size=20_000), max_size=30))
def test_nothing_is_lost_doubled_or_reordered(pieces: list[bytes]) -> None:
    queue = WriteQueue()
    for piece in pieces:
        queue.append(piece)
    assert queue.queued_bytes == sum(map(len, pieces))
    sent = [send if isinstance(send, bytes) else b"".join(send) for send in drained(queue)]
    assert b"".join(sent) == b"".join(pieces)


def test_exact_bytes_keeps_bytes_and_copies_everything_else() -> None:
    data = b"data"
    assert exact_bytes(data) is data
    mutable = bytearray(b"data")
    copy = exact_bytes(mutable)
    mutable[0] = 0
    assert copy == b"data"
    assert exact_bytes(memoryview(b"abcdef")[::2]) == b"ace"


@pytest.mark.parametrize("wrong", ["text", 1, None, [1]])
def test_exact_bytes_refuses_what_is_not_bytes_like(wrong: object) -> None:
    with pytest.raises(TypeError, match="data argument must be a bytes-like object, not "):
        exact_bytes(wrong)
