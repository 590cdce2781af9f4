"""The draw of a contract-only sweep: every row counted, the same ids however the ranges are cut, at most so many."""

import hashlib
from itertools import pairwise
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from cutover.engine.contract_digest import Draw
from cutover.stores.contract_side import Share

KEY = b"k" * 32


def drawn(ids: list[UUID], most: int) -> list[UUID]:
    return sorted(ids, key=lambda id_: hashlib.sha256(KEY + id_.bytes).digest())[:most]


@given(
    st.lists(st.tuples(st.sampled_from(["org:a", "team:b"]), st.uuids()), unique_by=lambda pair: pair[1], max_size=60),
    st.integers(1, 12),
    st.lists(st.integers(0, 60), max_size=6),
)
def test_ranges_do_not_matter(rows: list[tuple[str, UUID]], most: int, cuts: list[int]) -> None:
    draw = Draw(KEY, most)
    rows.sort(key=lambda pair: pair[1])
    edges = [0, *sorted(min(cut, len(rows)) for cut in cuts), len(rows)]
    for low, high in pairwise(edges):
        part: dict[str, list[UUID]] = {}
        for name, id_ in rows[low:high]:
            part.setdefault(name, []).append(id_)
        draw.add(Share(name, len(ids), tuple(drawn(ids, most))) for name, ids in part.items())
    assert draw.rows == len(rows)
    for name in ("org:a", "team:b"):
        mine = [id_ for each, id_ in rows if each == name]
        count, ids = draw.of(name)
        assert count == len(mine)
        assert set(ids) == set(drawn(mine, most))
    assert draw.names() == sorted({name for name, _ in rows})
