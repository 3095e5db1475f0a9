"""What a send carries: the write queue, without kernel or loop."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uringloop.write_queue import WriteQueue, exact_bytes


def as_bytes(send: object) -> bytes:
    return send if isinstance(send, bytes) else b"".join(send)  # type: ignore[call-overload]


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


@pytest.mark.parametrize("sizes", [[30], [10, 20], [3000, 5000], [1, 40_000, 2]])
def test_what_was_not_sent_goes_back_to_the_front(sizes: list[int]) -> None:
    pieces = [bytes([65 + index]) * size for index, size in enumerate(sizes)]
    for sent in {0, 1, sizes[0], sum(sizes) - 1, sum(sizes)}:
        queue = WriteQueue()
        for piece in pieces:
            queue.append(piece)
        taken = queue.take()
        queue.append(b"later")
        queue.put_back(taken, sent)
        assert queue.queued_bytes == sum(sizes) - sent + 5
        rest = b"".join(as_bytes(send) for send in drained(queue))
        assert rest == (b"".join(pieces) + b"later")[sent:]


@given(st.lists(st.binary(min_size=1, max_size=20_000), max_size=30))
def test_nothing_is_lost_doubled_or_reordered(pieces: list[bytes]) -> None:
    queue = WriteQueue()
    for piece in pieces:
        queue.append(piece)
    assert queue.queued_bytes == sum(map(len, pieces))
    assert b"".join(map(as_bytes, drained(queue))) == b"".join(pieces)


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
    with pytest.raises(TypeError, match=r"data argument must be a bytes(-like|, .*) object, not "):
        exact_bytes(wrong)
