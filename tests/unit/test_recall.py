"""Recall's decisions: how alike two rankings are, and, apart from that, who may see what."""

from itertools import combinations, permutations
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cutover.domain.namespace import Scope
from cutover.domain.recall import (
    DEPTH,
    OVERLAP_REQUIRED,
    Answers,
    Known,
    Node,
    Read,
    Tally,
    Tree,
    Visibility,
    comparable,
    must_probe,
    overlap_at,
    rank_agreement,
    v1_shows,
    v2_shows,
    verdict,
    visibility,
)
from cutover.domain.requests import ListMemories, SearchMemories

NOTHING: frozenset[UUID] = frozenset()
rankings = st.lists(st.integers(0, 30).map(lambda n: UUID(int=n)), unique=True, max_size=25).map(tuple)


def ids(*numbers: int) -> tuple[UUID, ...]:
    return tuple(UUID(int=number) for number in numbers)


# -- overlap@k


def test_overlap_by_hand() -> None:
    assert overlap_at((), ()) == 1.0
    assert overlap_at(ids(1, 2), ids(2, 1)) == 1.0  # order within the depth is for the rank agreement to say
    assert overlap_at(ids(1, 2, 3, 4), ids(1, 2, 3)) == 0.75
    assert overlap_at(ids(1), ids(2)) == 0.0
    assert overlap_at(ids(1), ()) == 0.0
    assert overlap_at(ids(*range(12)), ids(*range(10), 20, 21)) == 1.0  # behind the depth
    assert overlap_at(ids(*range(12)), ids(*range(9), 10, 9, 11)) == 0.9  # across its edge


@given(rankings, rankings, st.integers(1, 30))
def test_overlap_is_a_share_and_the_same_from_both_sides(
    left: tuple[UUID, ...], right: tuple[UUID, ...], k: int
) -> None:
    assert 0.0 <= overlap_at(left, right, k) <= 1.0
    assert overlap_at(left, right, k) == overlap_at(right, left, k)
    assert overlap_at(left, left, k) == 1.0
    assert (overlap_at(left, right, k) == 1.0) == (frozenset(left[:k]) == frozenset(right[:k]))


# -- rank agreement


def tau_by_pairs(left: tuple[UUID, ...], right: tuple[UUID, ...]) -> float | None:
    common = [each for each in left if each in right]
    pairs = list(combinations(common, 2))
    if not pairs:
        return None
    concordant = sum(right.index(a) < right.index(b) for a, b in pairs)
    return (2 * concordant - len(pairs)) / len(pairs)


def test_rank_agreement_over_every_order_of_four() -> None:
    left = ids(1, 2, 3, 4)
    for right in permutations(left):
        assert rank_agreement(left, right) == pytest.approx(tau_by_pairs(left, right))
    assert rank_agreement(left, left) == 1.0
    assert rank_agreement(left, left[::-1]) == -1.0


@given(rankings, rankings)
def test_rank_agreement_is_tau_of_what_both_rank(left: tuple[UUID, ...], right: tuple[UUID, ...]) -> None:
    expected = tau_by_pairs(left, right)
    measured = rank_agreement(left, right)
    assert (measured is None) == (expected is None)
    if expected is not None:
        assert measured == pytest.approx(expected)
        assert rank_agreement(right, left) == pytest.approx(expected)


# -- what is compared


def test_what_is_left_out_is_left_out_of_both_sides() -> None:
    answers = Answers(ids(1, 2, 3), ids(3, 9, 1), 50)
    assert comparable(answers, frozenset(ids(2, 9))) == (ids(1, 3), ids(3, 1))
    assert answers.only_one_side == set(ids(2, 9))


def test_a_full_page_of_legacy_hides_what_would_have_come_next() -> None:
    # 1 is missing in the plugin, so 4 takes its place there: 1 counts, 4 does not.
    assert comparable(Answers(ids(1, 2, 3), ids(2, 3, 4), 3), NOTHING) == (ids(1, 2, 3), ids(2, 3))
    # The same ids where legacy's page was not full: 4 is one too many.
    assert comparable(Answers(ids(1, 2, 3), ids(2, 3, 4), 50), NOTHING) == (ids(1, 2, 3), ids(2, 3, 4))


