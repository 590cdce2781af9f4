"""What a caller put into `propagation` comes back as it was, whatever it was, and so do v1's columns."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cutover.domain.namespace import Scope
from cutover.domain.propagation import KEY, Provenance, Unpacked, pack, unpack

PROVENANCES = st.builds(
    Provenance,
    st.none() | st.uuids(),
    st.none() | st.sampled_from(Scope),
    st.text(max_size=50),
    st.none() | st.datetimes(timezones=st.just(UTC)),
    st.none() | st.datetimes(timezones=st.just(UTC)),
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([KEY, "opaque", "scope", "a"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(PROVENANCES, VALUES)
def test_both_come_back(provenance: Provenance, caller: Any) -> None:
    packed = pack(provenance, caller)
    assert isinstance(packed, dict)
    assert unpack(packed) == Unpacked(caller, provenance)


@pytest.mark.parametrize(
    "stored",
    [None, 5, "text", [], {}, {"a": 1}, {KEY: 1}, {KEY: {}}, {KEY: {"scope": "LOCAL"}, "a": 1}],
)
def test_what_we_did_not_pack_is_wholly_the_callers(stored: Any) -> None:
    assert unpack(stored) == Unpacked(stored, None)


@pytest.mark.parametrize(
    "wrong", [{"workspace_id": "x"}, {"scope": "ALL"}, {"created_at": "yesterday"}, {"updated_at": 5}]
)
def test_our_key_with_values_that_are_not_ours_is_the_callers_too(wrong: dict[str, Any]) -> None:
    good = pack(Provenance(UUID(int=1), Scope.LOCAL, "facts", datetime(2026, 1, 1, tzinfo=UTC), None))
    stored = {KEY: {**good[KEY], **wrong}}
    assert unpack(stored) == Unpacked(stored, None)
