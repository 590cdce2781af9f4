"""What of a K/V row travels beside its content (decision 0014)."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cutover.domain.kv import MAX_DEPTH, carried

HEAD = {"key": "k", "version": 3}
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=5)
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@given(VALUES)
def test_a_value_that_every_reader_keeps_is_carried(value: Any) -> None:
    assert carried(HEAD, json.dumps(value)) == {**HEAD, "value": value}


@pytest.mark.parametrize(
    "text",
    [
        "9007199254740993",
        "-9007199254740993",
        "1" * 5000,
        '{"deep": [0.1234567890123456789012345]}',
        "1e999",
        "1.5e308999",
        "[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1),
        "[" * 100_000 + "]" * 100_000,
    ],
)
def test_one_that_would_be_changed_on_the_way_is_left_out(text: str) -> None:
    assert carried(HEAD, text) == HEAD


def test_nothing_is_a_value_too() -> None:
    assert carried(HEAD, "null") == {**HEAD, "value": None}
    assert carried(HEAD, '""') == {**HEAD, "value": ""}
    assert carried(HEAD, "[" * MAX_DEPTH + "]" * MAX_DEPTH)["value"] is not None