def test_a_row_that_came_meanwhile_pushes_one_off_the_end_of_the_page() -> None:
    # 9 was created between the two reads: 3 dropped off the plugin's page, and nothing is wrong.
    assert comparable(Answers(ids(1, 2, 3), ids(9, 1, 2), 3), frozenset(ids(9))) == (ids(1, 2), ids(1, 2))
    # It explains one row at the end, not one in the middle, nor two.
    assert comparable(Answers(ids(1, 2, 3), ids(9, 2, 3), 3), frozenset(ids(9)))[0] == ids(1, 2, 3)
    assert comparable(Answers(ids(1, 2, 3), ids(9, 1, 8), 3), frozenset(ids(9)))[0] == ids(1, 2)
    # A page that is not full pushes nothing off.
    assert comparable(Answers(ids(1, 2, 3), ids(9, 1, 2), 50), frozenset(ids(9)))[0] == ids(1, 2, 3)


def test_a_partial_answer_is_not_blamed_for_what_the_cap_hid() -> None:
    assert comparable(Answers(ids(1, 2, 3), ids(1, 3), 50, partial=True), NOTHING) == (ids(1, 3), ids(1, 3))


@given(rankings, rankings, st.integers(1, 25), st.booleans(), st.frozensets(st.sampled_from(ids(*range(31)))))
def test_comparing_only_ever_takes_away(
    left: tuple[UUID, ...], right: tuple[UUID, ...], limit: int, partial: bool, left_out: frozenset[UUID]
) -> None:
    answers = Answers(left[:limit], right[:limit], limit, partial)
    first, second = comparable(answers, left_out)
    assert [id_ for id_ in answers.legacy if id_ in first] == list(first)
    assert [id_ for id_ in answers.plugin if id_ in second] == list(second)
    assert not (left_out & {*first, *second})


@given(rankings, st.integers(1, 25), st.data())
def test_equal_stores_never_differ_whatever_is_created_in_between(
    ranking: tuple[UUID, ...], limit: int, data: st.DataObject
) -> None:
    """The plugin is read after more memories came, anywhere in the order, whether or not the pages are cut."""
    fresh = ids(*range(100, 100 + data.draw(st.integers(0, 5))))
    later = list(ranking)
    for each in fresh:
        later.insert(data.draw(st.integers(0, len(later))), each)
    left, right = comparable(Answers(ranking[:limit], tuple(later[:limit]), limit), frozenset(fresh))
    assert left == right


# -- who may see what

ROOT, CHILD, SIBLING, GONE, DEEP, OTHER, OTHERS_CHILD, LOOP_A, LOOP_B, UNKNOWN = (UUID(int=n) for n in range(1, 11))
TREE = Tree(
    {
        ROOT: Node(None),
        CHILD: Node(ROOT),
        SIBLING: Node(ROOT),
        GONE: Node(ROOT, removed=True),
        DEEP: Node(CHILD),
        OTHER: Node(None),
        OTHERS_CHILD: Node(OTHER),
        LOOP_A: Node(LOOP_B),
        LOOP_B: Node(LOOP_A),
    }
)
PEOPLE = (ROOT, CHILD, SIBLING, GONE, DEEP, OTHER, OTHERS_CHILD, LOOP_A, LOOP_B)


def test_places() -> None:
    assert TREE.place(Known(CHILD, Scope.LOCAL)) == f"workspace:{CHILD}"
    assert TREE.place(Known(CHILD, Scope.TEAM)) == f"team:{ROOT}"
    assert TREE.place(Known(ROOT, Scope.TEAM)) == f"team:{ROOT}"
    assert TREE.place(Known(DEEP, Scope.TEAM)) == f"team:{CHILD}"
    assert TREE.place(Known(DEEP, Scope.GLOBAL)) == f"org:{ROOT}"
    assert TREE.place(Known(None, None, "custom:x")) == "custom:x"
    assert TREE.place(Known(None, Scope.LOCAL)) is None
    assert TREE.place(Known(UNKNOWN, Scope.TEAM)) is None
    assert TREE.root(LOOP_A) == LOOP_B  # the last one before the chain closes
    assert TREE.readable(ROOT) == (f"workspace:{ROOT}", f"team:{ROOT}", f"org:{ROOT}")
    assert TREE.readable(DEEP) == (f"workspace:{DEEP}", f"team:{CHILD}", f"org:{ROOT}")


