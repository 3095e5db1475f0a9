"""The table from token to operation."""

from __future__ import annotations

import random
import weakref

import pytest

from uringloop.driver.in_flight import InFlight, Operation


def test_an_operation_is_found_by_its_token_until_it_is_released() -> None:
    table = InFlight()
    operation = Operation()
    token = table.add(operation)
    assert table.find(token) is operation
    assert len(table) == 1
    table.release(token)
    assert table.find(token) is None
    assert len(table) == 0


def test_a_slot_that_is_used_again_has_another_token() -> None:
    table = InFlight()
    tokens = set()
    for _ in range(1000):
        token = table.add(Operation())
        tokens.add(token)
        table.release(token)
    assert len(tokens) == 1000
    assert {token & 0xFFFFFFFF for token in tokens} == {0}


def test_tokens_are_never_zero_and_leave_the_top_byte_to_the_engine() -> None:
    table = InFlight()
    for _ in range(100):
        token = table.add(Operation())
        assert 0 < token < 1 << 56


def test_the_table_keeps_an_operation_alive_and_lets_it_go() -> None:
    table = InFlight()
    operation = Operation()
    gone = weakref.ref(operation)
    token = table.add(operation)
    del operation
    assert gone() is not None
    table.release(token)
    assert gone() is None


def test_the_table_agrees_with_a_dictionary() -> None:
    """Random adds and releases; every token answers as the dictionary does."""
    choice = random.Random(1)
    table = InFlight()
    expected: dict[int, Operation] = {}
    for _ in range(5000):
        if expected and choice.random() < 0.5:
            token = choice.choice(list(expected))
            del expected[token]
            table.release(token)
        else:
            operation = Operation()
            token = table.add(operation)
            assert token not in expected
            expected[token] = operation
        assert len(table) == len(expected)
    assert all(table.find(token) is operation for token, operation in expected.items())
    assert set(map(id, table.operations())) == set(map(id, expected.values()))


def test_forgetting_all_gives_every_token_back() -> None:
    table = InFlight()
    old = [table.add(Operation()) for _ in range(10)]
    table.forget_all()
    assert len(table) == 0
    assert table.operations() == []
    assert not set(old) & {table.add(Operation()) for _ in range(10)}


def test_an_operation_has_to_say_what_completes_it() -> None:
    with pytest.raises((NotImplementedError, TypeError)):
        Operation().completed(None, 0, 0, False)