def test_a_chain_is_followed_for_fifty_hops() -> None:
    chain = [UUID(int=1000 + n) for n in range(60)]
    tree = Tree({each: Node(above) for each, above in zip(chain, (*chain[1:], None), strict=True)})
    assert tree.root(chain[0]) == chain[50]
    assert tree.root(chain[20]) == chain[59]


@pytest.mark.parametrize("owner", PEOPLE)
@pytest.mark.parametrize("reader", PEOPLE)
def test_who_sees_whose_rows(reader: UUID, owner: UUID) -> None:
    """Domain §2 and §3 written down a second time, as sets."""
    local, team, everybody = (Known(owner, scope) for scope in Scope)
    own = reader == owner
    assert v1_shows(ListMemories(reader), local, TREE) == own
    assert v1_shows(ListMemories(reader), team, TREE) == own
    assert v1_shows(ListMemories(reader, Scope.LOCAL), local, TREE) == own
    assert not v1_shows(ListMemories(reader, Scope.LOCAL), team, TREE)
    teams = {
        ROOT: {ROOT, CHILD, SIBLING}, CHILD: {ROOT, CHILD, SIBLING}, SIBLING: {ROOT, CHILD, SIBLING},
        GONE: {ROOT, CHILD, SIBLING}, DEEP: {CHILD, DEEP}, OTHER: {OTHER, OTHERS_CHILD},
        OTHERS_CHILD: {OTHER, OTHERS_CHILD}, LOOP_A: {LOOP_B, LOOP_A}, LOOP_B: {LOOP_A, LOOP_B},
    }  # fmt: skip
    assert v1_shows(ListMemories(reader, Scope.TEAM), team, TREE) == (owner in teams[reader])
    assert v2_shows(ListMemories(reader, Scope.TEAM), team, TREE) == (owner in teams[reader])
    assert v1_shows(ListMemories(reader, Scope.GLOBAL), everybody, TREE)
    roots = {ROOT: 1, CHILD: 1, SIBLING: 1, GONE: 1, DEEP: 1, OTHER: 2, OTHERS_CHILD: 2, LOOP_A: 3, LOOP_B: 4}
    assert v2_shows(ListMemories(reader, Scope.GLOBAL), everybody, TREE) == (roots[reader] == roots[owner])
    assert v2_shows(ListMemories(reader), everybody, TREE) == own


def test_the_contract_shows_what_lies_in_the_namespaces_asked_for() -> None:
    search = SearchMemories((f"workspace:{CHILD}", f"team:{ROOT}"))
    assert v2_shows(search, Known(CHILD, Scope.LOCAL), TREE)
    assert v2_shows(search, Known(SIBLING, Scope.TEAM), TREE)
    assert v2_shows(search, Known(None, None, f"team:{ROOT}"), TREE)
    assert not v2_shows(search, Known(SIBLING, Scope.LOCAL), TREE)
    assert not v2_shows(search, Known(CHILD, Scope.GLOBAL), TREE)
    assert not v2_shows(search, Known(None, Scope.GLOBAL), TREE)
    assert not v1_shows(ListMemories(CHILD), Known(None, None, f"workspace:{CHILD}"), TREE)  # a native is no v1 row
    assert not v2_shows(ListMemories(UNKNOWN, Scope.GLOBAL), Known(ROOT, Scope.GLOBAL), TREE)


def seen(read: Read, legacy: tuple[UUID, ...], plugin: tuple[UUID, ...], known: dict[UUID, Known]) -> Visibility:
    return visibility(read, Answers(legacy, plugin, 50), known, TREE)


def test_differences_by_direction() -> None:
    mine, moved, lost, foreign, nobodys, dead, orphan = ids(*range(20, 27))
    known = {
        mine: Known(CHILD, Scope.LOCAL),
        moved: Known(SIBLING, Scope.LOCAL),
        lost: Known(CHILD, Scope.LOCAL),
        foreign: Known(OTHER, Scope.GLOBAL),
        nobodys: Known(None, Scope.GLOBAL),
    }
    local = ListMemories(CHILD, Scope.LOCAL)
    assert seen(local, (mine, lost), (mine, moved), known) == Visibility(frozenset([moved]), frozenset([lost]))
    # Deleted, or never there: nobody may be shown it.
    assert seen(local, (mine,), (mine, dead), known).more == {dead}
    # Not in the row's table any more when it was judged: it says nothing about the plugin.
    assert seen(local, (mine, orphan), (mine,), known) == Visibility()
    everybody = ListMemories(CHILD, Scope.GLOBAL)
    assert seen(everybody, (foreign, nobodys), (), known) == Visibility(expected=frozenset([foreign, nobodys]))
    # The intended change is one-way: shown by the plugin, another root's row is a leak.
    assert seen(everybody, (), (foreign,), known).more == {foreign}
    # What matched on one side only, and may be seen, is a matter of recall.
    assert seen(local, (), (mine,), known) == Visibility()


@given(
    st.sampled_from(PEOPLE), st.sampled_from((None, *Scope)), st.lists(st.sampled_from(PEOPLE), max_size=8), st.data()
)
def test_equal_answers_differ_in_nothing_and_no_id_is_counted_twice(
    reader: UUID, scope: Scope | None, owners: list[UUID], data: st.DataObject
) -> None:
    known = {UUID(int=50 + n): Known(owner, data.draw(st.sampled_from(Scope))) for n, owner in enumerate(owners)}
    read = ListMemories(reader, scope)
    everything = tuple(known)
    assert seen(read, everything, everything, known) == Visibility()
    legacy = tuple(id_ for id_ in everything if data.draw(st.booleans()))
    plugin = tuple(id_ for id_ in everything if data.draw(st.booleans()))
    found = seen(read, legacy, plugin, known)
    assert len(found.more) + len(found.less) + len(found.expected) == len(found.more | found.less | found.expected)
    assert found.more <= set(plugin) - set(legacy)
    assert found.less | found.expected <= set(legacy) - set(plugin)
    assert all(v1_shows(read, known[id_], TREE) for id_ in found.less | found.expected)


def test_what_must_be_asked_for_directly() -> None:
    answers = Answers(ids(1, 2), ids(1), 50)
    assert not must_probe(ListMemories(ROOT), answers)
    assert must_probe(ListMemories(ROOT, query="tea"), answers)
    assert must_probe(SearchMemories(("workspace:x",), embedding=(1.0,)), answers)
    assert must_probe(ListMemories(ROOT), Answers(ids(1, 2), ids(1), 50, partial=True))
    assert must_probe(ListMemories(ROOT), Answers(ids(1, 2), ids(1), 1))


# -- the verdict

GOOD = {
    "planned": 9,
    "compared": 9,
    "failed": 0,
    "empty": 1,
    "live": 4,
    "left_out": 0,
    "overlap": 1.0,
    "more": 0,
    "less": 0,
}


@pytest.mark.parametrize(
    ("change", "outcome"),
    [
        ({}, "clean"),
        ({"overlap": OVERLAP_REQUIRED}, "clean"),
        ({"overlap": OVERLAP_REQUIRED - 1e-6}, "divergent"),
        ({"more": 1}, "divergent"),
        ({"less": 1, "compared": 1, "failed": 8}, "divergent"),  # a leak is one however little was compared
        ({"compared": 8, "failed": 1}, "partial"),
        ({"compared": 0, "failed": 9, "overlap": None}, "failed"),
        ({"compared": 0, "overlap": None}, "partial"),
        ({"overlap": None}, "partial"),
        ({"live": 0}, "partial"),
    ],
)
def test_outcomes(change: dict[str, object], outcome: str) -> None:
    found, why = verdict(Tally(**{**GOOD, **change}))  # type: ignore[arg-type]
    assert found == outcome
    assert bool(why) == (outcome != "clean")


def test_ten_places_are_compared() -> None:
    assert DEPTH == 10
